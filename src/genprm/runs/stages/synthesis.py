"""Stages of data synthesis: solutions, scores, labels, rationales, consensus, chats (method, parts 1 to 4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from genprm.config import (
    ChatsConfig,
    EngineConfig,
    LabelConfig,
    MonteCarloConfig,
    RationaleConfig,
    SandboxConfig,
    SolutionsConfig,
)
from genprm.engines import engine_identity
from genprm.identity import Decides, content_key
from genprm.labels import label_solution
from genprm.records import (
    Consensus,
    Dropped,
    Rationale,
    Solution,
    SolutionLabels,
    SolutionScores,
    StageOutput,
    StepLabel,
    TrainingSample,
)
from genprm.runs.resources import Resources
from genprm.runs.stage import Shard, sandbox_facts, without_profile
from genprm.synth.consensus import filter_by_consensus
from genprm.synth.montecarlo import estimate
from genprm.synth.rationales import write_rationales
from genprm.synth.solutions import generate_solutions
from genprm.text.prompts import PolicyProfile, TeacherProfile, VerifierProfile, load_profile
from genprm.training.chat_data import build_samples


@dataclass(frozen=True)
class SolutionsStage:
    """Solutions with step forcing, balanced between right and wrong ones (part 1)."""

    options: SolutionsConfig
    engine: EngineConfig
    seed: int
    domain: str = "math"
    name: str = "solutions"
    needs: tuple[str, ...] = ()
    row_type: type[Solution] = Solution

    def decides(self) -> Decides:
        """See `Stage`."""
        return Decides(
            options=without_profile(self.options),
            profiles=load_profile(self.options.profile, PolicyProfile),
            engine=engine_identity(self.engine),
            seed=self.seed,
            domain=self.domain,
        )

    async def run(self, shard: Shard, resources: Resources) -> StageOutput[Solution]:
        """See `Stage`."""
        return await generate_solutions(
            shard.problems,
            await resources.engine(self.engine, ("solutions.max_tokens", self.options.max_tokens)),
            await resources.domain(),
            self.options,
            seed=self.seed,
            concurrency=resources.config.concurrency,
        )


@dataclass(frozen=True)
class MonteCarloStage:
    """Monte-Carlo estimates for every step (part 1).

    Attributes:
        profile: the completer's prompt profile, in place of `options.profile`.
        rule: the label rule, which decides what the estimators `sequential` and `binary` sample; the default one
            unless given.
    """

    options: MonteCarloConfig
    engine: EngineConfig
    seed: int
    profile: str = "policy"
    domain: str = "math"
    rule: LabelConfig | None = None
    name: str = "montecarlo"
    needs: tuple[str, ...] = ("solutions",)
    row_type: type[SolutionScores] = SolutionScores

    def decides(self) -> Decides:
        """See `Stage`: of the options those that the estimator reads."""
        options = without_profile(self.options)
        if self.options.estimator == "fixed":
            unread = {"k_hard", "k_medium", "k_easy", "hard_below", "easy_from"}
            options = {key: value for key, value in options.items() if key not in unread}
        if self.options.rule_decides:
            options["rule"] = (self.rule or LabelConfig()).deciding()
        else:
            del options["batch"], options["confidence"]
        return Decides(
            options=options,
            profiles=self._profile(),
            engine=engine_identity(self.engine),
            seed=self.seed,
            domain=self.domain,
        )

    async def run(self, shard: Shard, resources: Resources) -> StageOutput[SolutionScores]:
        """See `Stage`."""
        return await estimate(
            shard.by_problem("solutions", Solution),
            await resources.engine(self.engine, ("montecarlo.max_tokens", self.options.max_tokens)),
            await resources.domain(),
            self.options,
            seed=self.seed,
            profile=self._profile(),
            concurrency=resources.config.concurrency,
            rule=self.rule,
        )

    def _profile(self) -> PolicyProfile:
        return load_profile(self.options.profile or self.profile, PolicyProfile)


@dataclass(frozen=True)
class LabelsStage:
    """Step labels by relative progress, or by the variant that the options name (part 2)."""

    options: LabelConfig
    name: str = "labels"
    needs: tuple[str, ...] = ("montecarlo",)
    row_type: type[SolutionLabels] = SolutionLabels

    def decides(self) -> Decides:
        """See `Stage`: the rule and its threshold; thresholds of other rules do not count."""
        return Decides(options=self.options.deciding())

    async def run(self, shard: Shard, resources: Resources) -> StageOutput[SolutionLabels]:
        """See `Stage`."""
        scores = shard.of("montecarlo", SolutionScores)
        return StageOutput(tuple(label_solution(row, self.options) for row in scores))


@dataclass(frozen=True)
class GivenLabelsStage:
    """Labels that came with their solutions: `metadata["labels"]` of each problem, in place of Monte-Carlo estimates."""

    name: str = "labels"
    needs: tuple[str, ...] = ("solutions",)
    row_type: type[SolutionLabels] = SolutionLabels

    def decides(self) -> Decides:
        """See `Stage`: nothing but the problems."""
        return Decides()

    async def run(self, shard: Shard, resources: Resources) -> StageOutput[SolutionLabels]:
        """See `Stage`."""
        rows = []
        for problem, solutions in shard.by_problem("solutions", Solution):
            labels = tuple(
                StepLabel(label=label, reason="not_given" if label is None else None)
                for label in problem.metadata["labels"]
            )
            rows += [
                SolutionLabels(
                    solution_id=solution.id,
                    problem_id=problem.id,
                    method="given",
                    threshold=None,
                    labels=labels,
                )
                for solution in solutions
            ]
        return StageOutput(tuple(rows))


@dataclass(frozen=True)
class RationalesStage:
    """Rationales with executed verification (part 3), for all solutions with rows in the second stage that it needs.

    Those are Monte-Carlo scores, so a changed label rule costs no teacher anything; or labels, if they were given.
    """

    options: RationaleConfig
    engine: EngineConfig
    sandbox: SandboxConfig
    seed: int
    domain: str = "math"
    name: str = "rationales"
    needs: tuple[str, ...] = ("solutions", "montecarlo")
    row_type: type[Rationale] = Rationale

    def decides(self) -> Decides:
        """See `Stage`."""
        return Decides(
            options=without_profile(self.options),
            profiles=load_profile(self.options.profile, TeacherProfile),
            engine=engine_identity(self.engine),
            sandbox=sandbox_facts(self.sandbox),
            seed=self.seed,
            domain=self.domain,
        )

    async def run(self, shard: Shard, resources: Resources) -> StageOutput[Rationale]:
        """See `Stage`."""
        scored = {row.solution_id for row in shard.rows[self.needs[1]]}  # type: ignore[attr-defined]
        solutions = shard.by_problem("solutions", Solution)
        items = [(problem, row) for problem, rows in solutions for row in rows if row.id in scored]
        return await write_rationales(
            items,
            await resources.engine(self.engine, ("rationales.max_tokens", self.options.max_tokens)),
            await resources.sandbox(),
            self.options,
            seed=self.seed,
            concurrency=resources.config.concurrency,
        )


@dataclass(frozen=True)
class ConsensusStage:
    """Which solutions the teacher and the labels agree on (part 4)."""

    name: str = "consensus"
    needs: tuple[str, ...] = ("solutions", "labels", "rationales")
    row_type: type[Consensus] = Consensus

    def decides(self) -> Decides:
        """See `Stage`: nothing but what it is given."""
        return Decides()

    async def run(self, shard: Shard, resources: Resources) -> StageOutput[Consensus]:
        """See `Stage`. What an earlier stage dropped is not counted again."""
        labels = shard.of("labels", SolutionLabels)
        labelled = {row.solution_id for row in labels}
        solutions = [row for row in shard.of("solutions", Solution) if row.id in labelled]
        return filter_by_consensus(solutions, labels, shard.of("rationales", Rationale))


@dataclass(frozen=True)
class ChatsStage:
    """Multi-turn training chats from what the consensus kept (part 4).

    Attributes:
        profile: the verifier's prompt profile: chats read as the verifier will be asked.
    """

    options: ChatsConfig
    profile: str
    seed: int
    name: str = "chats"
    needs: tuple[str, ...] = ("solutions", "rationales", "consensus")
    row_type: type[TrainingSample] = TrainingSample

    def decides(self) -> Decides:
        """See `Stage`."""
        profile = load_profile(self.profile, VerifierProfile)
        return Decides(options=self.options, profiles=profile, seed=self.seed)

    async def run(self, shard: Shard, resources: Resources) -> StageOutput[TrainingSample]:
        """See `Stage`. A form that is code alone has no place for a step that was checked without any."""
        profile = load_profile(self.profile, VerifierProfile)
        problems = {problem.id: problem for problem in shard.problems}
        solutions = {row.id: row for row in shard.of("solutions", Solution)}
        rationales = {(row.solution_id, row.sample): row for row in shard.of("rationales", Rationale)}
        chats: list[TrainingSample] = []
        dropped: list[Dropped] = []
        for row in shard.of("consensus", Consensus):
            rationale = rationales[row.solution_id, row.rationale_sample]
            components = _share(self.options.component_shares, self.seed, row.solution_id)
            if components in ("code", "code+execution") and not all(
                step.rounds for step in rationale.steps
            ):
                dropped.append(
                    Dropped(
                        item_id=row.solution_id,
                        problem_id=row.problem_id,
                        stage=self.name,
                        reason="step_without_code",
                        detail=components,
                    )
                )
                continue
            chats.append(
                build_samples(
                    solutions[row.solution_id],
                    problems[row.problem_id],
                    rationale,
                    profile=profile,
                    components=components,
                )
            )
        return StageOutput(tuple(chats), tuple(dropped))


def _share(shares: dict[Any, float], seed: int, solution_id: str) -> Any:
    """The set of components that a solution falls into, by a hash that is uniform in [0, 1)."""
    place = int(content_key("components", seed, solution_id), 16) / 16**24
    ordered = sorted(shares.items())  # the order in the config decides nothing
    for components, share in ordered:
        place -= share
        if place < 0:
            return components
    return ordered[-1][0]
