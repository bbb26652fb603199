"""The host's end of one box: starts it, speaks frames with it, notices when it dies."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import importlib.util
import itertools
import json
import os
import socket
import sys
import sysconfig
from pathlib import Path
from typing import Any

from genprm.errors import SandboxError, SandboxUnavailable
from genprm.sandbox.base import ExecResult, Limits, Status
from genprm.sandbox.box import frames, tiers
from genprm.sandbox.launching import Launcher

_BOX = Path(__file__).parent / "box"
_START_SECONDS = 120.0
_SITE = "/site"
_SITE_NAMES = ("site-packages", "dist-packages")
_SYSTEM = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache", "/usr/share/zoneinfo")
_NULL = "/dev/null"

ROOT = 0  # the number of the pristine snapshot
_LINGER_SECONDS = 0.02


class SnapshotLost(Exception):
    """The box, or one snapshot in it, is gone or not to be forked again; its prefix can be replayed."""


class Unresponsive(SnapshotLost):
    """A snapshot did not do within the run's hard limit what it was told; the time for the run is over."""


class BoxFailed(SandboxError):
    """A box could not be made in the mode asked for."""


_SOURCES = {"scipy": "'genprm[sandbox]'"}
_LOST: dict[str, type[SnapshotLost]] = {"lost": SnapshotLost, "unresponsive": Unresponsive}
_NO_ROOM = "close sessions that are done with, use more boxes (workers), or raise the limits that 'ulimit -a' shows"


def packages(tier: str) -> dict[str, str]:
    """Top-level names that a tier may import, and where they lie on the host."""
    found: dict[str, str] = {}
    for name in tiers.PACKAGES[tier]:
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:
            if name in tiers.REQUIRED:
                raise SandboxUnavailable(
                    f"the sandbox tier '{tier}' needs the Python package '{name}', which is not installed",
                    hint=f"pip install {_SOURCES.get(name, name)}, or allow checked code less: sandbox.tier=numpy",
                )
            continue
        places = list(spec.submodule_search_locations or [])
        source = Path(places[0] if places else spec.origin)
        found[source.name] = str(source.resolve())
        libraries = source.parent / f"{name}.libs"
        if libraries.is_dir():
            found[libraries.name] = str(libraries.resolve())
    return found


def layout(tier: str, mode: str) -> tuple[dict[str, str], list[str], list[str]]:
    """The read-only places of a box (place -> source), what is covered under them, and its `sys.path`."""
    standard = sysconfig.get_path("stdlib", vars={"platbase": sys.base_exec_prefix})
    library = str(Path(standard).resolve())
    places = [Path(place) for place in (*_SYSTEM, _NULL)]
    binds = {str(place): str(place) for place in places if place.exists() and not place.is_symlink()}
    binds[library] = library
    for shared in Path(sys.base_exec_prefix, "lib").glob("libpython*"):
        binds[str(shared)] = str(shared)
    site = packages(tier)
    path = [library, str(Path(library) / "lib-dynload")]
    if mode == "namespaces":
        binds |= {f"{_SITE}/{name}": source for name, source in site.items()}
        path.append(_SITE)
    else:
        binds |= {source: source for source in site.values()}
        path += sorted({str(Path(source).parent) for source in site.values()})
    systems = [place for root in ("/usr/lib", "/usr/lib64") for place in Path(root).glob("python3*")]
    covered = {place / name for place in (Path(library), *systems) for name in _SITE_NAMES}
    return binds, sorted(str(place) for place in covered if place.is_dir()), path


@functools.lru_cache(maxsize=64)
def _plain(limits: Limits) -> dict[str, Any]:
    """Limits as a frame holds them; the same few are sent with every run."""
    return dataclasses.asdict(limits)


class Worker:
    """One box with one zygote."""

    def __init__(
        self,
        launcher: Launcher,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._launcher = launcher
        self._writer = writer
        self._decoder = frames.Decoder()
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[frames.Frame]] = {}
        self._ready: asyncio.Future[frames.Frame] = self._loop.create_future()
        self._reading = asyncio.create_task(self._read(reader))
        self._finished: list[int] = []
        self._flush_due = False
        self.alive = True
        self.facts: dict[str, Any] = {}
        self.load = 0
        self.memory_mb = 0

    @classmethod
    async def start(cls, *, tier: str, mode: str, limits: Limits, memory_mb: int, processes: int) -> Worker:
        """Make a box and wait until its zygote is warm; raises `BoxFailed` with the cause."""
        binds, covered, path = layout(tier, mode)
        config = {
            "host_pid": os.getpid(),
            "mode": mode,
            "tier": tier,
            "binds": binds,
            "covered": covered,
            "path": path,
            "limits": _plain(limits),
            "memory_mb": memory_mb,
            "processes": processes,
        }
        try:
            worker = await cls._launch()
        except OSError as error:
            raise BoxFailed(
                f"the box's process could not be started: {error.strerror or error}", hint=_NO_ROOM
            ) from error
        try:
            worker._writer.write(_parcel(config))
            frame = await asyncio.wait_for(asyncio.shield(worker._ready), _START_SECONDS)
            if frame.header["op"] != "ready":
                raise BoxFailed(str(frame.header.get("reason", "")).strip().splitlines()[-1])
        except SnapshotLost as lost:
            await worker.aclose()
            raise BoxFailed("the box ended while it was being made") from lost
        except TimeoutError as late:
            await worker.aclose()
            raise BoxFailed(f"the box was not ready after {_START_SECONDS:.0f} s") from late
        except BaseException:
            await worker.aclose()
            raise
        worker.facts = frame.header["facts"]
        worker.memory_mb = limits.memory_mb
        return worker

    @classmethod
    async def _launch(cls) -> Worker:
        """Start the interpreter of a box."""
        ours, theirs = socket.socketpair()
        launcher = None
        try:
            with theirs:
                launcher = Launcher(theirs)
            return cls(launcher, *await asyncio.open_unix_connection(sock=ours))
        except BaseException:
            ours.close()
            if launcher is not None:
                await launcher.ended()
            raise

    async def _read(self, reader: asyncio.StreamReader) -> None:
        try:
            while data := await reader.read(1 << 18):
                for frame in self._decoder.feed(data):
                    self._dispatch(frame)
        except (OSError, frames.FrameError):
            pass  # either way there is nothing more to hear from this box
        finally:
            self._lost()

    def _dispatch(self, frame: frames.Frame) -> None:
        if frame.header.get("op") in ("ready", "failed"):
            future: asyncio.Future[frames.Frame] | None = self._ready
        else:
            future = self._waiting.pop(frame.header.get("node", -1), None)
        if future is not None and not future.done():
            future.set_result(frame)

    def _lost(self) -> None:
        """Nobody answers any more: everyone who waits learns it."""
        self.alive = False
        waiting = [self._ready, *self._waiting.values()]
        self._waiting.clear()
        for future in waiting:
            if not future.done():
                future.set_exception(SnapshotLost("the box has ended"))
                future.exception()  # looked at, so that nobody complains where no one waits

    async def execute(
        self, parent: int, code: str, limits: Limits, seed: int
    ) -> tuple[int | None, ExecResult]:
        """Fork a snapshot and run code in the fork.

        Returns:
            The number of the new snapshot, None where the code left none behind, and the result.
        """
        if not self.alive:
            raise SnapshotLost("the box has ended")
        number = next(self._numbers)
        future: asyncio.Future[frames.Frame] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        header = {
            "op": "run",
            "parent": parent,
            "node": number,
            "seed": seed,
            "limits": _plain(limits),
        }
        try:
            self._send(frames.encode(header, code.encode("utf-8", "surrogatepass")))
            frame = await future
        except BaseException:
            self._waiting.pop(number, None)
            self.drop(number)
            raise
        if frame.header["op"] in _LOST:
            raise _LOST[frame.header["op"]](str(frame.header.get("reason")))
        if frame.header["op"] == "refused":
            raise SandboxError(
                f"the box has no room for another execution: {frame.header.get('reason')}",
                hint=_NO_ROOM,
                retryable=True,
            )
        result = _result(frame)
        return (number if result.status in (Status.OK, Status.ERROR) else None), result

    def drop(self, number: int) -> None:
        """Kill a snapshot, or what is on its way to being one. Does not wait."""
        if self.alive and number != ROOT:
            self._send(_drop_frame(number))

    def drop_soon(self, number: int) -> None:
        """The same for a snapshot that executes nothing: with the next word to the box, or a moment later.

        Every word wakes the box, which costs more on both sides than what the word says.
        """
        if asyncio.get_running_loop() is not self._loop:
            self.drop(number)
        elif self.alive and number != ROOT:
            self._finished.append(number)
            if not self._flush_due:
                self._flush_due = True
                self._loop.call_later(_LINGER_SECONDS, self._flush)

    def _flush(self) -> None:
        self._flush_due = False
        self._send()

    def _send(self, frame: bytes = b"") -> None:
        """Write a frame, and before it the end of the snapshots that are finished with."""
        ended, self._finished = self._finished, []
        data = b"".join([*map(_drop_frame, ended), frame])
        if data and self.alive:
            self._writer.write(data)

    async def aclose(self) -> None:
        """End the box and wait until its processes are gone. Idempotent; works from any event loop."""
        self.alive = False
        with contextlib.suppress(OSError):
            # Not only closed: a child that the host has forked since may hold a copy of it.
            _shut_down(self._writer.get_extra_info("socket").fileno())
        if self._loop is asyncio.get_running_loop():
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
            self._writer.close()
            with contextlib.suppress(OSError):
                await self._writer.wait_closed()
        await self._launcher.ended()


def _shut_down(descriptor: int) -> None:
    """End a connection for all who hold it. The socket objects of some event loops (uvloop) cannot do it themselves."""
    with socket.socket(fileno=os.dup(descriptor)) as own:
        own.shutdown(socket.SHUT_RDWR)


def _parcel(config: dict[str, Any]) -> bytes:
    """What the program waits for: the text of `boot`, then the package that it starts and the box's config."""
    sources = {
        "box" if path.stem == "__init__" else f"box.{path.stem}": path.read_text()
        for path in _BOX.glob("*.py")
    }
    data = json.dumps({"sources": sources, "config": config}).encode()
    parts = (sources["box.boot"].encode(), data)
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def _drop_frame(number: int) -> bytes:
    return frames.encode({"op": "drop", "node": number})


def _result(frame: frames.Frame) -> ExecResult:
    header = frame.header
    peak = header["peak_kb"]
    return ExecResult(
        status=Status(header["status"]),
        stdout=frame.body.decode("utf-8", "replace"),
        error_type=header["error_type"],
        error_message=header["error_message"],
        cpu_seconds=header["cpu"],
        wall_seconds=header["wall"],
        memory_peak_mb=None if peak is None else peak / 1024,
        truncated=header["truncated"],
    )
