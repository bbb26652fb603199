"""The executor on a Ray cluster. The driver reads problems, leases shards, counts and sums up; actors do the work."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from genprm.config import EngineConfig, RunConfig
from genprm.runs.cluster.crew import Crew, Pool
from genprm.runs.executor import Executor, Leader
from genprm.runs.ledger import Ledger
from genprm.runs.progress import Progress
from genprm.runs.stage import Chain
from genprm.store import RunStore


class RayExecutor(Executor):
    """Runs chains with actors. What they write is what `LocalExecutor` writes, times apart.

    A shard whose actor dies, or whose node, is given to another one; what the dead one had finished of it is read.

    Args:
        store: the run directory, open; without a mirror on a file system that all nodes see at the same path.
        pool: the actors.
        config: of the run, for the actors' engines and sandboxes.
        shard_size: problems per shard.
        shards_in_flight: shards in work at the same time, for each actor.
    """

    def __init__(
        self,
        store: RunStore,
        pool: Pool,
        config: RunConfig,
        *,
        shard_size: int = 64,
        shards_in_flight: int = 4,
        progress: Progress | None = None,
    ) -> None:
        in_flight = shards_in_flight * len(pool.seats)
        super().__init__(store, shard_size=shard_size, in_flight=in_flight, progress=progress)
        self._pool = pool
        self._config = config
        self._each = shards_in_flight

    @asynccontextmanager
    async def _leader(self, chain: Chain, ledger: Ledger) -> AsyncIterator[Leader]:
        with self._store.mandate() as mandate:
            crew = Crew(self._pool, chain, self._config, self._store, mandate, ledger, each=self._each)
            async with crew:
                yield crew

    async def release(self, engine: EngineConfig) -> None:
        """See `Executor`."""
        await self._pool.release(engine)
