"""Stages of evaluation and test-time scaling: samples, verifications, refinement, Best-of-N (method, parts 5 and 6)."""

from __future__ import annotations

from dataclasses import dataclass, field

from genprm.config import EngineConfig, RefineConfig, SandboxConfig, SolutionsConfig, VerifyConfig
from genprm.engines import engine_identity
from genprm.generate.policy import unsettling
from genprm.identity import Decides, content_key
from genprm.records import (
    Dropped,
    Lost,
    Problem,
    RefinementTrace,
    Selection,
    Solution,
    StageOutput,
    Usage,
    Verification,
    VerifyItem,
)
from genprm.rewards import judge_all, lost_entirely
from genprm.rewards.table import is_reward, judge_identity
from genprm.runs.resources import Resources
from genprm.runs.stage import Shard, sandbox_facts, without_profile
from genprm.search.refinement import fault_of, refine_with_critic, self_refine
from genprm.search.selection import choose
from genprm.synth.solutions import sample_solutions
from genprm.text.counts import counted
from genprm.text.prompts import PolicyProfile, RefineProfile, VerifierProfile, load_profile


@dataclass(frozen=True)
class GivenSolutionsStage:
    """Solutions that came with their problems, as in ProcessBench: `metadata["steps"]` of each problem."""

    name: str = "solutions"
    needs: tuple[str, ...] = ()
    row_type: type[Solution] = Solution
    domain: str = "math"

    def decides(self) -> Decides:
        """See `Stage`: nothing but the problems."""
        return Decides(domain=self.domain)

    async def run(self, shard: Shard, resources: Resources) -> StageOutput[Solution]:
        """See `Stage`."""
        domain = await resources.domain()
        rows = []
        for problem in shard.problems:
            steps = tuple(problem.metadata["steps"])
            found = domain.extract("\n\n".join(steps))
            rows.append(
                Solution(
                    id=problem.id,
                    problem_id=problem.id,
                    steps=steps,
                    answer=found.answer,
                    answer_how=found.how,
                )
            )
        return StageOutput(tuple(rows))


@dataclass(frozen=True)
class SampleStage:
    """Exactly `n` samples of a policy for every problem; unusable ones are kept, marked `invalid`."""

    options: SolutionsConfig
    engine: EngineConfig
    n: int
    seed: int
    domain: str = "math"
    name: str = "solutions"
    needs: tuple[str, ...] = ()
    row_type: type[Solution] = Solution

    def decides(self) -> Decides:
        """See `Stage`: of the options only what decides single samples."""
        decisive = {"sampling", "max_tokens", "min_steps"}
        return Decides(
            options=self.options.model_dump(mode="json", include=decisive),
            profiles=load_profile(self.options.profile, PolicyProfile),
            engine=engine_identity(self.engine),
            seed=self.seed,
            domain=self.domain,
            more=self.n,
        )

    async def run(self, shard: Shard, resources: Resources) -> StageOutput[Solution]:
        """See `Stage`."""
        return await sample_solutions(
            shard.problems,
            await resources.engine(self.engine, ("solutions.max_tokens", self.options.max_tokens)),
            await resources.domain(),
            self.n,
            self.options,
            seed=self.seed,
            concurrency=resources.config.concurrency,
        )


@dataclass(frozen=True)
class VerifyStage:
    """Verifications of all solutions. Equal solutions of one problem are verified once and share the verdict.

    Attributes:
        solutions: the stage that has them.
    """

    options: VerifyConfig
    engine: EngineConfig
    sandbox: SandboxConfig
    seed: int
    domain: str = "math"
    solutions: str = "solutions"
    name: str = "verifications"
    row_type: type[Verification] = Verification

    @property
    def needs(self) -> tuple[str, ...]:
        """See `Stage`."""
        return (self.solutions,)

    def decides(self) -> Decides:
        """See `Stage`."""
        return verifier_decides(self.options, self.engine, self.sandbox, self.seed, self.domain)

    async def run(self, shard: Shard, resources: Resources) -> StageOutput[Verification]:
        """See `Stage`."""
        verifier = await resources.verifier(self.engine, self.options, self.seed)
        pairs = [
            (problem, row) for problem, rows in shard.by_problem(self.solutions, Solution) for row in rows
        ]
        unique = {_pair_key(problem, row): (problem, row) for problem, row in pairs}
        items = [
            VerifyItem(id=key, problem=problem.text, steps=row.steps, problem_id=problem.id)
            for key, (problem, row) in unique.items()
        ]
        found = {row.item_id: row for row in await judge_all(verifier, items)}
        rows: dict[str, list[Verification]] = {}
        paid: set[str] = set()
        for problem, solution in pairs:
            key = _pair_key(problem, solution)
            changes = {"item_id": solution.id} | ({"usage": Usage(), "seconds": 0.0} if key in paid else {})
            rows.setdefault(problem.id, []).append(found[key].model_copy(update=changes))
            paid.add(key)
        lost = {problem: fault for problem, several in rows.items() if (fault := _lost(problem, several))}
        return StageOutput(
            tuple(row for problem, several in rows.items() if problem not in lost for row in several),
            lost=tuple(lost.values()),
        )


@dataclass(frozen=True)
class RefineStage:
    """Refinement turns from the given solutions, with a verifier as critic or by the policy alone.

    Attributes:
        verifier: the critic's engine; None for self-refinement.
        verify: the critic's options; it stops at the first error.
    """

    options: RefineConfig
    policy: EngineConfig
    policy_profile: str
    sandbox: SandboxConfig
    seed: int
    verifier: EngineConfig | None = None
    verify: VerifyConfig = field(default_factory=VerifyConfig)
    domain: str = "math"
    solutions: str = "solutions"
    name: str = "refinements"
    row_type: type[RefinementTrace] = RefinementTrace

    @property
    def needs(self) -> tuple[str, ...]:
        """See `Stage`."""
        return (self.solutions,)

    def decides(self) -> Decides:
        """See `Stage`."""
        critic = None
        if self.verifier is not None:
            critic = verifier_decides(
                self._critic_options(), self.verifier, self.sandbox, self.seed, self.domain
            ).digest()
        return Decides(
            options=without_profile(self.options),
            profiles=[
                load_profile(self.policy_profile, PolicyProfile),
                load_profile(self.options.profile, RefineProfile),
            ],
            engine=engine_identity(self.policy),
            seed=self.seed,
            domain=self.domain,
            more=critic,
        )

    async def run(self, shard: Shard, resources: Resources) -> StageOutput[RefinementTrace]:
        """See `Stage`."""
        items = [
            (problem, row) for problem, rows in shard.by_problem(self.solutions, Solution) for row in rows
        ]
        policy = await resources.engine(self.policy, ("refine.max_tokens", self.options.max_tokens))
        domain = await resources.domain()
        profile = load_profile(self.policy_profile, PolicyProfile)
        bound = resources.config.concurrency
        if self.verifier is None:
            traces = await self_refine(
                items, policy, domain, self.options, seed=self.seed, profile=profile, concurrency=bound
            )
            return _settled_traces(traces)
        critic = await resources.verifier(self.verifier, self._critic_options(), self.seed)
        traces = await refine_with_critic(
            items, policy, critic, domain, self.options, seed=self.seed, profile=profile, concurrency=bound
        )
        return _settled_traces(traces)

    def _critic_options(self) -> VerifyConfig:
        return self.verify.model_copy(update={"stop_at_first_error": True})


@dataclass(frozen=True)
class BestOfNStage:
    """What each selection rule chooses among all solutions of a problem, which may have none.

    A problem whose solutions were not all verified is dropped (`unverified`).
    """

    solutions: str = "solutions"
    verifications: str = "verifications"
    domain: str = "math"
    name: str = "best-of-n"
    row_type: type[Selection] = Selection

    @property
    def needs(self) -> tuple[str, ...]:
        """See `Stage`."""
        return (self.solutions, self.verifications)

    def decides(self) -> Decides:
        """See `Stage`: nothing but what it is given."""
        return Decides(domain=self.domain)

    async def run(self, shard: Shard, resources: Resources) -> StageOutput[Selection]:
        """See `Stage`."""
        domain = await resources.domain()
        scores = {row.item_id: row.score for row in shard.of(self.verifications, Verification)}
        pools = {problem.id: rows for problem, rows in shard.by_problem(self.solutions, Solution)}
        chosen, dropped = [], []
        for problem in shard.problems:
            rows = pools.get(problem.id, ())
            missing = sum(row.id not in scores for row in rows)
            if missing:
                detail = f"{missing} of {counted(len(rows), 'solution')} have no verification"
                dropped.append(
                    Dropped(
                        item_id=problem.id,
                        problem_id=problem.id,
                        stage=self.name,
                        reason="unverified",
                        detail=detail,
                    )
                )
                continue
            classes = await domain.vote_classes([row.answer for row in rows])
            chosen.append(choose(problem.id, rows, [scores[row.id] for row in rows], classes))
        return StageOutput(tuple(chosen), tuple(dropped))


def verifier_decides(
    options: VerifyConfig, engine: EngineConfig, sandbox: SandboxConfig, seed: int, domain: str
) -> Decides:
    """What decides a verification, wherever one is made. A reward that writes nothing draws nothing, either."""
    if is_reward(engine):
        return Decides(
            options={"threshold": options.threshold}, engine=judge_identity(engine), domain=domain
        )
    executes = "execution" in options.components
    return Decides(
        options=without_profile(options),
        profiles=load_profile(options.profile, VerifierProfile),
        engine=engine_identity(engine),
        sandbox=sandbox_facts(sandbox) if executes else None,
        seed=seed,
        domain=domain,
    )


def _settled_traces(traces: list[RefinementTrace]) -> StageOutput[RefinementTrace]:
    """The traces; lost are problems of which one met a fault that may pass, or came to nothing by one that will not."""
    lost: dict[str, Lost] = {}
    for trace in traces:
        fault = fault_of(trace)
        if fault is not None and (fault[2] or not any(turn.changed for turn in trace.turns)):
            before = lost.get(trace.problem_id)
            lost[trace.problem_id] = Lost(
                problem_id=trace.problem_id,
                reason=fault[0],
                detail=fault[1],
                retryable=fault[2] or (before is not None and before.retryable),
                usage=trace.usage + (before.usage if before is not None else Usage()),
            )
    return StageOutput(
        tuple(trace for trace in traces if trace.problem_id not in lost), lost=tuple(lost.values())
    )


def _pair_key(problem: Problem, solution: Solution) -> str:
    """Equal for equal solutions of one problem, whatever sample they are."""
    return content_key(problem.id, solution.steps)


def _lost(problem_id: str, rows: list[Verification]) -> Lost | None:
    """The record of a problem whose verification is to be tried again, if a fault keeps it from being settled."""
    found = [lost_entirely(row) for row in rows]
    return unsettling(
        [
            None
            if fault is None
            else Lost(
                problem_id=problem_id,
                reason=fault[0],
                detail=fault[1],
                retryable=fault[2],
                usage=sum((row.usage for row in rows), Usage()),
            )
            for fault in found
        ]
    )
