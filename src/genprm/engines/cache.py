"""Completions kept on disk, so that a repeated run does not pay for them twice."""

from __future__ import annotations

import errno
import hashlib
import json
import sqlite3
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from genprm.engines.base import Completion, Engine, EngineBase, Request
from genprm.engines.identity import described_identity
from genprm.engines.tokens import TokenLogprob
from genprm.errors import EngineError, StoreError
from genprm.records import Usage

_FORMAT = 3
_BUSY_SECONDS = 30.0


class CachedEngine(EngineBase):
    """Puts a completion cache in front of an engine.

    The key is everything that decides a completion: the engine's identity (which has the content of a local
    model's files), the messages, the prefix, the raw prompt, every sampling parameter, the seed and the sample's
    index. Failures are not kept. A kept completion costs nothing, and its usage says so (all zero); its `length`
    is kept, so that a repeated run has the budgets of the first one.

    Requests without a seed are kept too: within one cache, sample number 3 of a prompt stays the same.

    Args:
        engine: the engine that makes what is not there; closed with this one.
        path: an SQLite file, made if it is missing. Several processes may share it. Every write is a transaction,
            so a killed process loses at most the completions of its last call.
        identity: of the engine, from `genprm.engines.engine_identity`. Unless given, it is made from what the
            engine says about itself when it is first used, after `check`; with it, the engine is not touched
            while the cache has all the answers.

    Raises:
        StoreError: the file cannot be opened, read or written, or is no such cache; from `generate` too.
    """

    kind = "cached"

    def __init__(self, engine: Engine, path: str | Path, *, identity: Any = None) -> None:
        self._engine = engine
        self._path = Path(path)
        self._identity: str | None = None if identity is None else _text(identity)
        self._lock = threading.Lock()  # of the database
        self.hits = 0
        self.misses = 0
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._database = _open(self._path)
        except (sqlite3.Error, OSError) as error:
            raise self._broken("open", error) from error

    @property
    def name(self) -> str:
        """The name of the engine behind the cache."""
        return self._engine.name

    async def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """Answer from the cache what is there, and ask the engine for the rest."""
        try:
            identity = await self._known_identity()
        except EngineError as error:
            return [Completion(finish_reason="error", error=error) for _ in requests]
        keys = [_key(identity, request) for request in requests]
        known = self._read(keys)
        wanted = [index for index, key in enumerate(keys) if key not in known]
        self.hits += len(requests) - len(wanted)
        self.misses += len(wanted)
        made = await self._engine.generate([requests[index] for index in wanted]) if wanted else []
        fresh = dict(zip(wanted, made, strict=True))
        self._write([(keys[index], done) for index, done in fresh.items() if done.ok])
        return [fresh[index] if index in fresh else known[key] for index, key in enumerate(keys)]

    async def check(self) -> None:
        """Check the engine behind the cache."""
        await self._engine.check()

    def describe(self) -> dict[str, Any]:
        """Facts about the engine, and how often the cache answered."""
        return {**self._engine.describe(), "cache": {"hits": self.hits, "misses": self.misses}}

    async def aclose(self) -> None:
        """Close the file and the engine."""
        try:
            with self._lock:
                self._database.close()
        except sqlite3.Error as error:
            raise self._broken("close", error) from error
        finally:
            await self._engine.aclose()

    async def _known_identity(self) -> str:
        """The engine's identity; asked for once, so that it stays that of the model which was loaded."""
        if self._identity is None:
            await self._engine.check()
            self._identity = _text(described_identity(self._engine))
        return self._identity

    def _read(self, keys: Sequence[bytes]) -> dict[bytes, Completion]:
        found = {}
        try:
            with self._lock:
                for key in keys:
                    row = self._database.execute(_SELECT, (key,)).fetchone()
                    if row is not None:
                        found[key] = _load(row[0])
        except (sqlite3.Error, ValueError, RecursionError) as error:
            raise self._broken("read", error) from error
        return found

    def _write(self, entries: Sequence[tuple[bytes, Completion]]) -> None:
        if not entries:
            return
        rows = [(key, _dump(completion)) for key, completion in entries]
        try:
            with self._lock, self._database:
                self._database.executemany(_INSERT, rows)
        except sqlite3.Error as error:
            raise self._broken("write", error) from error

    def _broken(self, what: str, error: Exception) -> StoreError:
        said = str(error) if isinstance(error, (sqlite3.Error, OSError)) else f"a damaged value ({error})"
        return StoreError(
            f"cannot {what} the completion cache {self._path}: {said}",
            hint=_HINTS.get(_code(error), "delete the file, or give another path"),
        )


_DISK = (
    "make sure that its disk has space and works, or give a path on another one; what was kept is not lost"
)
_RIGHTS = "make the file and its folder writable, or give another path"
_HINTS = {
    sqlite3.SQLITE_BUSY: "another process keeps it locked; run the command again",
    sqlite3.SQLITE_LOCKED: "another process keeps it locked; run the command again",
    sqlite3.SQLITE_FULL: _DISK,
    sqlite3.SQLITE_IOERR: _DISK,
    sqlite3.SQLITE_READONLY: _RIGHTS,
    sqlite3.SQLITE_CANTOPEN: _RIGHTS,
    sqlite3.SQLITE_PERM: _RIGHTS,
    sqlite3.SQLITE_MISUSE: "make a new cache: this one is closed",
}
_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)

_TABLE = "CREATE TABLE IF NOT EXISTS completions (key BLOB PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID"
_SELECT = "SELECT value FROM completions WHERE key = ?"
_INSERT = "INSERT OR REPLACE INTO completions VALUES (?, ?)"


def _open(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, check_same_thread=False, timeout=_BUSY_SECONDS)
    try:
        # Changing the journal does not wait for another process that does the same, whatever the timeout is.
        deadline = time.monotonic() + _BUSY_SECONDS
        while True:
            try:
                database.execute("PRAGMA journal_mode=WAL")
                break
            except sqlite3.OperationalError as error:
                if _code(error) not in _BUSY or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
        database.execute("PRAGMA synchronous=NORMAL")
        database.execute(_TABLE)
        database.commit()
    except BaseException:
        database.close()
        raise
    return database


def _code(error: Exception) -> int:
    """SQLite's code of an error, without the part that says why; that of a file's own errors."""
    if isinstance(error, sqlite3.ProgrammingError):  # raised by Python itself: the connection is closed
        return sqlite3.SQLITE_MISUSE
    if isinstance(error, OSError):
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
        return sqlite3.SQLITE_FULL if full else sqlite3.SQLITE_CANTOPEN
    return (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF


def _text(identity: Any) -> str:
    return json.dumps([_FORMAT, identity], sort_keys=True)


def _key(identity: str, request: Request) -> bytes:
    facts = {
        "engine": identity,
        "messages": [(message.role, message.content) for message in request.messages],
        "prefix": request.prefix,
        "add_generation_prompt": request.add_generation_prompt,
        "prompt": request.prompt,
        "params": asdict(request.params),
        "sample": request.sample,
    }
    return hashlib.blake2b(json.dumps(facts, sort_keys=True).encode(), digest_size=16).digest()


def _dump(completion: Completion) -> str:
    tokens = [[token.text, token.logprob, token.offset, token.top] for token in completion.tokens]
    return json.dumps(
        [completion.text, completion.finish_reason, completion.stop, completion.length, tokens]
    )


def _load(value: object) -> Completion:
    """The completion that a value holds.

    Raises:
        ValueError, RecursionError: it holds none.
    """
    if not isinstance(value, str):
        raise ValueError(f"a {type(value).__name__}, not a text")
    match json.loads(value):
        case [
            str(text),
            ("stop" | "eos" | "length") as reason,
            (str() | None) as stop,
            int(made),
            list(tokens),
        ]:
            return Completion(
                text=text,
                finish_reason=reason,
                stop=stop,
                tokens=tuple(map(_load_token, tokens)),
                usage=Usage(),
                made=made,
            )
    raise ValueError("no completion")


def _load_token(value: object) -> TokenLogprob:
    match value:
        case [str(text), (float() | int()) as logprob, int(offset), list(top)]:
            return TokenLogprob(text, float(logprob), offset, tuple(map(_load_pair, top)))
    raise ValueError("no token")


def _load_pair(value: object) -> tuple[str, float]:
    match value:
        case [str(text), (float() | int()) as logprob]:
            return text, float(logprob)
    raise ValueError("no alternative")
