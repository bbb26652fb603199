"""Trains three forms of a step judge on the same solutions, and finds first errors with each; one JSON object last.

    python benchmarks/forms.py [--quick] [--run-dir DIR] [section.key=value ...]

| form | writes about a step | reward |
|---|---|---|
| `direct` | Yes or No | p(Yes) |
| `discriminative` | nothing | p(right), by a head at the step's last token |
| `genprm` | an analysis, code, a reading of its output, then Yes or No | p(Yes) |

In the built-in arithmetic world, with the chats that the quickstart's pipeline keeps. Equal for all forms are the base
model, the problems, the solutions, the labels (those up to the first wrong step), the input tokens seen in training
(`train.max_tokens`, the step that reaches it included), and the solutions of an optimizer step. Since a chat with its
analysis is the longest, `genprm` makes the fewest passes over the solutions. All judge the same held-out solutions, at
the threshold of 0.5; the generative forms with `evaluation.votes` paths.

Everything is kept in the run directory: the same command resumes what was stopped, and prints what is finished again.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from machine import machine

import genprm
from genprm.cli.console import Bars, show_error
from genprm.config import EngineConfig, PrmConfig, VerifyConfig
from genprm.engines import resolve_model
from genprm.evals.metrics import Judged, path_metrics
from genprm.evals.predictions import prediction, prediction_of_path
from genprm.identity import content_key
from genprm.records import LabelledSolution, Solution, TrainingSample, Verification
from genprm.runs import (
    Executor,
    ProblemSource,
    open_executor,
    open_store,
    stop_if_empty,
    synthesis_chain,
    train_on_chats,
)
from genprm.runs.scaling import samples_chain, verified_chain
from genprm.store import RunReader, RunStore
from genprm.text.step_tokens import StepLayout
from genprm.text.transcript import parse_turn
from genprm.training.models import load_tokenizer
from genprm.training.prm.data import encode_rows
from genprm.worlds.arithmetic import first_error
from genprm.worlds.arithmetic.quickstart import QuickstartConfig, quickstart_defaults
from genprm.worlds.arithmetic.quickstart.evaluation import EvaluationProblems

NAME = "localisation"
"""Of the held-out solutions: those that the quickstart judges."""
WHOLE = {"chats": {"component_shares": {"cot+code+execution": 1.0}}}
QUICK = {
    "problems.limit": 16,
    "train.max_tokens": 12_000,
    "evaluation.localisation_solutions": 16,
    "evaluation.votes": 2,
    "store.shard_size": 8,
} | {f"montecarlo.k_{kind}": 4 for kind in ("start", "hard", "medium", "easy")}


@dataclass(frozen=True)
class Form:
    """A trained judge: what its training was, and how it is asked."""

    engine: EngineConfig
    options: VerifyConfig
    training: dict[str, Any]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "overrides", nargs="*", help="of the quickstart's config, such as train.max_tokens=50000"
    )
    parser.add_argument("--run-dir", type=Path, help="runs/forms, or runs/forms-quick")
    parser.add_argument(
        "--quick", action="store_true", help="a trial of under two minutes; its figures mean nothing"
    )
    options = parser.parse_args()
    folder = options.run_dir or Path("runs/forms-quick" if options.quick else "runs/forms")
    quick = [f"{key}={value}" for key, value in QUICK.items()] if options.quick else []
    try:
        config = genprm.load_config(
            None, [*quick, *options.overrides], model=QuickstartConfig, base=quickstart_defaults() | WHOLE
        )
        with Bars() as bars:
            result = asyncio.run(compare(config, folder, bars))
    except genprm.GenPRMError as error:
        show_error(error)
        return 1
    print(table(result))
    print(json.dumps(result))
    return 0


async def compare(config: QuickstartConfig, folder: Path, progress: Bars) -> dict[str, Any]:
    """Make the data, train every form and let each judge."""
    if config.train.max_tokens is None:
        raise genprm.ConfigError("the forms have no budget of tokens", hint="set train.max_tokens")
    with open_store(folder, config, progress) as store:
        async with open_executor(config, store, progress) as executor:
            chain, problems = synthesis_chain(config), ProblemSource(config.problems, config.seed)
            stop_if_empty(chain, await executor.run(chain, problems, total=config.problems.limit))
            forms = await _train(config, store, progress)
            await _judge(config, forms, executor)
    return _result(config, forms, RunReader(folder))


async def _train(config: QuickstartConfig, store: RunStore, progress: Bars) -> dict[str, Form]:
    rows = _labelled(RunReader(store.path))
    direct = config.train.model_copy(update={"form": "direct"})
    forms = {
        "direct": await _generative(config, store, progress, direct, "train-direct"),
        "discriminative": await _discriminative(config, store, progress, rows),
        "genprm": await _generative(config, store, progress, config.train, "train"),
    }
    for name, form in forms.items():
        _check(name, form.training, len(rows), config.train)
    return forms


def _check(name: str, training: Mapping[str, Any], solutions: int, options: genprm.TrainConfig) -> None:
    """Raise unless a form was trained on all solutions and on the tokens of the budget, to a step."""
    if training["solutions"] != solutions:
        raise genprm.DataError(
            f"{name} was trained on {training['solutions']} of {solutions} solutions: no fair comparison",
            hint="raise train.max_length",
        )
    if abs(training["tokens"] - (options.max_tokens or 0)) > options.batch_size * options.max_length:
        raise genprm.DataError(
            f"{name} was trained on {training['tokens']} tokens: no fair comparison",
            hint="set nothing that ends training before train.max_tokens",
        )


def _labelled(reader: RunReader) -> list[LabelledSolution]:
    """The solutions of the chats with the chats' own judgements, so up to the first wrong step."""
    problems = {problem.id: problem.text for problem in reader.problems()}
    solutions: dict[str, Solution] = {row.id: row for row in reader.rows("solutions")}
    rows = []
    for chat in reader.rows("chats"):
        turns = (turn for turn in chat.conversations if turn.role == "assistant")
        labels = tuple(parse_turn(turn.content).judgement for turn in turns)
        rows.append(
            LabelledSolution(
                id=chat.id,
                problem=problems[chat.problem_id],
                steps=solutions[chat.solution_id].steps[: len(labels)],
                labels=labels,
                problem_id=chat.problem_id,
                source="judgements of the consensus",
            )
        )
    return rows


async def _generative(
    config: QuickstartConfig, store: RunStore, progress: Bars, options: genprm.TrainConfig, name: str
) -> Form:
    made = await train_on_chats(store, options, config, progress, name=name)
    report, policy = made.report, config.roles.policy
    judging = config.verify.model_copy(
        update={
            "votes": config.evaluation.votes,
            "components": "direct" if options.form == "direct" else "cot+code+execution",
            "stop_at_first_error": True,
            "every_path_to_its_error": True,
        }
    )
    return Form(
        EngineConfig(kind=policy.kind, options={**policy.options, "model": str(made.path)}),
        judging,
        {
            "solutions": report.samples,
            "tokens": report.tokens,
            "steps": report.steps,
            "passes": round(report.steps * options.batch_size / report.samples, 2),
            "seconds": round(report.seconds, 1),
            "loss": [round(report.loss_first, 4), round(report.loss_last, 4)],
        },
    )


async def _discriminative(
    config: QuickstartConfig, store: RunStore, progress: Bars, rows: Sequence[LabelledSolution]
) -> Form:
    train = config.train
    options = PrmConfig(
        model=train.model,
        max_length=train.max_length,
        precision="float32",
        **train.model_dump(
            include={"learning_rate", "batch_size", "warmup_ratio", "schedule", "weight_decay"}
        ),
    )
    passes = (train.max_tokens or 0) / await asyncio.to_thread(_tokens, rows, options)
    options = options.model_copy(update={"epochs": passes})
    name = "train-discriminative"
    folder = store.artifact(name, content_key(options, rows, config.seed)[:24])
    shown = 0

    def follow(state: genprm.PrmProgress) -> None:
        nonlocal shown
        if not shown:
            progress.begin(name, state.total)
        progress.advance(name, state.step - shown)
        shown = state.step

    report = await asyncio.to_thread(
        genprm.train_prm,
        rows,
        folder,
        options,
        seed=config.seed,
        progress=follow,
        on_repair=store.repaired,
    )
    tail = report.losses[-10:]
    return Form(
        EngineConfig(kind="discriminative", options={"model": str(folder), "device": "cpu"}),
        config.verify.model_copy(update={"votes": 1}),
        {
            "solutions": report.solutions,
            "tokens": report.tokens,
            "steps": report.steps,
            "passes": round(report.steps * options.batch_size / report.solutions, 2),
            "seconds": round(report.seconds, 1),
            "loss": [round(report.losses[0], 4), round(sum(tail) / len(tail), 4)],
        },
    )


def _tokens(rows: Sequence[LabelledSolution], options: PrmConfig) -> int:
    """Input tokens of one pass over the solutions."""
    tokenizer = load_tokenizer(resolve_model(options.model))
    layout = StepLayout(options.separator, options.separator)
    encoded = encode_rows(rows, tokenizer, layout, steps=options.steps, max_length=options.max_length)
    return sum(len(row.input_ids) for row in encoded.rows)


async def _judge(config: QuickstartConfig, forms: Mapping[str, Form], executor: Executor) -> None:
    """One form after the other, so that each has the machine for itself; the solutions are made before."""
    seed = config.evaluation.seed
    problems = EvaluationProblems(NAME, config.evaluation.localisation_solutions, seed)
    chains = [samples_chain(config, 1, name=NAME, seed=seed)]
    for name, form in forms.items():
        stages = {f"{NAME}-{name}": (form.options, form.engine)}
        chains.append(verified_chain(config, 1, form.engine, stages, name=NAME, seed=seed))
    for chain in chains:
        await executor.run(chain, problems, total=problems.count)


def _result(config: QuickstartConfig, forms: Mapping[str, Form], reader: RunReader) -> dict[str, Any]:
    problems = {problem.id: problem for problem in reader.rows(f"{NAME}-problems")}
    solutions = list(reader.rows(f"{NAME}-solutions"))
    truth = [first_error(problems[row.problem_id], row.steps) for row in solutions]
    stages = {stage.stage: stage for stage in reader.stages()}
    chats: list[TrainingSample] = list(reader.rows("chats"))
    result: dict[str, Any] = {}
    for name, form in forms.items():
        found: dict[str, Verification] = {row.item_id: row for row in reader.rows(f"{NAME}-{name}")}
        stage = stages[f"{NAME}-{name}"]
        result[name] = {
            **_figures(truth, [found[row.id] for row in solutions], form.options),
            "training": form.training,
            "judging": {
                "prompt_tokens": stage.usage.prompt_tokens,
                "completion_tokens": stage.usage.completion_tokens,
                "seconds": round(stage.seconds, 1),
            },
        }
    return result | {
        "equal": {
            "problems": len({chat.problem_id for chat in chats}),
            "solutions": len(chats),
            "judgements": sum(turn.role == "assistant" for chat in chats for turn in chat.conversations),
            "tokens": config.train.max_tokens,
            "solutions_per_step": config.train.batch_size,
        },
        "held_out": {"solutions": len(truth), "erroneous": sum(index >= 0 for index in truth)},
        "threshold": config.verify.threshold,
        "seed": config.seed,
        "data_seconds": round(sum(stage.seconds for name, stage in stages.items() if NAME not in name), 1),
        "machine": machine(),
        "date": datetime.date.today().isoformat(),
    }


def _figures(truth: Sequence[int], rows: Sequence[Verification], options: VerifyConfig) -> dict[str, Any]:
    """ProcessBench's metrics by the rule of voting."""
    together = Judged(truth, [[prediction(row) for row in rows]])
    judged = {"pass@1": together}
    if options.votes > 1:
        paths = range(options.votes)
        alone = [[prediction_of_path(row, path, options.threshold) for row in rows] for path in paths]
        judged = {"pass@1": Judged(truth, alone), f"maj@{options.votes}": together}
    return {rule: path_metrics(one).model_dump(mode="json") for rule, one in judged.items()}


def table(result: Mapping[str, Any]) -> str:
    """The forms in a Markdown table."""
    lines = [
        "| form | rule | F1 | first errors named | correct accepted | tokens written | judging, s "
        "| trained on | training, s |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name in ("direct", "discriminative", "genprm"):
        form = result[name]
        training, judging = form["training"], form["judging"]
        cost = (
            f"{judging['completion_tokens']:,} | {judging['seconds']:.0f} | {training['tokens']:,} tokens, "
            f"{training['passes']:g} passes | {training['seconds']:.0f}"
        )
        for rule in (key for key in form if "@" in key):
            shares = (_share(form[rule][key]) for key in ("f1", "error_accuracy", "correct_accuracy"))
            lines.append(f"| {name} | {rule} | {' | '.join(shares)} | {cost} |")
    return "\n".join(lines)


def _share(share: Mapping[str, Any]) -> str:
    if share["value"] is None:
        return f"unknown: {share['reason']}"
    ends = "" if share["low"] is None else f" [{share['low']:.1f}, {share['high']:.1f}]"
    return f"{share['value']:.1f}{ends}"


if __name__ == "__main__":
    sys.exit(main())
