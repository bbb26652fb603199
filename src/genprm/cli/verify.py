"""`genprm verify`: one problem and solution from flags, a file of many, or the demonstration."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from genprm.cli.flags import Config, Profile, Seed, Set, Votes, engine_flags, settings
from genprm.errors import ConfigError

if TYPE_CHECKING:
    from genprm.config import EngineConfig, RunConfig
    from genprm.records import StepVerdict, Verification, VerifyItem


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("verify")(verify)


def verify(
    file: Annotated[
        str | None,
        typer.Argument(
            help="JSON, JSONL or Parquet with problem and steps or solution; - for standard input.",
            show_default=False,
        ),
    ] = None,
    problem: Annotated[
        str | None, typer.Option(help="The problem, in place of a file.", show_default=False)
    ] = None,
    solution: Annotated[
        str | None,
        typer.Option(
            help="Its solution in one text, split into its steps (at 'Step k:', sections or paragraphs).",
            show_default=False,
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="A folder, a hub id or builtin:verifier; with --url the server's name for the model.",
            show_default=False,
        ),
    ] = None,
    url: Annotated[
        str | None, typer.Option(help="Base URL of an OpenAI-compatible server.", show_default=False)
    ] = None,
    demo: Annotated[
        bool, typer.Option("--demo", help="Judge a built-in example with the packaged verifier.")
    ] = False,
    config: Config = None,
    override: Set = None,
    profile: Profile = None,
    votes: Votes = None,
    seed: Seed = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON record per solution.")] = False,
    show_work: Annotated[
        bool, typer.Option("--show-work", help="Print what the verifier wrote, and what its code printed.")
    ] = False,
) -> None:
    """Check solutions step by step and print a verdict for each step.

    Exits with 1 if a step got no verdict because the model, the engine or the sandbox failed.
    """
    items: Iterable[VerifyItem]
    if demo:
        items = _demo_items(file, problem, solution)
        model = model or ("builtin:verifier" if url is None else None)
        votes = votes or (4 if config is None else None)
    else:
        items = _items(file, problem, solution)
    engine = _engine(model, url, config, override)
    chosen = settings(config, override, engine=engine, profile=profile, votes=votes, seed=seed)
    failed = _print_all(items, chosen, engine, as_json=as_json, show_work=show_work)
    if failed:
        raise typer.Exit(1)


def _engine(
    model: str | None, url: str | None, config: Path | None, override: list[str] | None
) -> EngineConfig:
    """The verifier of the flags, else of `roles.verifier`."""
    if model is None and url is None and (config is not None or override):
        role = settings(config, override).roles.verifier
        if role is not None:
            return role
    return engine_flags(model, url, "")


def _demo_items(file: str | None, problem: str | None, solution: str | None) -> list[VerifyItem]:
    from genprm.worlds.arithmetic.demo import demo_item

    if file is not None or problem is not None or solution is not None:
        raise ConfigError(
            "--demo brings its own solution", hint="Leave out the file, --problem and --solution."
        )
    item = demo_item()
    sys.stdout.write(f"Problem: {item.problem}\n")
    for step in item.steps:
        sys.stdout.write(f"  {step}\n")
    sys.stdout.flush()
    return [item]


def _items(file: str | None, problem: str | None, solution: str | None) -> Iterable[VerifyItem]:
    if (file is None) == (problem is None) or (problem is None) != (solution is None):
        raise ConfigError(
            "give either a file, or both --problem and --solution",
            hint="See genprm verify --help; --demo shows an example.",
        )
    if file is not None:
        return _from_file("/dev/stdin" if file == "-" else file)
    from genprm.api.verification import as_steps, checked_text
    from genprm.records import VerifyItem

    assert problem is not None
    assert solution is not None
    text = checked_text(problem, "the problem")
    return [VerifyItem(id="solution", problem=text, steps=as_steps(checked_text(solution, "the solution")))]


def _from_file(path: str) -> Iterator[VerifyItem]:
    """The file's items. Its first row is read at once, so that a wrong file is reported before a model is loaded."""
    from genprm.records import VerifyItem
    from genprm.sources import iterate_solutions

    items = (
        VerifyItem(id=solution.id, problem=problem.text, steps=solution.steps, problem_id=problem.id)
        for problem, solution in iterate_solutions(path)
    )
    return chain([next(items)], items)


def _print_all(
    items: Iterable[VerifyItem], config: RunConfig, engine: EngineConfig, *, as_json: bool, show_work: bool
) -> int:
    """Verify and print in the order of the items; returns how many solutions have a step without a verdict."""
    from genprm.aio import iterate_sync
    from genprm.cli.verdicts import Printer
    from genprm.rewards import lost_entirely

    faults: Counter[tuple[str, str, bool]] = Counter()
    several = not isinstance(items, list)
    printer = Printer(as_json=as_json, show_work=show_work, headings=several)
    failed = 0
    for row in iterate_sync(_in_order(items, config, engine, None if several or as_json else printer.step)):
        failed += any(verdict.status in ("unparsed", "failed") for verdict in row.verdicts)
        faults.update(found for found in [lost_entirely(row)] if found is not None)
        printer.result(row)
    _print_fault(faults)
    return failed


def _print_fault(faults: Counter[tuple[str, str, bool]]) -> None:
    """Say once why nothing came of some solutions, and what to do about it."""
    from genprm.cli.console import show_error
    from genprm.errors import EngineError
    from genprm.rewards.faults import fault_hint

    if faults:
        (kind, detail, retryable), _ = faults.most_common(1)[0]
        message = f"{faults.total()} solutions were lost entirely; most often: {kind}: {detail}"
        show_error(EngineError(message, hint=fault_hint(kind, retryable=retryable)))


async def _in_order(
    items: Iterable[VerifyItem],
    config: RunConfig,
    engine: EngineConfig,
    on_step: Callable[[StepVerdict], None] | None,
) -> AsyncIterator[Verification]:
    """Verifications as soon as all before them are there."""
    from genprm.runs import Resources

    order: list[str] = []
    waiting: dict[str, Verification] = {}

    def noted() -> Iterator[VerifyItem]:
        for item in items:
            order.append(item.id)
            yield item

    def step(_: str, verdict: StepVerdict) -> None:
        if on_step is not None:
            on_step(verdict)

    printed = 0
    async with Resources(config) as resources:
        verifier = await resources.verifier(engine, config.verify, config.seed)
        async for row in verifier.judge(noted(), on_step=step):
            waiting[row.item_id] = row
            while printed < len(order) and order[printed] in waiting:
                yield waiting.pop(order[printed])
                printed += 1
