"""Run directories. No other package writes one.

    RUN/
      config.yaml            the resolved config
      run.json               versions, seed, git commit, the config's identity
      run.lock               shared by the processes that work on the run with one config
      leases/                locks of the shards in work, and mandates of those who write for another process
      stages/, superseded/   see `genprm.store.shards`
      artifacts/NAME/KEY/    trained models and the like
      superseded/reports/    reports of other models, data or options
      repairs.jsonl          every damage that was found, and when

A shard's key is a hash of its problems and of everything that decides what the stages make of them. So a run that is
killed and started again finds its finished shards by content, a changed option recomputes exactly the stages that it
affects, and no row can appear twice.
"""

from __future__ import annotations

import asyncio
import datetime
import fcntl
import json
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from pydantic import BaseModel

from genprm.errors import StoreError
from genprm.identity import content_key
from genprm.store.files import (
    checksum,
    open_own,
    read_json,
    remove_leftovers,
    store_errors,
    write_atomic,
    write_json,
)
from genprm.store.leases import Mandate, lease, mandate, sweep_leases, try_lock
from genprm.store.mirror import Mirror
from genprm.store.shards import StageStore
from genprm.store.tables import Format

_POLL_SECONDS = 0.5

RecordT = TypeVar("RecordT", bound=BaseModel)


class RunStore:
    """One run directory, open for work. A context manager.

    Several processes may work on one run with one config; a second config has to wait until they have ended, and so has
    one that does another part of it.

    Args:
        path: the directory; made if it does not exist. One that holds other things is refused.
        config: the resolved config as YAML.
        part: what of the config's work is done, if not all of it.
        facts: versions, seed and the like, for `run.json`.
        format: of rows.
        on_repair: called with every damage found, in one sentence.
        mirror: where executors copy finished shards to, and take missing ones from.

    Raises:
        StoreError: at the start of the context: not writable, not a run, or in use with another config.
    """

    def __init__(
        self,
        path: Path,
        *,
        config: str = "",
        part: str = "",
        facts: dict[str, Any] | None = None,
        format: Format = "jsonl",
        on_repair: Callable[[str], None] | None = None,
        mirror: Mirror | None = None,
    ) -> None:
        self.path = path
        self.mirror = mirror
        self.format: Format = format
        self.repairs: list[str] = []
        self._config = config
        self._part = part
        self._facts = facts or {}
        self._on_repair = on_repair
        self._lock: int | None = None

    def __enter__(self) -> RunStore:
        _refuse_other_folders(self.path)
        with store_errors(self.path, "create"):
            self.path.mkdir(parents=True, exist_ok=True)
        lock = open_own(self.path / "run.lock", os.O_RDWR)
        try:
            self._claim(lock)
        except BaseException:
            os.close(lock)
            raise
        self._lock = lock
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def stage(self, name: str, row_type: type[RecordT]) -> StageStore[RecordT]:
        """The shards of the stage `name`."""
        return StageStore(self.path, name, row_type, self.format, self.repaired)

    def lease(self, name: str) -> AbstractContextManager[bool]:
        """A lease on a piece of work; the context's value is False if another process has it."""
        return lease(self.path / "leases" / f"{name}.lock")

    def mandate(self) -> AbstractContextManager[Mandate]:
        """The right to write shards, to be given to other processes; it ends with the context, or with this process."""
        return mandate(self.path / "leases")

    @asynccontextmanager
    async def leased(self, name: str) -> AsyncIterator[None]:
        """Hold the lease on a piece of work, waiting for another process that has it."""
        while True:
            with self.lease(name) as mine:
                if mine:
                    yield
                    return
            await asyncio.sleep(_POLL_SECONDS)

    def repaired(self, what: str) -> None:
        """Record a damage that is being repaired."""
        self.repairs.append(what)
        when = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        log = open_own(self.path / "repairs.jsonl", os.O_WRONLY | os.O_APPEND)
        with store_errors(self.path, "write in"), os.fdopen(log, "a", encoding="utf-8") as file:
            file.write(json.dumps({"time": when, "damage": what}, ensure_ascii=False) + "\n")
        if self._on_repair is not None:
            self._on_repair(what)

    def artifact(self, name: str, key: str) -> Path:
        """The folder of a trained model or the like; made on demand."""
        folder = self.path / "artifacts" / name / key
        with store_errors(folder, "create"):
            folder.mkdir(parents=True, exist_ok=True)
        return folder

    def write_json(self, name: str, value: Any) -> Path:
        """Write a JSON file at the top of the run directory and return its path."""
        path = self.path / name
        write_json(path, value)
        return path

    def set_aside(self, *names: str) -> Path:
        """Move files from the top of the run directory to a folder of their own under `superseded/`; returns that."""
        key = content_key([checksum((self.path / name).read_bytes()) for name in names if self._has(name)])
        target = self.path / "superseded" / "reports" / key
        with store_errors(target, "move files to"):
            target.mkdir(parents=True, exist_ok=True)
            for name in names:
                if self._has(name):
                    (self.path / name).replace(target / name)
        return target

    def _has(self, name: str) -> bool:
        return (self.path / name).is_file()

    def _claim(self, lock: int) -> None:
        """Take the run for this config, or join processes that work on it with the same one."""
        identity = content_key(self._config, self.format, *([self._part] if self._part else []))
        if try_lock(lock, self.path / "run.lock"):
            self._sweep()
            if self._config:
                write_atomic(self.path / "config.yaml", self._config.encode())
            write_json(self.path / "run.json", {**self._facts, "identity": identity})
        self._join(lock, identity)

    def _sweep(self) -> None:
        """Remove what killed processes left behind: files that were never put in place, and leases."""
        kinds = ("stages/*", "superseded/*", "artifacts/*/*")
        for folder in (self.path, *(folder for kind in kinds for folder in self.path.glob(kind))):
            remove_leftovers(folder)
        sweep_leases(self.path / "leases")

    def _join(self, lock: int, identity: str) -> None:
        with store_errors(self.path / "run.lock", "lock"):
            fcntl.flock(lock, fcntl.LOCK_SH)
        facts = read_json(self.path / "run.json")
        if facts.get("identity") != identity:
            raise StoreError(
                f"another process works on the run directory {self.path} with another config, or as a pilot",
                hint="Wait for it, or choose another directory with --run-dir.",
            )


def _refuse_other_folders(path: Path) -> None:
    """A directory that is not empty and is not a run directory is somebody else's: nothing in it is overwritten."""
    if path.is_symlink() and not path.exists():
        raise StoreError(
            f"{path} is a symbolic link to {path.readlink()}, which is not there",
            hint="Make that directory, or choose another one with --run-dir.",
        )
    if not path.is_dir() or (path / "run.lock").exists() or (path / "run.json").is_file():
        return
    if any(path.glob("stages/*/stage.json")):
        return  # a run that lost both
    with store_errors(path, "read"):
        strangers = sorted(entry.name for entry in path.iterdir() if not entry.name.startswith("."))
    if strangers:
        raise StoreError(
            f"{path} is not empty and is not a run directory ({', '.join(strangers[:3])} ...)",
            hint="Choose another directory with --run-dir; a run makes its own.",
        )
