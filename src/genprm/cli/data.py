"""`genprm label` and `genprm train`: labels from stored counts, and a model from stored chats."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from genprm.cli.flags import WRITTEN, Config, Seed, Set, settings
from genprm.errors import ConfigError, DataError
from genprm.text.counts import counted

if TYPE_CHECKING:
    from genprm.config import VerifyConfig
    from genprm.records import SolutionLabels, TrainingSample
    from genprm.sources import Row


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("label")(label)
    app.command("train")(train)


def label(
    run_dir: Annotated[
        Path, typer.Argument(help="A run directory with Monte-Carlo scores.", show_default=False)
    ],
    method: Annotated[
        str | None,
        typer.Option(
            "--rule", "--method", help="ratio, difference, hard or posterior.", show_default="the run's own"
        ),
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(help="The rule's threshold.", show_default="the run's own")
    ] = None,
    override: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            "-s",
            help="Override of the section label, such as false_above=0.95; repeatable.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="JSONL file for the new labels.",
            show_default="the report alone is printed",
            **WRITTEN,
        ),
    ] = None,
) -> None:
    """Recompute step labels from a run's stored counts, without sampling, and report how many change."""
    from genprm.config import LabelConfig, load_config, read_run_config
    from genprm.labels import label_solution
    from genprm.sources.writing import write_lines
    from genprm.store import RunReader

    reader = RunReader(run_dir)
    config = read_run_config(run_dir / "config.yaml").label
    overrides = [*(override or []), *([f"method={method}"] if method is not None else [])]
    if threshold is not None:
        chosen = load_config(None, overrides, model=LabelConfig, base=config.model_dump()).method
        if chosen == "hard":
            raise ConfigError(
                "the rule 'hard' has no threshold",
                hint="Leave out --threshold, or choose ratio, difference or posterior.",
            )
        overrides.append(f"{'difference' if chosen == 'difference' else 'ratio'}={threshold}")
    rule = load_config(None, overrides, model=LabelConfig, base=config.model_dump())
    changes = _Changes()
    rows = (
        changes.seen(label_solution(scores, rule), label_solution(scores, config))
        for scores in reader.rows("montecarlo")
    )
    if output is not None:
        write_lines(rows, output)
    for _ in rows:
        pass
    sys.stdout.write(changes.summary())


_WORDS = {True: "right", False: "wrong", None: "unknown"}


@dataclass
class _Changes:
    """Counts of the labels of two rules, one solution after the other."""

    solutions: int = 0
    first_errors: int = 0
    steps: Counter[bool | None] = field(default_factory=Counter)
    changes: Counter[tuple[bool | None, bool | None]] = field(default_factory=Counter)
    unknown: Counter[str | None] = field(default_factory=Counter)

    def seen(self, new: SolutionLabels, old: SolutionLabels) -> SolutionLabels:
        """Count a solution's labels and return the new ones."""
        self.solutions += 1
        self.first_errors += new.first_error != old.first_error
        for step, before in zip(new.labels, old.labels, strict=True):
            self.steps[step.label] += 1
            if step.label is not before.label:
                self.changes[before.label, step.label] += 1
            if step.label is None:
                self.unknown[step.reason] += 1
        return new

    def summary(self) -> str:
        steps, changes = self.steps, self.changes
        lines = [
            f"{counted(self.solutions, 'solution')}, {counted(steps.total(), 'step')}: {steps[True]} right, "
            f"{steps[False]} wrong, {steps[None]} unknown",
            f"compared with the run's own rule: {counted(changes.total(), 'step label')} and "
            f"{counted(self.first_errors, 'first error')} change",
            *(
                f"  {count} from {_WORDS[old]} to {_WORDS[new]}"
                for (old, new), count in changes.most_common()
            ),
        ]
        if self.unknown:
            reasons = ", ".join(f"{count} {reason}" for reason, count in self.unknown.most_common())
            lines.append(f"unknown: {reasons}")
        return "\n".join(lines) + "\n"


def train(
    chats: Annotated[
        Path,
        typer.Argument(
            help="A run directory, or a file of chats: those of 'genprm export', in any layout.",
            show_default=False,
        ),
    ],
    folder: Annotated[
        Path,
        typer.Option("--output", "-o", help="Folder for the trained model.", show_default=False, **WRITTEN),
    ],
    model: Annotated[
        str | None, typer.Option(help="The model to train.", show_default="train.model of the config")
    ] = None,
    config: Config = None,
    override: Set = None,
    seed: Seed = None,
) -> None:
    """Fine-tune a verifier on chats; the same command resumes a job that was killed.

    On several GPUs: accelerate launch --multi_gpu --num_processes 4 -m genprm train ...
    """
    from genprm.api.pipelines import train as fit
    from genprm.cli.console import Bars, Steps, one_report
    from genprm.training import TrainProgress
    from genprm.training.processes import is_first_process

    source = config
    if source is None and (chats / "config.yaml").is_file():
        source = chats / "config.yaml"
    extra = [*(override or []), *([f"train.model={model}"] if model is not None else [])]
    chosen = settings(source, extra, seed=seed)
    samples = _chats(chats)
    with Bars() as bars:
        follow = Steps(bars, "train")

        def step(state: TrainProgress) -> None:
            follow(state.step, state.total)

        with one_report():
            report = fit(
                samples,
                folder,
                chosen.train,
                verify=chosen.verify if "verify" in chosen.model_fields_set else None,
                seed=chosen.seed,
                progress=step,
                on_repair=bars.note,
            )
        follow.end(report.steps)
    if not is_first_process():
        return
    unfit = ", ".join(f"{count} {reason}" for reason, count in (report.dropped_unfit or {}).items())
    left_out = f"{report.dropped_too_long} too long" + (f", unfit: {unfit}" if unfit else "")
    together = f", {report.processes} processes" if report.processes > 1 else ""
    sys.stdout.write(
        f"{counted(report.samples, 'chat')}, {report.tokens:,} tokens, loss {report.loss_first:.3f} to "
        f"{report.loss_last:.3f}, {left_out}{together}\n{_shortened(folder, chosen.verify)}"
        f"Use it: genprm verify --model {folder} --problem TEXT --solution TEXT\n"
    )


def _shortened(folder: Path, asked: VerifyConfig) -> str:
    """A line about a budget that the model's context cannot hold, and that its folder therefore does not ask for."""
    from genprm.engines.budgets import declared_context
    from genprm.rewards.genprm.card import verify_values

    context, kept = declared_context(folder), verify_values(str(folder)).get("max_tokens")
    if context is None or context > asked.max_tokens:
        return ""
    return (
        f"Its genprm.json asks for {kept} tokens per step: verify.max_tokens is {asked.max_tokens}, and its context "
        f"holds {context}\n"
    )


def _chats(path: Path) -> list[TrainingSample]:
    from genprm.sources import read_rows
    from genprm.sources.chats import read_chat
    from genprm.sources.counted import Unusable
    from genprm.store import RunReader

    if path.is_dir():
        found = list(RunReader(path).rows("chats"))
        if not found:
            raise DataError(f"the run {path} holds no chats", hint=f"'genprm dropped {path}' says why")
        return found
    found = []
    for row in read_rows(path):
        try:
            found.append(read_chat(row))
        except Unusable as problem:
            raise DataError(
                f"{row.place}: this is not a training chat: {problem}", hint=_hint(row)
            ) from None
    if not found:
        raise DataError(
            f"{path}: no rows", hint="give a file of chats, such as 'genprm export RUN chats' prints"
        )
    return found


def _hint(row: Row) -> str:
    if {"labels", "label"} & row.values.keys():
        return "The row has step labels: 'genprm train-prm' trains a discriminative model on them."
    return (
        "'genprm export RUN chats' prints chats in the right form; 'genprm import FILE -o CHATS' makes them of other "
        "layouts, and leaves out rows that hold none."
    )
