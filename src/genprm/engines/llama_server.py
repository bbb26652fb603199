"""A real llama-server on loopback, for recipes and tests: a child process that never outlives its parent.

Needs the package `xllamacpp`, which brings llama.cpp's server prebuilt.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import importlib.util
import json
import os
import select
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType

from genprm.errors import EngineError, EngineUnavailable, MissingExtraError

_LOG_BYTES = 2000


class LlamaServer:
    """Starts a llama-server for a GGUF file and stops it. A context manager, synchronous and async.

    Args:
        model: the GGUF file.
        slots: sequences decoded together.
        context: tokens of prompt and completion together, for each slot.
        threads: CPU threads; all cores unless given.
        timeout: seconds to wait until the model is loaded.

    The server dies with this process, however this process ends: it watches a pipe that closes with us,
    and who its parent is.
    """

    def __init__(
        self,
        model: str | Path,
        *,
        slots: int = 4,
        context: int = 2048,
        threads: int | None = None,
        timeout: float = 120.0,
    ) -> None:
        self._model = Path(model)
        self._slots = slots
        self._context = context
        self._threads = threads or os.cpu_count() or 1
        self._timeout = timeout
        self._process: subprocess.Popen[bytes] | None = None
        self._url: str | None = None

    @property
    def url(self) -> str:
        """The base URL; raises while the server is not running."""
        if self._url is None:
            raise EngineUnavailable(
                "the llama-server is not running", hint="start it first", retryable=False
            )
        return self._url

    def start(self) -> LlamaServer:
        """Start and wait until the model is loaded.

        Raises:
            MissingExtraError: xllamacpp is not installed.
            EngineError: there is no such file.
            EngineUnavailable: the server ended, or did not come up in time.
        """
        if self._process is not None:
            return self
        if importlib.util.find_spec("xllamacpp") is None:
            raise MissingExtraError("xllamacpp", "dev", "the bundled llama-server")
        if not self._model.is_file():
            raise EngineError(
                f"there is no GGUF file at {self._model}", hint="give the path of a .gguf file"
            )
        arguments = [
            str(self._model),
            str(self._slots),
            str(self._context),
            str(self._threads),
            str(os.getpid()),
        ]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "genprm.engines.llama_server", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        try:
            self._url = self._await_url(self._process)
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Stop the server and wait until it is gone. Idempotent."""
        process, self._process, self._url = self._process, None, None
        if process is None:
            return
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()
        process.kill()
        process.wait()

    def __enter__(self) -> LlamaServer:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    async def __aenter__(self) -> LlamaServer:
        return await asyncio.to_thread(self.start)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await asyncio.to_thread(self.stop)

    def _await_url(self, process: subprocess.Popen[bytes]) -> str:
        """Read the child's output until it says where it listens."""
        assert process.stdout is not None
        deadline = time.monotonic() + self._timeout
        seen = b""
        while (left := deadline - time.monotonic()) > 0:
            ready, _, _ = select.select([process.stdout], [], [], left)
            if not ready:
                break
            chunk = os.read(process.stdout.fileno(), 65536)
            if not chunk:
                raise EngineUnavailable(
                    f"the llama-server ended while loading {self._model}: {_tail(seen)}",
                    hint="is this a GGUF file that llama.cpp can read?",
                    retryable=False,
                )
            seen += chunk
            for line in seen.splitlines():
                if line.startswith(b'{"listening"'):
                    return str(json.loads(line)["listening"])
        raise EngineUnavailable(
            f"the llama-server did not come up within {self._timeout:.0f} s: {_tail(seen)}", retryable=False
        )


def _tail(log: bytes) -> str:
    return " ".join(log[-_LOG_BYTES:].decode("utf-8", "replace").split())[-300:]


def _serve() -> None:
    """The child: load the model, say where it listens, and live until the parent's pipe ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    for number in ("slots", "context", "threads", "parent"):
        parser.add_argument(number, type=int)
    options = parser.parse_args()
    xllamacpp = importlib.import_module("xllamacpp")
    params = xllamacpp.CommonParams()
    params.model.path = options.model
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.n_parallel = options.slots
    params.n_ctx = options.slots * options.context
    params.cpuparams.n_threads = options.threads
    params.cpuparams_batch.n_threads = options.threads
    params.verbosity = 0
    server = xllamacpp.Server(params)
    # Later output of the server would fill a pipe that nobody reads.
    announcement = json.dumps({"listening": server.listening_address})
    os.write(1, announcement.encode() + b"\n")
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    while os.getppid() == options.parent:
        ended, _, _ = select.select([0], [], [], 0.5)
        if ended and not os.read(0, 4096):
            break
    os._exit(0)


if __name__ == "__main__":
    _serve()
