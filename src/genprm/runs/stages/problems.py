"""The root of every run: its problems, kept beside what is made of them."""

from __future__ import annotations

from dataclasses import dataclass

from genprm.identity import Decides
from genprm.records import Dropped, Problem, StageOutput
from genprm.runs.resources import Resources
from genprm.runs.stage import Shard


@dataclass(frozen=True)
class ProblemsStage:
    """Stores the problems as rows, so that a run directory can be read without its source.

    Those that are left out before anything is sampled (`Problem.left_out`) are dropped here; no later stage sees them.
    """

    name: str = "problems"
    needs: tuple[str, ...] = ()
    row_type: type[Problem] = Problem

    def decides(self) -> Decides:
        """Nothing but the problems themselves."""
        return Decides()

    async def run(self, shard: Shard, resources: Resources) -> StageOutput[Problem]:
        """See `Stage`."""
        return StageOutput(
            tuple(problem for problem in shard.problems if problem.left_out is None),
            tuple(
                Dropped(item_id=one.id, problem_id=one.id, stage=self.name, reason=reason, detail=detail)
                for one in shard.problems
                if one.left_out is not None
                for reason, detail in (one.left_out,)
            ),
        )
