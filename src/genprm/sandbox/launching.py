"""The process that a box begins with, as a child of this one."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys

# All that a box's interpreter is given on its command line: takes its program from the socket (256: all of it).
_PROGRAM = """
import socket, sys
host = socket.socket(fileno=int(sys.argv[1]))
exec(host.recv(int.from_bytes(host.recv(4, 256), "big"), 256))
start(host)()
"""
_ENVIRONMENT = {"LANG": "C.UTF-8", "PYTHONHASHSEED": "0"}
_ENVIRONMENT |= {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
_END_SECONDS = 20.0


class Launcher:
    """A launcher that runs. It ends when its socket does, and cleans up behind the box.

    Not a process of asyncio's, which kills those that nobody has closed, with nobody to clean up behind them. It has a
    session of its own: what a terminal sends to this process (Ctrl-C, Ctrl-Z) is not for code under way.

    Args:
        theirs: the box's end of the socket. Raises `OSError` where no process can be made.
    """

    def __init__(self, theirs: socket.socket) -> None:
        # Its command line says nothing of the host but where the interpreter is.
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-s", "-S", "-B", "-c", _PROGRAM, str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=_ENVIRONMENT,
            cwd="/",
            start_new_session=True,
        )
        self.pid = self._process.pid

    async def ended(self) -> None:
        """Wait, in any event loop, until it has ended, now that its socket is closed. Idempotent."""
        for number in (signal.SIGCONT, signal.SIGKILL):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._end(), _END_SECONDS)
                return
            # It was stopped from outside. Continued, it still removes the box's cgroup; killed, it cannot.
            self._process.send_signal(number)
        await self._end()

    async def _end(self) -> None:
        if self._process.poll() is not None:
            return
        try:
            watch = os.pidfd_open(self.pid)
        except OSError:  # no descriptor is free; or somebody else in this process has taken note of the end
            await asyncio.to_thread(self._process.wait)
            return
        loop = asyncio.get_running_loop()
        gone = asyncio.Event()
        try:
            loop.add_reader(watch, gone.set)
            await gone.wait()
        finally:
            loop.remove_reader(watch)
            os.close(watch)
        self._process.poll()
