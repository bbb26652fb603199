"""The way of the data: problems -> solutions -> MC scores -> labels -> rationales -> filter -> train.

Every stage is a pure function of records that lives in its own room; this module alone knows their
order and hands the rows of one to the next, through the store.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel

from genprm.config import EngineConfig, RunConfig, TrainConfig
from genprm.errors import DataError
from genprm.runs.identity import engine_identity, model_identity, resolve_model
from genprm.runs.problems import load_run_problems
from genprm.runs.resources import Resources
from genprm.runs.runner import Progress, Stage, run_stage
from genprm.text.prompts import VerifierProfile, load_profile
from genprm.records import (
    Consensus,
    Problem,
    Rationale,
    Solution,
    SolutionLabels,
    SolutionScores,
    StageOutput,
    TrainingSample,
)
from genprm.store import RunStore, content_key
from genprm.synth.consensus import filter_by_consensus
from genprm.synth.montecarlo import estimate
from genprm.synth.progress import label_solution
from genprm.synth.rationales import write_rationales
from genprm.synth.solutions import generate_solutions
from genprm.training.chat_data import build_samples
from genprm.training.sft import TrainProgress, TrainReport, train

RowT = TypeVar("RowT", bound=BaseModel)
Form = Literal["rationale", "direct"]

STAGES = ("problems", "solutions", "montecarlo", "label", "rationales", "filter", "train")


@dataclass
class Trained:
    """A trained model and the report of its training."""

    path: Path
    report: TrainReport


class Pipeline:
    """One run. Each method completes its stage, and before it the stages that it needs."""

    def __init__(
        self, config: RunConfig, store: RunStore, resources: Resources, progress: Progress
    ) -> None:
        self.config = config
        self.store = store
        self.resources = resources
        self.progress = progress
        self._rows: dict[str, list[Any]] = {}

    async def run_until(self, stage: str) -> Any:
        """Complete every stage up to and including `stage` and return its rows."""
        methods = {
            "problems": self.problems,
            "solutions": self.solutions,
            "montecarlo": self.montecarlo,
            "label": self.labels,
            "rationales": self.rationales,
            "filter": self.samples,
            "train": self.train,
        }
        return await methods[stage]()

    async def problems(self) -> list[Problem]:
        """The problems, deduplicated by id."""
        if "problems" not in self._rows:
            self._rows["problems"] = load_run_problems(self.config.problems, self.config.seed)
        rows: list[Problem] = self._rows["problems"]
        return rows

    async def solutions(self) -> list[Solution]:
        """Solutions with step forcing, balanced between correct and incorrect (part 1)."""
        config, role = self.config, self.config.roles.policy

        async def run(items: Sequence[Problem]) -> StageOutput[Solution]:
            return await generate_solutions(
                items,
                await self.resources.engine(role),
                await self.resources.domain(),
                config.solutions,
                seed=config.seed,
                concurrency=config.concurrency,
            )

        stage = Stage("solutions", Solution, self._decided_by(config.solutions, role), run)
        return await self._complete(stage, await self.problems())

    async def montecarlo(self) -> list[SolutionScores]:
        """Monte-Carlo estimates for every step (part 1)."""
        config, role = self.config, self.config.roles.completer or self.config.roles.policy

        async def run(items: Sequence[tuple[Problem, Sequence[Solution]]]) -> StageOutput[SolutionScores]:
            return await estimate(
                items,
                await self.resources.engine(role),
                await self.resources.domain(),
                config.montecarlo,
                seed=config.seed,
                concurrency=config.concurrency,
            )

        stage = Stage("montecarlo", SolutionScores, self._decided_by(config.montecarlo, role), run)
        grouped: dict[str, list[Solution]] = defaultdict(list)
        for solution in await self.solutions():
            grouped[solution.problem_id].append(solution)
        items = [(p, tuple(grouped[p.id])) for p in await self.problems() if p.id in grouped]
        return await self._complete(stage, items, shard_size=max(1, config.store.shard_size // 4))

    async def labels(self) -> list[SolutionLabels]:
        """Step labels by relative progress, or by the variant that the config names (part 2)."""
        options = self.config.label

        async def run(items: Sequence[SolutionScores]) -> StageOutput[SolutionLabels]:
            return StageOutput(tuple(label_solution(item, options) for item in items))

        stage = Stage("label", SolutionLabels, options, run)
        return await self._complete(stage, await self.montecarlo())

    async def rationales(self) -> list[Rationale]:
        """Rationales with executed verification (part 3), for solutions whose labels are known."""
        config, role = self.config, self.config.roles.teacher

        async def run(items: Sequence[tuple[Problem, Solution]]) -> StageOutput[Rationale]:
            return await write_rationales(
                items,
                await self.resources.engine(role),
                await self.resources.sandbox(),
                config.rationales,
                seed=config.seed,
                concurrency=config.concurrency,
            )

        decided_by = self._decided_by(config.rationales, role, config.sandbox)
        labelled = {row.solution_id for row in await self.labels() if row.first_error is not None}
        items = [pair for pair in await self.pairs() if pair[1].id in labelled]
        return await self._complete(Stage("rationales", Rationale, decided_by, run), items)

    async def consensus(self) -> list[Consensus]:
        """Which solutions the teacher and the labels agree on (part 4)."""
        labels = {row.solution_id: row for row in await self.labels()}
        rationales: dict[str, list[Rationale]] = defaultdict(list)
        for row in await self.rationales():
            rationales[row.solution_id].append(row)
        items = [
            (solution, labels[solution.id], tuple(rationales[solution.id]))
            for solution in await self.solutions()
            if solution.id in labels
        ]

        async def run(
            shard: Sequence[tuple[Solution, SolutionLabels, Sequence[Rationale]]],
        ) -> StageOutput[Consensus]:
            return filter_by_consensus(
                [solution for solution, _, _ in shard],
                [label for _, label, _ in shard],
                [rationale for _, _, several in shard for rationale in several],
            )

        return await self._complete(Stage("consensus", Consensus, {}, run), items)

    async def samples(self, form: Form = "rationale") -> list[TrainingSample]:
        """Multi-turn chats from what the filter kept (part 4); `direct` is the Yes / No baseline's form."""
        name = "filter" if form == "rationale" else f"filter-{form}"
        shares = self.config.filter.component_shares if form == "rationale" else {"direct": 1.0}
        profile = load_profile(self.config.verify.profile, VerifierProfile)
        pairs = {solution.id: (problem, solution) for problem, solution in await self.pairs()}
        written = {(row.solution_id, row.sample): row for row in await self.rationales()}
        items = [
            (*pairs[row.solution_id], written[row.solution_id, row.rationale_sample])
            for row in await self.consensus()
        ]

        async def run(shard: Sequence[tuple[Problem, Solution, Rationale]]) -> StageOutput[TrainingSample]:
            return StageOutput(
                tuple(
                    build_samples(
                        solution,
                        problem,
                        rationale,
                        profile=profile,
                        components=_share(shares, self.config.seed, solution.id),
                    )
                    for problem, solution, rationale in shard
                )
            )

        decided_by = {"shares": shares, "seed": self.config.seed, "profile": profile}
        return await self._complete(Stage(name, TrainingSample, decided_by, run), items)

    async def train(self, form: Form = "rationale", options: TrainConfig | None = None) -> Trained:
        """Fine-tune a verifier on the samples (part 4)."""
        options = options or self.config.train
        samples = await self.samples(form)
        if not samples:
            raise DataError(
                "no training sample is left after consensus filtering",
                hint="Look at the counted reasons in stages/consensus/stage.json; use more problems.",
            )
        options = options.model_copy(update={"model": resolve_model(options.model), "form": form})
        seed, name = self.config.seed, f"train-{form}"
        key = content_key(
            options.model_copy(update={"model": model_identity(options.model)}), samples, seed
        )
        folder = self.store.artifact(name, key)
        report = train(samples, options, folder, seed=seed, on_progress=_StepBar(self.progress, name))
        self.progress.finish(name, None)
        return Trained(folder, report)

    async def pairs(self) -> list[tuple[Problem, Solution]]:
        """Every kept solution with its problem."""
        problems = {problem.id: problem for problem in await self.problems()}
        return [(problems[row.problem_id], row) for row in await self.solutions()]

    async def _complete(
        self, stage: Stage[Any, RowT], items: Sequence[Any], shard_size: int = 0
    ) -> list[RowT]:
        if stage.name not in self._rows:
            self._rows[stage.name] = await run_stage(
                self.store,
                stage,
                items,
                shard_size=shard_size or self.config.store.shard_size,
                progress=self.progress,
            )
        return self._rows[stage.name]

    def _decided_by(self, options: Any, role: EngineConfig, *more: Any) -> dict[str, Any]:
        return {"options": options, "engine": engine_identity(role), "seed": self.config.seed, "more": more}


class _StepBar:
    """Shows a training job's optimizer steps as a stage's items."""

    def __init__(self, progress: Progress, name: str) -> None:
        self._progress = progress
        self._name = name
        self._shown: int | None = None

    def __call__(self, state: TrainProgress) -> None:
        if self._shown is None:
            self._shown = state.step - 1
            self._progress.start(self._name, state.total, self._shown)
        self._progress.advance(self._name, state.step - self._shown)
        self._shown = state.step


def _share(shares: dict[Any, float], seed: int, solution_id: str) -> Any:
    """The set of components that a solution falls into, by a hash that is uniform in [0, 1)."""
    place = int(content_key("components", seed, solution_id), 16) / 16**24
    for components, share in shares.items():
        place -= share
        if place < 0:
            return components
    return list(shares)[-1]


__all__ = ["STAGES", "Pipeline", "Trained"]
