"""The root of every run: its problems, kept beside what is made of them."""

from __future__ import annotations

from dataclasses import dataclass

from genprm.identity import Decides
from genprm.records import Problem, StageOutput
from genprm.runs.resources import Resources
from genprm.runs.stage import Shard


@dataclass(frozen=True)
class ProblemsStage:
    """Stores the problems as rows, so that a run directory can be read without its source."""

    name: str = "problems"
    needs: tuple[str, ...] = ()
    row_type: type[Problem] = Problem

    def decides(self) -> Decides:
        """Nothing but the problems themselves."""
        return Decides()

    async def run(self, shard: Shard, resources: Resources) -> StageOutput[Problem]:
        """See `Stage`."""
        return StageOutput(shard.problems)
