"""Running the server: from a config and a verifier to a listening socket, until SIGTERM or Ctrl-C."""

from __future__ import annotations

import asyncio
import importlib.util
import signal
import socket
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from genprm.aio import cancel_all
from genprm.config import ServeConfig, VerifyConfig
from genprm.errors import ConfigError, MissingExtraError
from genprm.rewards.base import StepReward
from genprm.serve.history import History
from genprm.serve.keys import Keys, check_address
from genprm.serve.limits import ANY
from genprm.serve.service import BusyPolicy, RewardService

if TYPE_CHECKING:
    import uvicorn
    from fastapi import FastAPI

_BACKLOG = 2048
_UNREAD_SECONDS = 120.0  # longer than what may hold up a client's reading, such as a training step
LAST_WORDS_SECONDS = 5
"""For the answers of what the end of the drain cut off."""
_KEEP_ALIVE_SECONDS = (
    75  # longer than clients keep a silent connection, or they ask on one that is just being closed
)


def check_serving(config: ServeConfig, verify: VerifyConfig) -> None:
    """Find out what keeps a server from being started, before a model is loaded.

    Raises:
        MissingExtraError: FastAPI, uvicorn or prometheus-client is not installed.
        ConfigError: an address that others reach without a key; a key that is no hash, or a file of keys that cannot be
            used; limits of a key that is not there; options of verification that leave out steps.
    """
    for module in ("fastapi", "uvicorn", "prometheus_client"):
        if importlib.util.find_spec(module) is None:
            raise MissingExtraError(module, "serve", "the reward server")
    check_address(config.host, Keys(config), open_without_keys=config.open_without_keys)
    _check_limits(config)
    if verify.stop_at_first_error:
        raise ConfigError(
            "verify.stop_at_first_error leaves the steps after an error without a reward, and so every wrong solution "
            "without a score",
            hint="Serve with verify.stop_at_first_error=false.",
        )
    if config.busy_voting is not None and verify.voting != "all":
        raise ConfigError(
            f"serve.busy_voting changes nothing that verify.voting={verify.voting} does not do already",
            hint="Serve with verify.voting=all, or without serve.busy_voting.",
        )


def _check_limits(config: ServeConfig) -> None:
    """A mistyped name would leave its key without limits. What a file of keys will name is not known."""
    unknown = sorted(config.limits.keys() - config.api_keys.keys() - {ANY})
    if unknown and config.api_keys_file is None:
        names = [f"'{name}'" for name in (*sorted(config.api_keys), ANY)]
        raise ConfigError(
            f"serve.limits bounds '{unknown[0]}', but serve.api_keys has no key of this name",
            hint=f"Names: {', '.join(names)} (all others, and everybody if there are no keys).",
        )


def bound(config: ServeConfig, unread_seconds: float = _UNREAD_SECONDS) -> socket.socket:
    """A socket at the address of a config, to be closed by the caller.

    Args:
        unread_seconds: after which a client that takes nothing of its answer is cut off (on Linux). Otherwise the answer
            would stay in memory for as long as the client likes.

    Raises:
        ConfigError: the address is in use, or is not this machine's.
    """
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    # With its protocol named, asyncio switches Nagle's algorithm off. Otherwise the end of an answer waits 40 ms for the
    # client to acknowledge its beginning.
    found = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # the connections that are accepted inherit it
        found.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(1000 * unread_seconds))
    try:
        found.bind((config.host, config.port))
    except OSError as error:
        found.close()
        raise ConfigError(
            f"cannot listen on {config.host}:{config.port}: {error.strerror or error}",
            hint="Choose another address or port: serve.host, serve.port.",
        ) from None
    return found


def open_history(config: ServeConfig) -> History | None:
    """The history that a config names, to be closed by the caller; None if it names none.

    Raises:
        ConfigError: the file cannot be written.
    """
    if config.history is None:
        return None
    return History(config.history, content=config.history_content, days=config.history_days)


def make_service(
    config: ServeConfig,
    reward: StepReward,
    busy: StepReward | None = None,
    history: History | None = None,
) -> RewardService:
    """The service that a config describes.

    Args:
        busy: the reward for `serve.busy_voting`.
        history: is given every finished verification.
    """
    policy = None
    if busy is not None:
        name = f"voting={config.busy_voting}: more than {config.busy_above} verifications were waiting"
        policy = BusyPolicy(busy, config.busy_above, name)
    return RewardService(
        reward,
        in_work=config.in_work,
        queue=config.queue,
        deadline=config.deadline_seconds,
        linger=config.linger_seconds,
        recent=config.recent,
        recent_seconds=config.recent_seconds,
        busy=policy,
        finished=history.add if history is not None else None,
    )


async def serve(app: FastAPI, config: ServeConfig, ready: Callable[[str], None]) -> None:
    """Listen until SIGTERM or Ctrl-C (in the main thread); then running requests have `drain_seconds` to finish.

    SIGHUP reads the file of keys again.

    Args:
        ready: called with the server's URL once it listens.

    Raises:
        ConfigError: the address cannot be listened on.
    """
    import uvicorn

    from genprm.serve.arrival import bounded_arrival

    service: RewardService = app.state.service
    listener = bound(config)
    listener.listen(_BACKLOG)
    options = uvicorn.Config(
        app,
        http=bounded_arrival(config.body_seconds),
        ws="none",
        log_level="warning",
        access_log=False,  # metrics count requests, and paths are the sender's words
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=config.drain_seconds + LAST_WORDS_SECONDS,
    )
    host = f"[{config.host}]" if ":" in config.host else config.host
    ready(f"http://{host}:{listener.getsockname()[1]}")
    server = _make_server(options, partial(_end, service, config.drain_seconds))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, server.handle_exit, number, None)
    loop.add_signal_handler(signal.SIGHUP, app.state.keys.reload)
    try:
        await server.serve(sockets=[listener])
    finally:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.remove_signal_handler(number)


async def _end(service: RewardService, seconds: float) -> None:
    """Close the service when the drain is over, so that those who still wait are answered; uvicorn would cut them off."""
    await asyncio.sleep(seconds)
    await service.aclose()


def _make_server(options: uvicorn.Config, end: Callable[[], Coroutine[Any, Any, None]]) -> uvicorn.Server:
    """A server that leaves signals alone: uvicorn's own would raise them again, before the engine is closed.

    Args:
        end: ends running work, beside the shutdown that waits for it.
    """
    import uvicorn

    class Server(uvicorn.Server):
        @contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            ending = asyncio.create_task(end())
            try:
                await super().shutdown(sockets)
            finally:
                await cancel_all([ending])

    return Server(options)
