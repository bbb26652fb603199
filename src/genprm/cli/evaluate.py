"""`genprm eval`: benchmarks, run through the store, so that they resume."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from genprm.cli.verify import engine_from_flags, settings_from_flags
from genprm.errors import ConfigError

if TYPE_CHECKING:
    from genprm.config import EngineConfig, RunConfig
    from genprm.evals.processbench import ProcessBenchItem
    from genprm.records import Verification

BENCHMARKS = ("processbench",)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("eval")(evaluate)


def evaluate(
    benchmark: Annotated[str, typer.Argument(help="Benchmark: processbench.")],
    data: Annotated[list[Path], typer.Argument(help="Its files, one a split: JSON, JSONL or Parquet.")],
    run_dir: Annotated[Path, typer.Option("--run-dir", "-o", help="Run directory.")] = Path("runs/eval"),
    model: Annotated[
        str | None, typer.Option(help="Model: a path, a hub id, or the server's name.")
    ] = None,
    url: Annotated[str | None, typer.Option(help="Base URL of an OpenAI-compatible server.")] = None,
    config: Annotated[Path | None, typer.Option(help="YAML config.")] = None,
    override: Annotated[
        list[str] | None, typer.Option("--set", help="section.key=value; repeatable.")
    ] = None,
    profile: Annotated[str | None, typer.Option(help="Prompt profile.")] = None,
    votes: Annotated[int | None, typer.Option(help="Verification paths for each step.")] = None,
    limit: Annotated[int | None, typer.Option(help="At most so many rows of each split.", min=1)] = None,
) -> None:
    """Measure a verifier on a benchmark; prints a table and writes report.json."""
    import asyncio

    from genprm.evals.processbench import load_processbench

    if benchmark not in BENCHMARKS:
        raise ConfigError(f"there is no benchmark '{benchmark}'", hint=f"Known: {', '.join(BENCHMARKS)}.")
    settings = settings_from_flags(config, override or [], profile, votes)
    engine = engine_from_flags(model, url)
    splits = {path.stem: load_processbench(path, limit) for path in data}
    report = asyncio.run(_run(splits, settings, engine, run_dir))
    _print(report)


async def _run(
    splits: dict[str, list[ProcessBenchItem]], settings: RunConfig, engine: EngineConfig, run_dir: Path
) -> dict[str, Any]:
    from genprm.cli.console import Bars
    from genprm.config import dump_config
    from genprm.evals.processbench import average
    from genprm.evals.processbench import evaluate as measure
    from genprm.runs import Resources
    from genprm.runs.facts import run_facts
    from genprm.store import RunStore

    with RunStore(run_dir, format=settings.store.format) as store, Bars() as bars:
        store.describe(dump_config(settings), run_facts(settings.seed))
        async with Resources(settings.sandbox, store) as resources:
            rows = {
                name: await _verify(name, items, settings, engine, resources, store, bars)
                for name, items in splits.items()
            }
        results = {
            name: measure(items, [row.first_error for row in rows[name]]) for name, items in splits.items()
        }
        report = {
            "benchmark": "processbench",
            "splits": {name: result.model_dump(mode="json") for name, result in results.items()},
            "average": average(results).model_dump(mode="json"),
            "tokens": sum(row.usage.completion_tokens for several in rows.values() for row in several),
            "config": settings.verify.model_dump(mode="json"),
            **run_facts(settings.seed),
        }
        store.write_json("report.json", report)
    return report


async def _verify(
    name: str,
    items: Sequence[ProcessBenchItem],
    settings: RunConfig,
    engine: EngineConfig,
    resources: Any,
    store: Any,
    bars: Any,
) -> list[Verification]:
    from genprm.records import StageOutput, Verification, VerifyItem
    from genprm.rewards import Verifier, raise_if_all_failed
    from genprm.runs import Stage, engine_identity, run_stage

    options = settings.verify.model_copy(update={"stop_at_first_error": True})

    async def run(shard: Sequence[VerifyItem]) -> StageOutput[Verification]:
        verifier = Verifier(
            await resources.engine(engine),
            await resources.sandbox(),
            options,
            seed=settings.seed,
            concurrency=settings.concurrency,
        )
        rows = await verifier.verify_many(shard)
        raise_if_all_failed(rows)
        return StageOutput(tuple(rows))

    stage = Stage(
        f"processbench-{name}", Verification, [options, engine_identity(engine), settings.seed], run
    )
    wanted = [VerifyItem(id=item.id, problem=item.problem, steps=item.steps) for item in items]
    return await run_stage(store, stage, wanted, shard_size=settings.store.shard_size, progress=bars)


def _print(report: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("split", "error acc.", "correct acc.", "F1", "unparsed %", "erroneous", "correct")
    for name, row in {**report["splits"], "average": report["average"]}.items():
        figures = [row[key] for key in ("error_accuracy", "correct_accuracy", "f1", "unparsed")]
        shown = ["unknown" if figure is None else f"{figure:.1f}" for figure in figures]
        table.add_row(name, *shown, str(row["erroneous"]), str(row["correct"]))
    Console().print(table)
