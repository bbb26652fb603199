"""Completions kept on disk, so that a repeated run does not pay for them twice."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from genprm.engines.base import Completion, Engine, Request, TokenLogprob
from genprm.errors import StoreError
from genprm.records import Usage

_FORMAT = 1


class CachedEngine:
    """Puts a completion cache in front of an engine.

    The key is everything that decides a completion: the engine's own description, the messages, the
    prefix, the raw prompt, every sampling parameter, the seed and the sample's index. Failures are not
    kept. A kept completion costs nothing, and its usage says so (all zero).

    Requests without a seed are kept too: within one cache, sample number 3 of a prompt stays the same.

    Args:
        engine: the engine that makes what is not there; closed with this one.
        path: an SQLite file, made where it is missing. Every write is a transaction, so a killed process
            loses at most the completions of its last call.
    """

    def __init__(self, engine: Engine, path: str | Path) -> None:
        self._engine = engine
        self._path = Path(path)
        self.hits = 0
        self.misses = 0
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(self._path, check_same_thread=False, timeout=30.0)
            self._database.execute("PRAGMA journal_mode=WAL")
            self._database.execute("PRAGMA synchronous=NORMAL")
            self._database.execute(
                "CREATE TABLE IF NOT EXISTS completions (key BLOB PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID"
            )
            self._database.commit()
        except (sqlite3.Error, OSError) as error:
            raise StoreError(
                f"cannot open the completion cache {self._path}: {error}",
                hint="delete the file, or give another path",
            ) from error

    @property
    def name(self) -> str:
        """The name of the engine behind the cache."""
        return self._engine.name

    async def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """Answer from the cache what is there, and ask the engine for the rest."""
        identity = self._identity()
        keys = [_key(identity, request) for request in requests]
        known = self._read(keys)
        wanted = [index for index, key in enumerate(keys) if key not in known]
        self.hits += len(requests) - len(wanted)
        self.misses += len(wanted)
        made = await self._engine.generate([requests[index] for index in wanted]) if wanted else []
        fresh = dict(zip(wanted, made, strict=True))
        # The engine may have learnt its model's name meanwhile.
        identity = self._identity()
        self._write([(_key(identity, requests[index]), done) for index, done in fresh.items() if done.ok])
        return [fresh[index] if index in fresh else known[key] for index, key in enumerate(keys)]

    async def check(self) -> None:
        """Check the engine behind the cache."""
        await self._engine.check()

    def describe(self) -> dict[str, Any]:
        """Facts about the engine, and how often the cache answered."""
        return {**self._engine.describe(), "cache": {"hits": self.hits, "misses": self.misses}}

    async def aclose(self) -> None:
        """Close the file and the engine."""
        self._database.close()
        await self._engine.aclose()

    def _identity(self) -> str:
        facts = self._engine.describe()
        chosen = {name: facts.get(name) for name in ("kind", "model", "dtype", "api")}
        return json.dumps([_FORMAT, self._engine.name, chosen], sort_keys=True, default=str)

    def _read(self, keys: Sequence[bytes]) -> dict[bytes, Completion]:
        found = {}
        for key in keys:
            row = self._database.execute("SELECT value FROM completions WHERE key = ?", (key,)).fetchone()
            if row is not None:
                found[key] = _load(row[0])
        return found

    def _write(self, entries: Sequence[tuple[bytes, Completion]]) -> None:
        if not entries:
            return
        rows = [(key, _dump(completion)) for key, completion in entries]
        with self._database:
            self._database.executemany("INSERT OR REPLACE INTO completions VALUES (?, ?)", rows)


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
    return json.dumps([completion.text, completion.finish_reason, completion.stop, tokens])


def _load(value: str) -> Completion:
    text, reason, stop, tokens = json.loads(value)
    return Completion(
        text=text,
        finish_reason=reason,
        stop=stop,
        tokens=tuple(
            TokenLogprob(token, logprob, offset, tuple((other, number) for other, number in top))
            for token, logprob, offset, top in tokens
        ),
        usage=Usage(),
    )
