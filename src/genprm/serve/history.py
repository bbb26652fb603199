"""Every finished verification in an SQLite file, for looking back; written by a thread that no request waits for."""

from __future__ import annotations

import json
import logging
import queue
import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from genprm.errors import ConfigError
from genprm.records import VerifyItem
from genprm.serve.answers import Answer
from genprm.serve.callers import CALLER

_LOG = logging.getLogger(__name__)
_WAITING = 10_000
_AT_ONCE = 500
_DAY = 86_400.0
_CLEAN_SECONDS = 3600.0
_LOCKED_SECONDS = 0.1  # on top of SQLite's own 5
_TABLE = """
CREATE TABLE IF NOT EXISTS verifications (
    time REAL NOT NULL, key TEXT NOT NULL, item TEXT NOT NULL, verifier TEXT NOT NULL, policy TEXT,
    rewards TEXT NOT NULL, first_error INTEGER, unknown TEXT,
    prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL, seconds REAL NOT NULL,
    problem TEXT, verdicts TEXT, uncounted INTEGER
)
"""
_COLUMNS = (
    "time, key, item, verifier, policy, rewards, first_error, unknown, prompt_tokens, completion_tokens, seconds, "
    "problem, verdicts, uncounted"
)
_INSERT = f"INSERT INTO verifications ({_COLUMNS}) VALUES ({', '.join('?' * 14)})"


class History:
    """Keeps finished verifications. A context manager.

    Columns: `time` (Unix), `key` (the name of the API key that began it), `item` (a hash of problem and steps),
    `verifier`, `policy`, `rewards` (JSON, null is unknown), `first_error` (null is unknown), `unknown` (why there is no
    score), tokens and seconds, `uncounted` (requests whose tokens nobody counted: there were at least so many; null in
    entries of versions that did not note it); with `content` also `problem` and `verdicts` (JSON with steps, votes and
    rationales).

    Args:
        path: of the file; made if it is missing.
        content: whether texts are kept.
        days: age at which entries are deleted.

    Raises:
        ConfigError: the file cannot be written.
    """

    def __init__(self, path: str | Path, *, content: bool, days: float) -> None:
        self._path, self._content, self._days = Path(path), content, days
        self.lost = 0
        self._rows: queue.Queue[tuple[Any, ...] | None] = queue.Queue(_WAITING)
        try:
            with closing(sqlite3.connect(self._path)) as file, file:
                file.execute("PRAGMA journal_mode=WAL")
                file.execute(_TABLE)
                _add_missing(file)
                file.execute("CREATE INDEX IF NOT EXISTS by_time ON verifications (time)")
        except sqlite3.Error as error:
            raise ConfigError(
                f"the history {self._path} cannot be written: {error}",
                hint="serve.history names an SQLite file in a folder that exists and may be written to.",
            ) from None
        self._thread = threading.Thread(target=self._write, name="genprm-history", daemon=True)
        self._thread.start()

    def add(self, item: VerifyItem, answer: Answer) -> None:
        """Keep a verification, soon; it is counted in `lost` if the file cannot keep up."""
        row, unknown = answer.verification, answer.unknown
        texts: tuple[str | None, str | None] = (None, None)
        if self._content:
            verdicts = [verdict.model_dump(mode="json") for verdict in row.verdicts]
            texts = (item.problem, json.dumps({"steps": item.steps, "verdicts": verdicts}))
        entry = (
            *(time.time(), CALLER.get().name, item.id, row.verifier, answer.policy),
            *(json.dumps([verdict.reward for verdict in row.verdicts]), row.first_error),
            unknown.kind if unknown is not None else None,
            *(
                row.usage.prompt_tokens,
                row.usage.completion_tokens,
                row.seconds,
                *texts,
                row.usage.uncounted,
            ),
        )
        try:
            self._rows.put_nowait(entry)
        except queue.Full:
            self.lost += 1

    def close(self) -> None:
        """Write what is waiting, and end. Idempotent."""
        if self._thread.is_alive():
            self._rows.put(None)
            self._thread.join()

    def __enter__(self) -> History:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _write(self) -> None:
        clean_at = 0.0
        open_ = True
        rows: list[tuple[Any, ...]] = []
        with closing(sqlite3.connect(self._path)) as file:
            while open_:
                more, open_ = self._waiting(_LOCKED_SECONDS if rows else _CLEAN_SECONDS)
                rows += more
                try:
                    with file:
                        if time.time() >= clean_at:
                            file.execute(
                                "DELETE FROM verifications WHERE time < ?",
                                (time.time() - self._days * _DAY,),
                            )
                            clean_at = time.time() + _CLEAN_SECONDS
                        file.executemany(_INSERT, rows)
                except sqlite3.Error as error:  # a full disk must not end the service
                    if _locked(error) and open_ and len(rows) < _WAITING:
                        continue  # someone else writes: the entries wait
                    self.lost += len(rows)
                    _LOG.error("the history %s lost %d entries: %s", self._path, len(rows), error)
                rows = []

    def _waiting(self, seconds: float) -> tuple[list[tuple[Any, ...]], bool]:
        """Entries to write, after waiting for one; whether there may be more."""
        rows: list[tuple[Any, ...]] = []
        try:
            entry = self._rows.get(timeout=seconds)
            while entry is not None:
                rows.append(entry)
                if len(rows) >= _AT_ONCE:
                    break
                entry = self._rows.get_nowait()
            else:
                return rows, False
        except queue.Empty:
            pass
        return rows, True


def _add_missing(file: sqlite3.Connection) -> None:
    """Give the table of an older version the column that it lacks."""
    if "uncounted" in _columns(file):
        return
    try:
        file.execute("ALTER TABLE verifications ADD COLUMN uncounted INTEGER")
    except sqlite3.OperationalError:
        if "uncounted" not in _columns(file):  # else another process was quicker
            raise


def _columns(file: sqlite3.Connection) -> set[str]:
    return {name for _, name, *_ in file.execute("PRAGMA table_info(verifications)")}


def _locked(error: sqlite3.Error) -> bool:
    """Whether another process holds the file now."""
    code = getattr(error, "sqlite_errorcode", 0)  # the low byte is the kind
    return code & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
