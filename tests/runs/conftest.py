"""A Ray cluster of three nodes on this machine, for the tests that ask for one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from ray_nodes import Nodes

if TYPE_CHECKING:
    from faulty_chain import Maker

    from genprm.runs import Executor, Progress
    from genprm.store import RunStore


@pytest.fixture(scope="session")
def nodes() -> Iterator[Nodes]:
    with Nodes() as running:
        yield running


@pytest.fixture(scope="module")
def on_ray(nodes: Nodes) -> Iterator[Maker]:
    """Makes executors with one or two actors, which are kept from one to the next."""
    from genprm.config import ExecutorConfig, RunConfig
    from genprm.runs.cluster import Pool, RayExecutor, connected

    options = ExecutorConfig(address=nodes.address, runtime_env=nodes.environment, cpus_per_actor=0.1)
    with connected(options):
        pools = {count: Pool(options.model_copy(update={"actors": count})) for count in (1, 2)}

        @asynccontextmanager
        async def make(
            store: RunStore, *, shard_size: int, in_flight: int, progress: Progress
        ) -> AsyncIterator[Executor]:
            actors = min(in_flight, 2)
            yield RayExecutor(
                store,
                pools[actors],
                RunConfig(),
                shard_size=shard_size,
                shards_in_flight=in_flight // actors,
                progress=progress,
            )

        yield make
