"""Chains on a Ray cluster: a driver hands shards to actors, which lead them as the local executor does."""

from genprm.runs.cluster.connection import check_cluster, connected
from genprm.runs.cluster.crew import Pool
from genprm.runs.cluster.executor import RayExecutor

__all__ = ["Pool", "RayExecutor", "check_cluster", "connected"]
