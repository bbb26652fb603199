"""`genprm verify`: one problem and solution from flags, a file of many, or the demonstration."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from genprm.cli.flags import WRITTEN, Config, Profile, Seed, Set, Votes, engine_flags, kept_in, settings
from genprm.errors import ConfigError
from genprm.text.counts import counted

if TYPE_CHECKING:
    from genprm.cli.verdicts import Printer
    from genprm.config import EngineConfig, RunConfig
    from genprm.records import StepVerdict, Verification, VerifyItem

_TASK = "verify"
_SHARD_SIZE, _SHARDS_IN_FLIGHT = 8, 32
"""Of a kept verification, unless a config says otherwise."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("verify")(verify)


def verify(
    file: Annotated[
        str | None,
        typer.Argument(
            help="JSON, JSONL, CSV, TSV or Parquet with problem and steps or solution; - for JSON on standard input.",
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
    run_dir: Annotated[
        Path | None,
        typer.Option(
            "--run-dir",
            "-o",
            help="Keep the results here as well.",
            show_default="nothing is kept",
            **WRITTEN,
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON record per solution, in the order of the rows.")
    ] = False,
    show_work: Annotated[
        bool, typer.Option("--show-work", help="Print what the verifier wrote, and what its code printed.")
    ] = False,
) -> None:
    """Check solutions step by step and print a verdict for each step.

    With --run-dir every finished solution is kept, and the same command resumes what was killed.

    Exits with 1 if a step got no verdict because the model, the engine or the sandbox failed.
    """
    from genprm.cli.verdicts import Printer

    items: Iterable[VerifyItem]
    names: dict[str, str] = {}
    if as_json and show_work:
        raise ConfigError("--json holds what --show-work prints", hint="Leave out one of the two.")
    if demo:
        items = _demo_items(file, problem, solution)
        model = model or ("builtin:verifier" if url is None else None)
        votes = votes or (4 if config is None else None)
    else:
        items = _items(file, problem, solution, names)
    engine = engine_flags(model, url, "", settings(config, override).roles.verifier)
    chosen = settings(config, override, engine=engine, profile=profile, votes=votes, seed=seed)
    printer = Printer(
        as_json=as_json, show_work=show_work, names=None if isinstance(items, list) else names
    )
    if run_dir is not None:
        rows = _in_run(items, chosen, engine, run_dir)
    else:
        live = isinstance(items, list) and not as_json
        rows = _verified(items, chosen, engine, printer.step if live else None)
    with kept_in(run_dir):
        failed = _print_all(rows, printer)
    if failed:
        raise typer.Exit(1)


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


def _items(
    file: str | None, problem: str | None, solution: str | None, names: dict[str, str]
) -> Iterable[VerifyItem]:
    if (file is None) == (problem is None) or (problem is None) != (solution is None):
        raise ConfigError(
            "give either a file, or both --problem and --solution",
            hint="See genprm verify --help; --demo shows an example.",
        )
    if file is not None:
        return _from_file("/dev/stdin" if file == "-" else file, names)
    from genprm.api.verification import as_steps
    from genprm.records import VerifyItem
    from genprm.text.checked import checked_text

    assert problem is not None
    assert solution is not None
    text = checked_text(problem, "the problem")
    return [VerifyItem(id="solution", problem=text, steps=as_steps(checked_text(solution, "the solution")))]


def _from_file(path: str, names: dict[str, str]) -> Iterator[VerifyItem]:
    """The file's items. Its first row is read at once, so that a wrong file is reported before a model is loaded.

    Args:
        names: gets the places of rows without an id of their own, by the ids that they are given.
    """
    from genprm.records import VerifyItem
    from genprm.sources.solutions import named_solutions

    def read() -> Iterator[VerifyItem]:
        for name, (problem, solution) in named_solutions(path):
            if name != solution.id:
                names[solution.id] = name
            yield VerifyItem(
                id=solution.id, problem=problem.text, steps=solution.steps, problem_id=problem.id
            )

    items = read()
    return chain([next(items)], items)


def _print_all(rows: Iterable[Verification], printer: Printer) -> int:
    """Print verifications as they come; returns how many solutions have a step without a verdict."""
    from genprm.rewards import lost_entirely

    faults: Counter[tuple[str, str, bool]] = Counter()
    failed = 0
    for row in rows:
        failed += any(verdict.status in ("unparsed", "failed") for verdict in row.verdicts)
        faults.update(found for found in [lost_entirely(row)] if found is not None)
        printer.result(row)
    _print_fault(faults)
    return failed


def _verified(
    items: Iterable[VerifyItem],
    config: RunConfig,
    engine: EngineConfig,
    on_step: Callable[[StepVerdict], None] | None,
) -> Iterator[Verification]:
    """Verifications in the items' order. Their progress is shown if nobody sees them appear."""
    from genprm.aio import iterate_sync
    from genprm.cli.console import Bars

    if isinstance(items, list) or sys.stdout.isatty():
        yield from iterate_sync(_in_order(items, config, engine, on_step, lambda: None))
        return
    with Bars() as bars:
        bars.begin(_TASK, None)
        count = 0
        for row in iterate_sync(_in_order(items, config, engine, on_step, lambda: bars.advance(_TASK, 1))):
            count += 1
            yield row
        bars.end(_TASK, counted(count, "solution"))


def _in_run(
    items: Iterable[VerifyItem], config: RunConfig, engine: EngineConfig, folder: Path
) -> Iterator[Verification]:
    """Verifications that are kept in a run directory in small shards, so that little is lost to a kill."""
    from genprm.aio import run_sync
    from genprm.cli.console import Bars
    from genprm.config import StoreConfig
    from genprm.runs.scaling import given_chain, run_chain, verified_rows, with_steps

    if "store" not in config.model_fields_set:
        small = StoreConfig(shard_size=_SHARD_SIZE, shards_in_flight=_SHARDS_IN_FLIGHT)
        config = config.model_copy(update={"store": small})
    given = list(items)
    problems = [with_steps(item) for item in given]
    chain = given_chain(config, engine, name=_TASK)
    with Bars() as bars:
        reader = run_sync(run_chain(chain, problems, config, folder, total=len(problems), progress=bars))
    yield from verified_rows(reader, _TASK, given, config.verify.votes)


def _print_fault(faults: Counter[tuple[str, str, bool]]) -> None:
    """Say once why nothing came of some solutions, and what to do about it."""
    from genprm.cli.console import show_error
    from genprm.errors import EngineError
    from genprm.rewards.faults import fault_hint

    if faults:
        (kind, detail, retryable), _ = faults.most_common(1)[0]
        message = f"{counted(faults.total(), 'solution')} lost entirely; most often: {kind}: {detail}"
        show_error(EngineError(message, hint=fault_hint(kind, retryable=retryable)))


async def _in_order(
    items: Iterable[VerifyItem],
    config: RunConfig,
    engine: EngineConfig,
    on_step: Callable[[StepVerdict], None] | None,
    on_done: Callable[[], None],
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
            on_done()
            while printed < len(order) and order[printed] in waiting:
                yield waiting.pop(order[printed])
                printed += 1
