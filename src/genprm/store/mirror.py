"""A mirror: the finished shards of a run in object storage, from where another machine goes on.

    URL/config.yaml, URL/run.json                    of the run that was begun last
    URL/stages/STAGE/NUMBER-KEY/REVISION.zip         a shard's rows, dropped rows and meta file

Object storage has no locks, no renames and no files that grow, so a run directory cannot live there. It has objects that
are there whole or not at all. So a shard is one object, under a name that its content decides: whoever writes it, and
however often, nobody can read half of one. Which URLs there are is a matter of fsspec and its packages.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar
from urllib.parse import urlsplit

from genprm.errors import ConfigError, MissingExtraError, StoreError
from genprm.store.meta import ShardMeta
from genprm.store.names import shard_stem
from genprm.store.shards import StageStore

ATTEMPTS = 4
"""So often a request is sent before it counts as failed."""
_WITH_FOLDERS = frozenset({"file", "sftp", "smb", "hdfs", "webhdfs"})
"""Here a folder has to be made before something is in it. Elsewhere that would make a bucket of a mistyped name."""
_FIRST_PAUSE = 0.5
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
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._fs, self._root = _file_system(self.url)
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
                await self._write(name, (run / name).read_bytes())

    async def catch_up(self, store: StageStore[Any]) -> None:
        """Send the shards that the run directory has and the mirror has not."""
        there = set(await self._listed(f"stages/{store.name}"))
        gate = asyncio.Semaphore(_AT_ONCE)

        async def send(meta: ShardMeta) -> None:
            async with gate:
                whole = store.find(meta.number, meta.key)
                if whole is not None:
                    await self.send(store, whole)

        missing = [meta for meta in store.all() if _name(meta) not in there]
        await asyncio.gather(*(send(meta) for meta in missing))

    async def send(self, store: StageStore[Any], meta: ShardMeta) -> None:
        """Copy a shard of the run directory to the mirror.

        Raises:
            StoreError: it cannot be written; the run directory has it all the same.
        """
        await self._write(_name(meta), await asyncio.to_thread(store.pack, meta))

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

    async def _write(self, name: str, data: bytes) -> None:
        path = f"{self._root}/{name}"

        def write() -> None:
            if self._has_folders:
                self._fs.makedirs(path.rpartition("/")[0], exist_ok=True)
            self._fs.pipe_file(path, data)

        await self._try(f"write {self.url}/{name}", write)

    async def _try(self, what: str, call: Callable[[], T], **missing: T) -> T:
        """The result of a call in a thread; `missing`, if given, where nothing is there."""
        for attempt in range(ATTEMPTS):
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
            if attempt + 1 < ATTEMPTS:
                await asyncio.sleep(_FIRST_PAUSE * 2**attempt * random.uniform(0.5, 1.0))
        raise StoreError(
            f"cannot {what}: {_first_line(failure)}",
            hint="Check store.mirror, its credentials and the network, and run the same command again; finished shards "
            "are kept. Without a mirror: store.mirror=null.",
        ) from failure


def _file_system(url: str) -> tuple[Any, str]:
    """The file system of a URL and the path in it."""
    try:
        import fsspec
    except ImportError as error:
        raise MissingExtraError("fsspec", "mirror", "store.mirror", error) from error
    if not urlsplit(url).scheme:
        raise ConfigError(
            f"store.mirror: '{url}' is not a URL",
            hint="For example s3://bucket/runs/first or gs://bucket/runs/first; the run directory itself is --run-dir.",
        )
    try:
        system, path = fsspec.core.url_to_fs(url)
    except ImportError as error:
        raise _no_package(url, error) from error
    except ValueError as error:
        raise ConfigError(
            f"store.mirror: '{url}': {_first_line(error)}",
            hint="For example s3://bucket/runs/first or gs://bucket/runs/first.",
        ) from None
    return system, str(path).rstrip("/")


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
