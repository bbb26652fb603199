"""How the process of a copy is started."""

from __future__ import annotations

import multiprocessing
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import spawn
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

from genprm.engines._replicas.server import serve

_IMPORTS = ["genprm.engines._replicas.imports"]
_NAME = "genprm-replica"
_lock = threading.Lock()
"""Of what all engines here share: the process that copies are forked from, and how multiprocessing prepares a start."""


def start_process(connection: Connection, options: dict[str, Any]) -> BaseProcess:
    """The process of a copy, with its end of the pipe.

    On Linux it is a fork of a process that has imported torch and transformers and does nothing else: importing them is
    most of a small model's start. Elsewhere forking is not safe after such imports.

    Raises:
        OSError, EOFError: it cannot be started.
    """
    with _lock, _without_main():
        if sys.platform == "linux":
            context = multiprocessing.get_context("forkserver")
            context.set_forkserver_preload(_IMPORTS)
            _run_fork_server()
            process: BaseProcess = context.Process(
                target=serve, args=(connection, options), name=_NAME, daemon=True
            )
        else:
            process = multiprocessing.get_context("spawn").Process(
                target=serve, args=(connection, options), name=_NAME, daemon=True
            )
        process.start()
    return process


def _run_fork_server() -> None:
    """Start the process that copies are forked from, unless it runs; deaf to Ctrl-C until it has imported everything."""
    from multiprocessing import forkserver, resource_tracker

    resource_tracker.ensure_running()  # which would let signals through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _without_main() -> Iterator[None]:
    """Let copies start without the caller's main module, of which they need nothing.

    A script without `if __name__ == "__main__":` would otherwise run once more in every copy. Processes that others
    start meanwhile are prepared as ever.
    """
    prepare = spawn.get_preparation_data

    def without_main(name: str) -> dict[str, Any]:
        data = prepare(name)
        if name == _NAME:
            data.pop("init_main_from_name", None)
            data.pop("init_main_from_path", None)
        return data

    spawn.get_preparation_data = without_main
    try:
        yield
    finally:
        spawn.get_preparation_data = prepare
