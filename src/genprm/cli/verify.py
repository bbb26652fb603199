"""`genprm verify`: one problem and solution from flags, a file or standard input."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from genprm.errors import ConfigError, DataError

if TYPE_CHECKING:
    from genprm.config import EngineConfig, RunConfig
    from genprm.records import StepVerdict, Verification
    from genprm.rewards import VerifyItem


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("verify")(verify)


def verify(
    file: Annotated[
        str | None,
        typer.Argument(help="JSON or JSONL with problem and steps or solution; - for standard input."),
    ] = None,
    problem: Annotated[str | None, typer.Option(help="The problem, in place of a file.")] = None,
    solution: Annotated[
        str | None, typer.Option(help="Its solution: steps marked 'Step k:', or paragraphs.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Model: a local path or hub id, or the server's name for it.")
    ] = None,
    url: Annotated[str | None, typer.Option(help="Base URL of an OpenAI-compatible server.")] = None,
    config: Annotated[
        Path | None, typer.Option(help="YAML config; its 'verify' and 'sandbox' sections count.")
    ] = None,
    override: Annotated[
        list[str] | None, typer.Option("--set", help="Override: section.key=value; repeatable.")
    ] = None,
    profile: Annotated[str | None, typer.Option(help="Prompt profile.")] = None,
    votes: Annotated[int | None, typer.Option(help="Verification paths for each step.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the sampling.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON record a solution.")] = False,
) -> None:
    """Check a solution step by step and print a verdict for each step."""
    import asyncio

    settings = settings_from_flags(config, override or [], profile, votes)
    engine = engine_from_flags(model, url)
    items = _items(file, problem, solution)
    failed = asyncio.run(_verify(items, settings, engine, seed, as_json))
    if failed:
        raise typer.Exit(1)


def settings_from_flags(
    config: Path | None, overrides: list[str], profile: str | None, votes: int | None
) -> RunConfig:
    """The config that the flags of `verify` and `eval` add up to."""
    from genprm.config import RunConfig, load_config

    extra = [*overrides]
    if profile is not None:
        extra.append(f"verify.profile={profile}")
    if votes is not None:
        extra.append(f"verify.votes={votes}")
    return load_config(config, extra, model=RunConfig)


def engine_from_flags(model: str | None, url: str | None) -> EngineConfig:
    """The engine that `--model` and `--url` name."""
    from genprm.config import EngineConfig

    if url is not None:
        options: dict[str, Any] = {"base_urls": url}
        if model is not None:
            options["model"] = model
        return EngineConfig(kind="http", options=options)
    if model is None:
        raise ConfigError(
            "no verifier is named", hint="Give --url of a server, or --model with a local path or hub id."
        )
    return EngineConfig(kind="local", options={"model": model})


def _items(file: str | None, problem: str | None, solution: str | None) -> list[VerifyItem]:
    from genprm.rewards import VerifyItem
    from genprm.sources import load_solutions
    from genprm.text.steps import split_steps

    if (file is None) == (problem is None) or (problem is None) != (solution is None):
        raise ConfigError(
            "give either a file, or both --problem and --solution", hint="See genprm verify --help."
        )
    if file is not None:
        pairs = load_solutions("/dev/stdin" if file == "-" else file)
        return [
            VerifyItem(id=solution.id, problem=one.text, steps=solution.steps) for one, solution in pairs
        ]
    assert problem is not None
    assert solution is not None
    steps = split_steps(solution)
    if not problem.strip() or not steps:
        raise DataError("the problem or the solution is empty", hint="Give a text with at least one step.")
    return [VerifyItem(id="cli", problem=problem, steps=tuple(steps))]


async def _verify(
    items: list[VerifyItem], settings: RunConfig, engine: EngineConfig, seed: int, as_json: bool
) -> int:
    """Verify and print; returns how many solutions have a step without a verdict."""
    from genprm.rewards import Verifier
    from genprm.runs import Resources

    failed = 0
    async with Resources(settings.sandbox) as resources:
        on_step = None if as_json or len(items) > 1 else StepTable()
        verifier = Verifier(
            await resources.engine(engine),
            await resources.sandbox(),
            settings.verify,
            seed=seed,
            concurrency=settings.concurrency,
            on_step=on_step,
        )
        async for result in verifier.stream(items):
            failed += any(verdict.status in ("unparsed", "failed") for verdict in result.verdicts)
            if as_json:
                sys.stdout.write(json.dumps(result.model_dump(mode="json"), ensure_ascii=False) + "\n")
                sys.stdout.flush()
            else:
                if on_step is None:
                    table = StepTable()
                    for verdict in result.verdicts:
                        table(result.item_id, verdict)
                _print_summary(result)
    return failed


class StepTable:
    """Prints a row for each step as soon as its verdict stands."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console()
        self._started = False

    def __call__(self, item_id: str, verdict: StepVerdict) -> None:
        """Print a verdict."""
        from rich.text import Text

        if not self._started:
            self._console.print(
                Text(f"{'step':>4}  {'verdict':<8}  {'reward':>6}  {'votes':>7}  note", style="bold")
            )
            self._started = True
        word, style = _word(verdict)
        counted = sum(vote.reward is not None for vote in verdict.votes)
        reward = "-" if verdict.reward is None else f"{verdict.reward:.3f}"
        row = Text.assemble(
            f"{verdict.step + 1:>4}  ",
            (f"{word:<8}", style),
            f"  {reward:>6}  {f'{counted}/{len(verdict.votes)}':>7}  {_note(verdict)}",
        )
        self._console.print(row, soft_wrap=True)


def _word(verdict: StepVerdict) -> tuple[str, str]:
    if verdict.judgement is None:
        return verdict.status, "yellow"
    return ("right", "green") if verdict.judgement else ("wrong", "red")


def _note(verdict: StepVerdict) -> str:
    """Why there is no verdict, or what the code printed on the first path."""
    if verdict.reason:
        return verdict.reason
    for vote in verdict.votes:
        if vote.rationale is not None and vote.rationale.rounds:
            output = vote.rationale.rounds[-1].output
            return "" if output is None else f"code: {' '.join(output.split())[:60]}"
    return ""


def _print_summary(result: Verification) -> None:
    from rich.console import Console

    from genprm.records import NO_ERROR

    console = Console()
    if result.first_error is None:
        found = "unknown: a verdict is missing"
    elif result.first_error == NO_ERROR:
        found = "none"
    else:
        found = f"step {result.first_error + 1}"
    scores = ", ".join(
        f"{name} {'unknown' if value is None else f'{value:.3f}'}"
        for name, value in result.score.model_dump().items()
    )
    console.print(f"first error: {found}; scores: {scores}; {result.usage.completion_tokens} tokens")
