"""Measuring a verifier on a benchmark."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from genprm.aio import run_sync
from genprm.api.models import engine_config
from genprm.config import EngineConfig, RunConfig
from genprm.records import Report
from genprm.runs.benchmark import run_benchmark
from genprm.runs.progress import Progress


def evaluate(
    benchmark: str,
    data: Mapping[str, str | Path],
    verifier: EngineConfig | str,
    folder: str | Path,
    *,
    config: RunConfig | None = None,
    limit: int | None = None,
    progress: Progress | None = None,
) -> Report:
    """Measure a verifier on a benchmark; a run that was killed continues where it stopped.

    Args:
        benchmark: `processbench`.
        data: split -> its file (`.json`, `.jsonl`, `.parquet`), or `hub:Qwen/ProcessBench`.
        verifier: a server's URL, `builtin:verifier`, a folder, a hub id, or an engine's config.
        folder: the run directory; gets report.json and report.html.
        config: votes, components, sandbox, seed and the like; a folder that genprm trained knows its own.
        limit: at most so many rows of each split, drawn by the config's seed, erroneous and right ones in the
            split's own proportion.

    Returns:
        The report: ProcessBench's metrics for each split with 95 % intervals.
    """
    engine = engine_config(verifier)
    chosen = config or default_config(engine)
    roles = chosen.roles.model_copy(update={"verifier": engine})
    chosen = chosen.model_copy(update={"roles": roles})
    splits = {split: str(path) for split, path in data.items()}
    return run_sync(run_benchmark(benchmark, splits, chosen, Path(folder), limit=limit, progress=progress))


def default_config(engine: EngineConfig) -> RunConfig:
    """A config that asks a model as its folder wants to be asked."""
    from genprm.api.models import verify_options

    return RunConfig(verify=verify_options(engine, None))
