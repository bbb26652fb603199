"""A mirror: the finished shards of a run in object storage, from where another machine goes on.

    URL/config.yaml, URL/run.json                    of the run that was begun last
    URL/stages/STAGE/NUMBER-KEY/REVISION.zip         a shard's rows, dropped rows and meta file

Object storage has no locks, no renames and no files that grow, so a run directory cannot live there. It has objects that
are there whole or not at all. So a shard is one object, under a name that says what it was made of: whoever writes it,
and however often, nobody can read half of one. Which URLs there are is a matter of fsspec and its packages.
"""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import Callable
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from genprm.errors import ConfigError, MissingExtraError, StoreError
from genprm.store.meta import ShardMeta
from genprm.store.names import shard_stem
from genprm.store.shards import StageStore

ATTEMPTS = 9
"""So often a request is sent before it counts as failed; the pauses in between are about two minutes together."""
ATTEMPTS_TO_OPEN = 3
"""At the start the address or the credentials are more likely wrong than the storage is tired."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 60.0
_WITH_FOLDERS = frozenset({"file", "sftp", "hdfs"})
"""File systems: a folder has to be made before something is in it, and a file has to be moved into place to be there at
once. Elsewhere making a folder would make a bucket of a mistyped name."""
_AT_ONCE = 8

T = TypeVar("T")


class Mirror:
    """Copies of shards at a URL. Methods that talk to it wait in threads.

    Args:
        url: of a folder that this run has for itself, for example `s3://bucket/runs/first`. Credentials and endpoints
            are found where the storage's package looks for them.

    Raises:
        MissingExtraError: fsspec is not installed.
        ConfigError: no package for such URLs is installed, or it is not a URL.
        StoreError: the storage cannot be reached.
    """

    def __init__(self, url: str) -> None:
        self._fs, self._root = _file_system(url)
        self.url = url.rstrip("/")
        protocols = self._fs.protocol
        self._has_folders = not _WITH_FOLDERS.isdisjoint(
            (protocols,) if isinstance(protocols, str) else protocols
        )

    async def open(self, run: Path) -> None:
        """Write the run's config and facts, which also shows early whether there is a way to the storage.

        Raises:
            StoreError: there is none, or nothing may be written.
        """
        for name in ("config.yaml", "run.json"):
            if (run / name).is_file():
                await self._write(name, (run / name).read_bytes(), ATTEMPTS_TO_OPEN)

    async def catch_up(self, store: StageStore[Any]) -> None:
        """Send the shards that the run directory has and the mirror has not, superseded ones included.

        Raises:
            StoreError: the storage cannot be read or written.
        """
        there = set(await self._listed(f"stages/{store.name}"))

        async def send(meta: ShardMeta) -> None:
            data = await asyncio.to_thread(store.pack, meta)
            if (
                data is not None
            ):  # else it is damaged, or another process changes it: who needs it sees to it
                await self._write(_name(meta), data)

        missing = (meta for meta in store.all() if _name(meta) not in there)
        while batch := list(islice(missing, _AT_ONCE)):
            await asyncio.gather(*(send(meta) for meta in batch))

    async def send(self, store: StageStore[Any], meta: ShardMeta) -> None:
        """Copy a shard to the mirror.

        Raises:
            StoreError: it cannot be written, or was changed since.
        """
        data = await asyncio.to_thread(store.pack, meta)
        if data is None:
            raise StoreError(
                f"stage '{store.name}', shard {meta.number}: its files were changed as soon as they were written",
                hint="Does something else write in the run directory? Run the same command again.",
            )
        await self._write(_name(meta), data)

    async def fetch(self, store: StageStore[Any], number: int, key: str) -> bool:
        """Copy the newest revision of a shard to the run directory; False if there is none that is whole.

        Raises:
            StoreError: the storage cannot be read.
        """
        names = await self._listed(_folder(store.name, number, key))
        for name in sorted(names, key=_revision, reverse=True):
            data = await self._read(name)
            if data is not None and store.unpack(number, key, data):
                return True
        return False

    async def _listed(self, folder: str) -> list[str]:
        """Names of the objects below a folder."""

        def listed() -> list[str]:
            self._fs.invalidate_cache()
            found = self._fs.find(f"{self._root}/{folder}")
            return [
                str(name)[len(self._root) :].lstrip("/") for name in found if str(name).endswith(".zip")
            ]

        return await self._try(f"list {self.url}/{folder}", listed, missing=[])

    async def _read(self, name: str) -> bytes | None:
        return await self._try(
            f"read {self.url}/{name}",
            lambda: bytes(self._fs.cat_file(f"{self._root}/{name}")),
            missing=None,
        )

    async def _write(self, name: str, data: bytes, attempts: int | None = None) -> None:
        path = f"{self._root}/{name}"

        def write() -> None:
            if not self._has_folders:
                self._fs.pipe_file(path, data)
                return
            self._fs.makedirs(path.rpartition("/")[0], exist_ok=True)
            part = f"{path}.{uuid.uuid4().hex}.part"
            self._fs.pipe_file(part, data)
            self._fs.mv(part, path)

        await self._try(f"write {self.url}/{name}", write, attempts)

    async def _try(self, what: str, call: Callable[[], T], attempts: int | None = None, **missing: T) -> T:
        """The result of a call in a thread; `missing`, if given, where nothing is there."""
        attempts = attempts or ATTEMPTS
        for attempt in range(attempts):
            try:
                return await asyncio.to_thread(call)
            except FileNotFoundError as error:
                if missing:
                    return missing["missing"]
                failure: Exception = error
            except ImportError as error:
                raise _no_package(self.url, error) from error
            except Exception as error:  # each storage's package has its own
                failure = error
            if attempt + 1 < attempts:
                await asyncio.sleep(
                    min(_FIRST_PAUSE * 2**attempt, _LONGEST_PAUSE) * random.uniform(0.5, 1.0)
                )
        raise _unreachable(what, failure) from failure


def _file_system(url: str) -> tuple[Any, str]:
    """The file system of a URL and the path in it."""
    try:
        import fsspec
    except ImportError as error:
        raise MissingExtraError("fsspec", "mirror", "store.mirror", error) from error
    protocol, mark, place = url.partition("://")
    if not (protocol and mark and place.strip("/")):
        raise ConfigError(
            f"store.mirror: '{url}' is not the URL of a folder",
            hint="For example s3://bucket/runs/first or gs://bucket/runs/first; the run directory itself is --run-dir.",
        )
    try:
        system, path = fsspec.core.url_to_fs(url.rstrip("/"))
    except ImportError as error:
        raise _no_package(url, error) from error
    except ValueError as error:
        raise ConfigError(
            f"store.mirror: '{url}': {_first_line(error)}",
            hint="For example s3://bucket/runs/first or gs://bucket/runs/first.",
        ) from None
    except Exception as error:  # some connect at once
        raise _unreachable(f"reach {url}", error) from error
    return system, str(path).rstrip("/")


def _unreachable(what: str, error: Exception) -> StoreError:
    return StoreError(
        f"store.mirror: cannot {what}: {_first_line(error)}",
        hint="Check the URL, its credentials and the network, and run the same command again: what is in the run "
        "directory or in the mirror is kept.",
    )


def _no_package(url: str, error: ImportError) -> ConfigError:
    return ConfigError(
        f"store.mirror: a package for '{url}' is missing: {_first_line(error)}",
        hint="pip install s3fs for s3://, gcsfs for gs://, adlfs for az://.",
    )


def _folder(stage: str, number: int, key: str) -> str:
    return f"stages/{stage}/{shard_stem(number, key)}"


def _name(meta: ShardMeta) -> str:
    return f"{_folder(meta.stage, meta.number, meta.key)}/{meta.revision}.zip"


def _revision(name: str) -> int:
    stem = PurePosixPath(name).stem
    return int(stem) if stem.isdecimal() else -1


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
