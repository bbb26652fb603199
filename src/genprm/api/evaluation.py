"""Measuring a verifier on a benchmark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from genprm.aio import run_sync
from genprm.api.models import engine_config, given_section, is_engine, shortened, verify_options
from genprm.config import EngineConfig, RunConfig
from genprm.errors import ConfigError
from genprm.evals.processbench import SPLITS
from genprm.records import Report
from genprm.runs.benchmark import run_benchmark
from genprm.runs.progress import Progress
from genprm.sources.row import HUB_PREFIX


def evaluate(
    benchmark: str,
    data: Mapping[str, str | Path] | Sequence[str | Path] | str | Path,
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
        data: split -> its file (`.json`, `.jsonl`, `.parquet`), or `hub:Qwen/ProcessBench`; or files alone, which are
            named after their splits (`gsm8k.json`).
        verifier: a server's URL, `builtin:verifier`, a folder, a hub id, or an engine's config.
        folder: the run directory; gets report.json and report.html.
        config: votes, components, sandbox, seed and the like; what it does not set is as the verifier's folder says, if
            genprm trained it.
        limit: at most so many rows of each split, drawn by the config's seed, erroneous and right ones in the
            split's own proportion.

    Returns:
        The report: ProcessBench's metrics for each split with 95 % intervals.

    Raises:
        ConfigError: a wrong argument, or an engine object: a run that resumes has to know its engine's config.
    """
    if is_engine(verifier):
        raise ConfigError(
            f"an evaluation cannot use the engine object {shortened(verifier)}: its run directory is resumed by a config",
            hint="Give a URL, a folder, a hub id, builtin:verifier, or genprm.EngineConfig(kind=..., options=...).",
        )
    engine = engine_config(verifier)
    chosen = given_section(config, RunConfig, "the config of an evaluation") or RunConfig()
    roles = chosen.roles.model_copy(update={"verifier": engine})
    chosen = chosen.model_copy(update={"roles": roles, "verify": verify_options(engine, chosen.verify)})
    splits = {split: str(path) for split, path in named_splits(data).items()}
    return run_sync(run_benchmark(benchmark, splits, chosen, Path(folder), limit=limit, progress=progress))


def named_splits(
    data: Mapping[str, str | Path] | Sequence[str | Path] | str | Path,
) -> dict[str, str | Path]:
    """Files by their splits; without names each is the split that it is named after: `gsm8k.json`, `gsm8k.jsonl.gz`.

    `hub:ID` without a name has all splits of the benchmark.

    Raises:
        ConfigError: no files, or two of one split.
    """
    hint = 'Give {"gsm8k": "gsm8k.json"}, or files that are named after their splits.'
    if isinstance(data, Mapping):
        return dict(data)
    if not isinstance(data, str | Path | Sequence):
        raise ConfigError(f"data cannot be {shortened(data)}", hint=hint)
    found: dict[str, str | Path] = {}
    for path in [data] if isinstance(data, str | Path) else data:
        if not isinstance(path, str | Path):
            raise ConfigError(f"{shortened(path)} names no split", hint=hint)
        on_hub = str(path).startswith(HUB_PREFIX)
        for split in SPLITS if on_hub else (Path(path).name.partition(".")[0],):
            if split in found:
                raise ConfigError(
                    f"{found[split]} and {path} are both the split '{split}'",
                    hint="Rename one, or evaluate it alone.",
                )
            found[split] = path
    return found
