"""What both ends of a replica's pipe need."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, Final, Literal

from genprm.engines._replicas.packing import Packed
from genprm.errors import EngineError

CANCEL: Final = "cancel"

Job = tuple[int, list[Packed] | Literal["cancel"] | None]
"""A number, and requests to complete; None asks for the engine's description, `CANCEL` ends that number's work."""

Answer = tuple[int, list[Packed] | EngineError | dict[str, Any]]


class Outbox:
    """Collects what is sent within one turn of an event loop, and sends it as one message. Thread-safe.

    Args:
        unsendable: called with the number of an entry that cannot be pickled, and why.
    """

    def __init__(self, connection: Connection, unsendable: Callable[[int, EngineError], None]) -> None:
        self._connection = connection
        self._unsendable = unsendable
        self._waiting: list[Any] = []
        self._flusher: asyncio.AbstractEventLoop | None = None
        self._lock = threading.Lock()

    def add(self, entry: Any) -> None:
        """Send an entry soon; called on an event loop."""
        loop = asyncio.get_running_loop()
        with self._lock:
            # The loop that is to send the entries before this one may have ended meanwhile.
            if not self._waiting or self._flusher is not loop:
                self._flusher = loop
                loop.call_soon(self._flush)
            self._waiting.append(entry)

    def end(self) -> None:
        """Send what waits, and the word that nothing follows."""
        self._flush()
        with self._lock, contextlib.suppress(OSError):
            self._connection.send(None)

    def _flush(self) -> None:
        with self._lock:
            entries, self._waiting = self._waiting, []
            # A process that is gone is noticed by whoever reads from it.
            with contextlib.suppress(OSError):
                self._send(entries)

    def _send(self, entries: list[Any]) -> None:
        if not entries:
            return
        try:
            self._connection.send(entries)
        except OSError:
            raise
        except Exception as error:  # of whatever kind an object raises that is to be pickled
            if len(entries) > 1:
                for entry in entries:
                    self._send([entry])
                return
            said = f"{type(error).__name__}: {error}"
            self._unsendable(entries[0][0], EngineError(f"cannot be sent between processes: {said}"))


def read_in_thread(connection: Connection, take: Callable[[Any], None]) -> None:
    """Call `take` with every message, in a thread, and with None when the other end is gone or says so."""

    def read() -> None:
        message: Any = ()
        while message is not None:
            try:
                message = connection.recv()
            except (EOFError, OSError):
                message = None
            take(message)

    threading.Thread(target=read, name="genprm-replica-reader", daemon=True).start()
