"""What the quickstart measures: localisation, Best-of-N and refinement, each as resumable stages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from pydantic import BaseModel

from genprm.config import Components, EngineConfig, RefineConfig, VerifyConfig
from genprm.records import Problem, RefinementTrace, Solution, StageOutput, Verification
from genprm.rewards import Verifier, VerifyItem, raise_if_all_failed
from genprm.runs import Pipeline, Stage, run_stage
from genprm.runs.identity import engine_identity
from genprm.search.refinement import refine_with_critic, self_refine
from genprm.store import content_key
from genprm.synth.solutions import sample_solutions
from genprm.worlds.arithmetic import generate_problems
from genprm.worlds.arithmetic.quickstart.settings import EvaluationConfig

Pair = tuple[Problem, Solution]
RowT = TypeVar("RowT", bound=BaseModel)


class Evaluation:
    """The evaluation side of a quickstart run."""

    def __init__(self, pipeline: Pipeline, options: EvaluationConfig) -> None:
        self.pipeline = pipeline
        self.options = options

    def problems(self, count: int, purpose: str) -> list[Problem]:
        """Evaluation problems; each purpose has its own, so that no figure leans on another's."""
        seed = self.options.seed + int(content_key(purpose)[:6], 16)
        return generate_problems(split="eval", count=count, seed=seed)

    async def samples(self, problems: Sequence[Problem], n: int, purpose: str) -> list[Solution]:
        """`n` samples of the policy for every problem, in order; unusable ones are kept, marked `invalid`."""
        config = self.pipeline.config
        role = config.roles.policy

        async def run(items: Sequence[Problem]) -> StageOutput[Solution]:
            return await sample_solutions(
                items,
                await self.pipeline.resources.engine(role),
                await self.pipeline.resources.domain(),
                n,
                config.solutions,
                seed=self.options.seed,
                concurrency=config.concurrency,
            )

        decided_by = [config.solutions, engine_identity(role), n, self.options.seed]
        return await self._run(Stage(f"{purpose}-solutions", Solution, decided_by, run), problems)

    async def verifications(
        self,
        name: str,
        pairs: Sequence[Pair],
        verifier: EngineConfig,
        *,
        votes: int,
        components: Components,
        localise: bool = False,
    ) -> list[Verification]:
        """Verify solutions. Equal solutions of one problem are verified once and share the verdict.

        Args:
            localise: stop where all paths, together and each alone, have found their first error.
        """
        options = self._verify_options(votes, components, stop=localise, each=localise)

        async def run(items: Sequence[Pair]) -> StageOutput[Verification]:
            checker = await self._verifier(verifier, options)
            rows = await checker.verify_many(
                [VerifyItem(id=_pair_key((p, s)), problem=p.text, steps=s.steps) for p, s in items]
            )
            raise_if_all_failed(rows)
            return StageOutput(tuple(rows))

        unique = {_pair_key(pair): pair for pair in pairs}
        stage = Stage(name, Verification, [options, engine_identity(verifier), self.options.seed], run)
        rows = {row.item_id: row for row in await self._run(stage, list(unique.values()))}
        return [rows[_pair_key(pair)] for pair in pairs]

    async def refinements(
        self, pairs: Sequence[Pair], verifier: EngineConfig | None, name: str
    ) -> list[RefinementTrace]:
        """Refinement turns from the given first solutions; self-refinement where there is no verifier."""
        config = self.pipeline.config
        refine: RefineConfig = self.options.refine
        options = self._verify_options(self.options.refinement_votes, "cot+code+execution", stop=True)

        async def run(items: Sequence[Pair]) -> StageOutput[RefinementTrace]:
            policy = await self.pipeline.resources.engine(config.roles.policy)
            domain = await self.pipeline.resources.domain()
            means: dict[str, Any] = {
                "seed": self.options.seed,
                "concurrency": config.concurrency,
            }
            if verifier is None:
                rows = await self_refine(items, policy, domain, refine, **means)
            else:
                critic = await self._verifier(verifier, options)
                rows = await refine_with_critic(items, policy, critic, domain, refine, **means)
            return StageOutput(tuple(rows))

        identity = None if verifier is None else engine_identity(verifier)
        decided_by = [refine, options, identity, engine_identity(config.roles.policy), self.options.seed]
        return await self._run(Stage(name, RefinementTrace, decided_by, run), pairs)

    def _verify_options(
        self, votes: int, components: Components, *, stop: bool, each: bool = False
    ) -> VerifyConfig:
        update = {
            "votes": votes,
            "components": components,
            "stop_at_first_error": stop,
            "every_path_to_its_error": each,
        }
        return self.options.verify.model_copy(update=update)

    async def _verifier(self, engine: EngineConfig, options: VerifyConfig) -> Verifier:
        resources = self.pipeline.resources
        return Verifier(
            await resources.engine(engine),
            await resources.sandbox(),
            options,
            seed=self.options.seed,
            concurrency=self.pipeline.config.concurrency,
        )

    async def _run(self, stage: Stage[Any, RowT], items: Sequence[Any]) -> list[RowT]:
        return await run_stage(
            self.pipeline.store,
            stage,
            items,
            shard_size=self.pipeline.config.store.shard_size,
            progress=self.pipeline.progress,
        )


def _pair_key(pair: Pair) -> str:
    """Equal for equal solutions of one problem, whatever sample they are."""
    problem, solution = pair
    return content_key(problem.id, solution.steps)
