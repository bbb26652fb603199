"""Several Ray nodes on one machine, each of which can be killed."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import Any

import genprm

TESTS = Path(__file__).parent
SOURCE = Path(genprm.__file__).parents[1]


def environment() -> dict[str, Any]:
    """Ray's runtime environment of actors that import from these tests."""
    return {"env_vars": {"PYTHONPATH": os.pathsep.join(map(str, (SOURCE, TESTS)))}}


class Nodes:
    """A cluster; the first node is its head."""

    def __init__(self, count: int = 3) -> None:
        self._count = count
        self.environment = environment()

    def __enter__(self) -> Nodes:
        from ray.cluster_utils import Cluster

        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        self._cluster = Cluster(initialize_head=True, head_node_args=self._arguments())
        self._others: list[Any] = []
        for _ in range(self._count - 1):
            self.add_other()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._cluster.shutdown()

    @property
    def address(self) -> str:
        return str(self._cluster.address)

    def add_other(self) -> None:
        self._others.append(self._cluster.add_node(**self._arguments()))

    def kill(self) -> None:
        """Kill a node that is not the head, and all that runs there."""
        self._cluster.remove_node(self._others.pop(0), allow_graceful=False)

    @staticmethod
    def _arguments() -> dict[str, Any]:
        return {"num_cpus": 1, "include_dashboard": False, "object_store_memory": 100 * 2**20}
