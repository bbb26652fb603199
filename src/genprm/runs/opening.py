"""What a config asks for, opened: its run directory and its executor."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from genprm.config import RunConfig, dump_config
from genprm.runs.executor import Executor, LocalExecutor
from genprm.runs.facts import run_facts
from genprm.runs.progress import Progress
from genprm.runs.resources import Resources
from genprm.store import Mirror, RunStore


def open_store(folder: Path, config: RunConfig, progress: Progress, *, part: str = "") -> RunStore:
    """The run directory of a config; see `RunStore`.

    Raises:
        MissingExtraError, ConfigError: there is no way to the config's mirror; see `Mirror`.
    """
    mirror = config.store.mirror
    return RunStore(
        folder,
        config=dump_config(config),
        part=part,
        facts=run_facts(config.seed),
        format=config.store.format,
        on_repair=progress.note,
        mirror=Mirror(mirror) if mirror is not None else None,
    )


def check_executor(config: RunConfig) -> None:
    """Find out cheaply whether the executor of a config can be had.

    Raises:
        MissingExtraError, ConfigError, ClusterError: see `genprm.runs.cluster.check_cluster`.
    """
    if config.executor.kind == "ray":
        from genprm.runs.cluster import check_cluster

        check_cluster(config)


@asynccontextmanager
async def open_executor(config: RunConfig, store: RunStore, progress: Progress) -> AsyncIterator[Executor]:
    """The executor of a config; its engines and sandboxes end with the context.

    Raises:
        MissingExtraError, ConfigError, ClusterError: there is no Ray, or no such cluster.
    """
    size, in_flight = config.store.shard_size, config.store.shards_in_flight
    check_executor(config)
    if config.executor.kind == "local":
        async with Resources(config, store.path / "completions") as resources:
            yield LocalExecutor(
                store, resources, shard_size=size, shards_in_flight=in_flight, progress=progress
            )
        return
    from genprm.runs.cluster import Pool, RayExecutor, connected

    with connected(config.executor):
        pool = Pool(config.executor)
        try:
            yield RayExecutor(
                store, pool, config, shard_size=size, shards_in_flight=in_flight, progress=progress
            )
        finally:
            await pool.close()
