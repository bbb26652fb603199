"""What the ablations share: a synthesis per seed, verifiers made from variants of it, and what first errors each finds.

A seed decides the training problems, all sampling, the order of training and the held-out solutions. A variant is a label
rule, what its chats hold, and how many of the problems it may use. Everything is kept in the run directory, one folder
per seed: the same command resumes what was stopped, two commands share what is equal, and finished work is not done
again.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import genprm
from genprm.cli.console import Bars
from genprm.config import Components, EngineConfig, LabelConfig, TrainConfig
from genprm.engines import resolve_model
from genprm.evals.labels import LabelledSolution, LabelQuality, label_quality
from genprm.evals.metrics import Judged, average_metrics, path_metrics
from genprm.evals.predictions import FAILED, Prediction, prediction, prediction_of_path
from genprm.identity import content_key, model_identity
from genprm.labels import label_solution
from genprm.records import (
    NO_ERROR,
    LocalisationFigures,
    Problem,
    Rationale,
    Share,
    Solution,
    SolutionLabels,
    SolutionScores,
    TrainingSample,
    Verification,
)
from genprm.rewards.voting import tally
from genprm.runs import Executor, ProblemSource, open_executor, open_store, stop_if_empty
from genprm.runs.chains import chain_until
from genprm.runs.scaling import samples_chain, verified_chain
from genprm.runs.stage import Shard
from genprm.runs.stages import ChatsStage, ConsensusStage
from genprm.store import RunReader, RunStore
from genprm.training import TrainProgress
from genprm.view.figures import Figure, percent
from genprm.worlds.arithmetic import first_error
from genprm.worlds.arithmetic.quickstart import QuickstartConfig, quickstart_defaults
from genprm.worlds.arithmetic.quickstart.evaluation import EvaluationProblems

NAME = "localisation"
"""Of the held-out solutions: those that the quickstart judges."""
SEEDS = (1, 2, 3)
QUICK = {
    "problems.limit": 16,
    "train.max_tokens": 6_000,
    "evaluation.localisation_solutions": 12,
    "evaluation.votes": 2,
    "store.shard_size": 8,
} | {f"montecarlo.k_{kind}": 4 for kind in ("start", "hard", "medium", "easy")}
LAPTOP = {"evaluation.localisation_solutions": 150, "train.max_tokens": 300_000}

Shares = Mapping[Components, float]
WHOLE: Shares = {"cot+code+execution": 1.0}


@dataclass(frozen=True)
class Variant:
    """A way to make a verifier.

    Attributes:
        label: the rule that the consensus compares the teacher with.
        shares: what chats hold, as `chats.component_shares`.
        form: as `train.form`.
        part: of the problems, the first so many; tokens of training shrink alike.
        tokens: of training, in place of the config's `train.max_tokens`.
        model: that is trained, in place of the config's `train.model`.
    """

    name: str
    label: LabelConfig
    shares: Shares = field(default_factory=lambda: WHOLE)
    form: Literal["rationale", "direct"] = "rationale"
    part: float = 1.0
    tokens: int | None = None
    model: str | None = None

    def options(self, config: QuickstartConfig) -> TrainConfig:
        """How it is trained."""
        tokens = self.tokens or config.train.max_tokens or 0
        update: dict[str, Any] = {"form": self.form, "max_tokens": max(1, round(tokens * self.part))}
        return config.train.model_copy(update=update | ({"model": self.model} if self.model else {}))


@dataclass(frozen=True)
class Judging:
    """A variant's verifier, asked with these components and so many votes.

    Attributes:
        every_step: no path stops at an error, so that any few of the votes can be counted by themselves.
    """

    variant: Variant
    components: Components
    votes: int
    every_step: bool = False

    @property
    def stage(self) -> str:
        """Its stage in a seed's run directory."""
        ending = "-every-step" if self.every_step else ""
        return f"{NAME}-{self.variant.name}-{self.components}-{self.votes}{ending}".replace(" ", "-")


@dataclass(frozen=True)
class Material:
    """What one seed and one label rule give to train on."""

    labels: LabelQuality
    kept: LabelQuality
    chats: tuple[TrainingSample, ...]

    @property
    def facts(self) -> dict[str, Any]:
        """For the result."""
        return {
            "label_accuracy": _ends(self.labels.accuracy),
            "solutions": self.labels.rows,
            "kept": self.kept.rows,
            "kept_right": _ends(self.kept.accuracy),
        }


@dataclass(frozen=True)
class Outcome:
    """One seed's outcome: what each variant was trained on, and what each judging found, by its stage."""

    seed: int
    materials: Mapping[str, Material]
    truth: Sequence[int]
    found: Mapping[str, Sequence[Verification]]


def arguments(description: str | None, folder: str) -> argparse.ArgumentParser:
    """The options that both ablations have."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "overrides", nargs="*", help="of the quickstart's config, such as train.max_tokens=50000"
    )
    parser.add_argument("--run-dir", type=Path, default=Path(folder), help=f"{folder} unless given")
    parser.add_argument(
        "--page", type=Path, help="where to write the page; in the run directory unless given"
    )
    parser.add_argument("--seeds", type=numbers, default=list(SEEDS), help="such as 1,2,3")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--full", action="store_true", help="400 held-out solutions and more votes")
    size.add_argument("--quick", action="store_true", help="a trial; its figures mean nothing")
    return parser


def numbers(text: str) -> list[int]:
    """Whole numbers with commas between them."""
    return [int(one) for one in text.split(",")]


def load(options: argparse.Namespace, seed: int) -> QuickstartConfig:
    """The quickstart's config of one seed; every state gets as many completions, whatever the rule."""
    sizes: Mapping[str, Any] = QUICK if options.quick else {} if options.full else LAPTOP
    settings = ["montecarlo.estimator=fixed", f"seed={seed}", f"evaluation.seed={seed + 1}"]
    settings += [f"{key}={value}" for key, value in sizes.items()]
    return genprm.load_config(
        None, [*settings, *options.overrides], model=QuickstartConfig, base=quickstart_defaults()
    )


def run(
    options: argparse.Namespace, judgings: Callable[[QuickstartConfig], Sequence[Judging]]
) -> tuple[list[Outcome], QuickstartConfig]:
    """Every seed's outcome, in the order of the seeds, and the config of the last one."""
    outcomes = []
    with Bars() as bars:
        for seed in options.seeds:
            config = load(options, seed)
            wanted = judgings(config)
            outcomes.append(asyncio.run(_seed(config, options.run_dir / f"seed-{seed}", wanted, bars)))
    return outcomes, config


async def _seed(config: QuickstartConfig, folder: Path, judgings: Sequence[Judging], bars: Bars) -> Outcome:
    if config.train.max_tokens is None:
        raise genprm.ConfigError("the variants have no budget of tokens", hint="set train.max_tokens")
    with open_store(folder, config, bars) as store:
        async with open_executor(config, store, bars) as executor:
            chain = chain_until(config, "rationales")
            problems = ProblemSource(config.problems, config.seed)
            stop_if_empty(chain, await executor.run(chain, problems, total=config.problems.limit))
            seed = config.evaluation.seed
            held_out = EvaluationProblems(NAME, config.evaluation.localisation_solutions, seed)
            await executor.run(
                samples_chain(config, 1, name=NAME, seed=seed), held_out, total=held_out.count
            )
            variants = list(dict.fromkeys(judging.variant.name for judging in judgings))
            materials = {}
            for name in variants:
                mine = [judging for judging in judgings if judging.variant.name == name]
                material = await _material(config, RunReader(folder), mine[0].variant)
                engine = await _trained(config, store, mine[0].variant, material, bars)
                await _judge(config, executor, engine, mine, held_out)
                materials[name] = material
    return _outcome(config.seed, materials, judgings, RunReader(folder))


async def _material(config: QuickstartConfig, reader: RunReader, variant: Variant) -> Material:
    """The labels of a rule, and the chats of what the consensus keeps by them."""
    every: list[Problem] = list(reader.rows("problems"))
    problems = {row.id: row for row in every[: max(1, round(len(every) * variant.part))]}
    solutions: dict[str, Solution] = {
        row.id: row for row in reader.rows("solutions") if row.problem_id in problems
    }
    scores: list[SolutionScores] = [row for row in reader.rows("montecarlo") if row.problem_id in problems]
    labels = [label_solution(row, variant.label) for row in scores]
    rationales: list[Rationale] = [row for row in reader.rows("rationales") if row.problem_id in problems]
    rows = {"solutions": tuple(solutions.values()), "rationales": tuple(rationales)}
    # These two stages need nothing but their rows; resources are for engines and sandboxes.
    nothing: Any = None
    consensus = await ConsensusStage().run(
        Shard(0, tuple(problems.values()), rows | {"labels": tuple(labels)}), nothing
    )
    shard = Shard(0, tuple(problems.values()), rows | {"consensus": consensus.rows})
    options = config.chats.model_copy(update={"component_shares": dict(variant.shares)})
    chats = await ChatsStage(options, config.verify.profile, config.seed).run(shard, nothing)
    kept = {row.solution_id for row in consensus.rows}

    def quality(some: Sequence[SolutionLabels]) -> LabelQuality:
        return label_quality(
            [
                LabelledSolution(
                    row.problem_id,
                    first_error(problems[row.problem_id], solutions[row.solution_id].steps),
                    row.first_error,
                    len(row.labels),
                )
                for row in some
            ]
        )

    return Material(
        quality(labels), quality([row for row in labels if row.solution_id in kept]), chats.rows
    )


async def _trained(
    config: QuickstartConfig, store: RunStore, variant: Variant, material: Material, bars: Bars
) -> EngineConfig:
    """Train a variant, or take it as it is finished."""
    options = variant.options(config)
    start = model_identity(resolve_model(options.model))
    key = content_key(options, start, material.chats, config.seed, config.verify.profile)[:24]
    name = f"train-{variant.name}".replace(" ", "-")
    folder = store.artifact(name, key)
    shown = 0
    asked = config.verify
    if variant.form == "rationale" and asked.components not in variant.shares:
        asked = asked.model_copy(update={"components": next(iter(variant.shares))})

    def follow(state: TrainProgress) -> None:
        nonlocal shown
        if not shown:
            bars.begin(name, state.total)
        bars.advance(name, state.step - shown)
        shown = state.step

    await asyncio.to_thread(
        genprm.train,
        material.chats,
        folder,
        options,
        verify=asked,
        seed=config.seed,
        progress=follow,
        on_repair=store.repaired,
    )
    policy = config.roles.policy
    return EngineConfig(kind=policy.kind, options={**policy.options, "model": str(folder)})


async def _judge(
    config: QuickstartConfig,
    executor: Executor,
    engine: EngineConfig,
    judgings: Sequence[Judging],
    problems: EvaluationProblems,
) -> None:
    stages = {}
    for judging in judgings:
        update = {
            "votes": judging.votes,
            "components": judging.components,
            "stop_at_first_error": not judging.every_step,
            "every_path_to_its_error": not judging.every_step,
        }
        stages[judging.stage] = config.verify.model_copy(update=update), engine
    chain = verified_chain(config, 1, engine, stages, name=NAME, seed=config.evaluation.seed)
    await executor.run(chain, problems, total=problems.count)
    await executor.release(engine)


def _outcome(
    seed: int, materials: Mapping[str, Material], judgings: Sequence[Judging], reader: RunReader
) -> Outcome:
    problems = {row.id: row for row in reader.rows(f"{NAME}-problems")}
    solutions: list[Solution] = list(reader.rows(f"{NAME}-solutions"))
    found = {}
    for judging in judgings:
        rows: dict[str, Verification] = {row.item_id: row for row in reader.rows(judging.stage)}
        found[judging.stage] = [rows[row.id] for row in solutions]
    truth = [first_error(problems[row.problem_id], row.steps) for row in solutions]
    return Outcome(seed, materials, truth, found)


def figures(outcomes: Sequence[Outcome], judging: Judging) -> dict[str, LocalisationFigures]:
    """Pass@1 and Maj@N over all seeds, their mean with an interval over solutions, and of each seed alone."""
    alone, together = [], []
    for one in outcomes:
        rows = one.found[judging.stage]
        together.append(Judged(one.truth, [[prediction(row) for row in rows]]))
        paths = [[prediction_of_path(row, path) for row in rows] for path in range(judging.votes)]
        alone.append(Judged(one.truth, paths))
    rules = {"pass@1": alone, f"maj@{judging.votes}": together}
    result = {}
    for rule, judged in rules.items():
        result[rule] = average_metrics(judged)
        for one, mine in zip(outcomes, judged, strict=True):
            result[f"{rule}, seed {one.seed}"] = path_metrics(mine)
    return result


def of_fewer_votes(outcomes: Sequence[Outcome], judging: Judging, votes: int) -> LocalisationFigures:
    """Maj@`votes` over all seeds, from a judging of every step with more votes: the mean over its groups of paths."""
    groups = [range(start, start + votes) for start in range(0, judging.votes - votes + 1, votes)]
    judged = []
    for one in outcomes:
        rows = [[_first_error(row, group) for row in one.found[judging.stage]] for group in groups]
        judged.append(Judged(one.truth, rows))
    return average_metrics(judged)


def _first_error(row: Verification, paths: Sequence[int]) -> Prediction:
    """The first error that these paths find together."""
    for verdict in row.verdicts:
        mine = tally(verdict.step, [vote for vote in verdict.votes if vote.path in paths])
        if mine.judgement is None:
            return FAILED if mine.status == "failed" else None
        if not mine.judgement:
            return verdict.step
    return NO_ERROR


def table_row(outcomes: Sequence[Outcome], judging: Judging) -> list[Figure]:
    """F1 of Pass@1 and of Maj@N, each over the seeds, and Maj@N of each seed."""
    found = figures(outcomes, judging)
    mine = f"maj@{judging.votes}"
    seeds = [percent(found[f"{mine}, seed {one.seed}"].f1) for one in outcomes]
    return [percent(found["pass@1"].f1), percent(found[mine].f1), *seeds]


def as_json(found: Mapping[str, LocalisationFigures]) -> dict[str, Any]:
    """F1 and both accuracies of every rule."""
    return {
        rule: {name: _ends(getattr(one, name)) for name in ("f1", "error_accuracy", "correct_accuracy")}
        for rule, one in found.items()
    }


def _ends(share: Share) -> list[float | None]:
    """Value, low and high, in percent."""
    return [None if one is None else round(one, 2) for one in (share.value, share.low, share.high)]
