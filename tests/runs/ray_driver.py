"""ADDRESS RUN NOTES COUNT: run the faulty chain once on a Ray cluster, as a process that can be killed."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from faulty_chain import Notes, chain, execute, problems
from ray_nodes import environment

from genprm.config import ExecutorConfig, RunConfig
from genprm.runs import Executor, Progress
from genprm.runs.cluster import Pool, RayExecutor, connected
from genprm.store import RunStore


def main() -> None:
    address, run, notes, count = sys.argv[1:]
    options = ExecutorConfig(
        kind="ray", address=address, actors=2, cpus_per_actor=0.1, runtime_env=environment()
    )

    @asynccontextmanager
    async def make(
        store: RunStore, *, shard_size: int, in_flight: int, progress: Progress
    ) -> AsyncIterator[Executor]:
        with connected(options):
            pool = Pool(options)
            try:
                yield RayExecutor(
                    store, pool, RunConfig(), shard_size=shard_size, shards_in_flight=1, progress=progress
                )
            finally:
                await pool.close()

    asyncio.run(execute(make, Path(run), chain(Notes(Path(notes))), problems(int(count))))


if __name__ == "__main__":
    main()
