"""The process of one replica: a local engine that answers what comes through a pipe."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

from genprm.aio import cancel_all
from genprm.engines._replicas.packing import Packed, pack_completion, unpack_request
from genprm.engines._replicas.wires import CANCEL, Job, Outbox, read_in_thread
from genprm.engines.base import Completion
from genprm.engines.local import LocalEngine
from genprm.errors import EngineError, GenPRMError
from genprm.records import Usage


def serve(connection: Connection, options: dict[str, Any]) -> None:
    """Body of the process; ends when the other end of the pipe closes or says so."""
    # Ctrl-C reaches every process of a terminal. This one ends with its parent, quietly.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    asyncio.run(_answer_all(connection, options))
    # Everything is closed. An orderly end of the interpreter would now and then meet threads of torch's own, and abort.
    os._exit(0)


def _load(options: dict[str, Any]) -> LocalEngine | EngineError:
    try:
        return LocalEngine(**options)
    except GenPRMError as error:
        return EngineError(error.message, hint=error.hint)
    except Exception as error:  # out of memory, a file that is cut off: whatever torch raises
        return EngineError(f"cannot load {options['model']}: {type(error).__name__}: {error}")


def _failed(error: EngineError) -> Packed:
    usage = Usage(requests=1, uncounted=1)  # how far it came is not known
    return pack_completion(Completion(finish_reason="error", error=error, usage=usage))


async def _answer_all(connection: Connection, options: dict[str, Any]) -> None:
    engine: LocalEngine | EngineError = EngineError("the model is not loaded yet")
    outbox = Outbox(connection, lambda number, error: connection.send([(number, error)]))
    tasks: dict[int, asyncio.Task[None]] = {}
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()

    async def answer(number: int, requests: list[Packed] | None) -> None:
        try:
            if isinstance(engine, EngineError):
                raise engine
            if requests is None:
                await engine.check()
                outbox.add((number, {**engine.describe(), "name": engine.name}))
            else:
                done = await engine.generate([unpack_request(request) for request in requests])
                outbox.add((number, [pack_completion(completion) for completion in done]))
        except EngineError as error:
            outbox.add((number, error.with_traceback(None)))
        except Exception as error:  # whoever asked would wait for ever
            failure = EngineError(f"a model process could not answer: {type(error).__name__}: {error}")
            outbox.add((number, failure if requests is None else [_failed(failure)] * len(requests)))

    def start(jobs: list[Job] | None) -> None:
        if jobs is None:
            ended.set()
            return
        for number, requests in jobs:
            if requests == CANCEL:
                if number in tasks:  # else it is answered already
                    tasks[number].cancel()
                continue
            tasks[number] = asyncio.ensure_future(answer(number, requests))
            tasks[number].add_done_callback(partial(tasks.pop, number))

    def take(jobs: list[Job] | None) -> None:
        loop.call_soon_threadsafe(start, jobs)

    # Read from the beginning, so that nobody waits with a full pipe; this loop answers once it has loaded.
    read_in_thread(connection, take)
    engine = _load(options)
    gc.freeze()  # the model's objects stay; the collector need not look at them again
    await ended.wait()
    await cancel_all(list(tasks.values()))
    if isinstance(engine, LocalEngine):
        await engine.aclose()
