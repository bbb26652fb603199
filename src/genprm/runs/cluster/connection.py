"""The way to a Ray cluster: what can be wrong with it is found out before anything waits for it."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from genprm.config import ExecutorConfig, RunConfig
from genprm.errors import ClusterError, ConfigError, MissingExtraError

if TYPE_CHECKING:
    from types import ModuleType

_CONNECT_SECONDS = 5.0


def check_cluster(config: RunConfig) -> None:
    """Find out cheaply whether a config's cluster can be used.

    Raises:
        MissingExtraError: Ray is not installed.
        ConfigError: an address of another kind, or a cache of completions, which nodes cannot share.
        ClusterError: nobody listens at the address.
    """
    ray = load_ray()
    roles = config.roles
    for name in ("policy", "completer", "teacher", "verifier"):
        role = getattr(roles, name)
        if role is not None and role.cache:
            raise ConfigError(
                f"roles.{name}.cache: completions cannot be kept with the executor 'ray': their file cannot be shared "
                "by nodes",
                hint=f"Set roles.{name}.cache=false; finished shards are kept in any case.",
            )
    address, where = config.executor.address, "executor.address"
    if not address and not ray.is_initialized():  # a process that is connected does not look there
        address, where = os.environ.get("RAY_ADDRESS", ""), "RAY_ADDRESS"
    if address and address not in ("auto", "local"):
        _check_address(address, where)


@contextmanager
def connected(options: ExecutorConfig) -> Iterator[None]:
    """A connection to the cluster for as long as the context; one that the process has already is used and kept.

    Raises:
        MissingExtraError: Ray is not installed.
        ClusterError: the cluster cannot be reached, or is of another version.
        ConfigError: a runtime environment that Ray refuses; or one, or an address, for a process that is connected.
    """
    ray = load_ray()
    if ray.is_initialized():
        _check_connection(ray.get_runtime_context().gcs_address, options)
        yield
        return
    os.environ.setdefault(
        "RAY_USAGE_STATS_ENABLED", "0"
    )  # a cluster made for a run reports nothing to anybody
    try:
        ray.init(
            address=options.address,
            runtime_env=options.runtime_env or None,
            logging_level="error",
            log_to_driver=False,
        )
    except (TypeError, ValueError) as error:
        raise ConfigError(f"executor: Ray refuses its options: {_first_line(error)}") from None
    except (OSError, RuntimeError) as error:
        raise ClusterError(
            f"the Ray cluster cannot be reached: {_first_line(error)}",
            hint="See executor.address, and `ray status` there. All nodes need the same Ray and Python.",
        ) from None
    try:
        yield
    finally:
        ray.shutdown()


def load_ray() -> ModuleType:
    """The module `ray`.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import ray
    except ImportError as error:
        raise MissingExtraError("ray", "ray", "the executor 'ray'", error) from error
    return ray


def deaths(ray: Any) -> tuple[type[Exception], ...]:
    """The errors that say that an actor is gone, or what it had made."""
    known = ray.exceptions
    return (
        known.RayActorError,
        known.WorkerCrashedError,
        known.NodeDiedError,
        known.ObjectLostError,
        known.OutOfMemoryError,
    )


def _check_address(address: str, where: str) -> None:
    """Raise unless somebody listens there; `where` names the setting."""
    if "://" in address:
        raise ConfigError(
            f"{where}: '{address}' is the address of a Ray client server or of a job server",
            hint="Give HOST:PORT of the cluster (6379 by default), and start the run on a node that sees the run "
            "directory, for example with `ray job submit`.",
        )
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise ConfigError(
            f"{where}: '{address}' is not HOST:PORT", hint="For example 10.0.0.1:6379, or auto."
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise ClusterError(
            f"no Ray cluster can be reached at {address}: {error}",
            hint=f"Start one with `ray start --head --port 6379`, or correct {where}.",
        ) from None


def _check_connection(address: str, options: ExecutorConfig) -> None:
    """Keys that would do nothing are refused."""
    wrong = ""
    if options.address not in (None, "auto", address):
        wrong = "address"
    elif options.runtime_env:
        wrong = "runtime_env"
    if wrong:
        raise ConfigError(
            f"executor.{wrong} would do nothing: this process is connected to the Ray cluster at {address} already",
            hint="Leave it out, give it to ray.init, or call ray.shutdown() before.",
        )


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
