"""How the copies of a replicated engine are started, in one process and in scripts of every kind."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from genprm.engines._replicas import copies as module
from genprm.engines._replicas.copies import Copies
from genprm.errors import EngineUnavailable

ON_LINUX = pytest.mark.skipif(
    sys.platform != "linux", reason="elsewhere every copy imports torch by itself"
)


class Fake:
    """A replica without a process."""

    made: list[Fake]
    refuse: set[int]
    refusal: Exception

    def __init__(self, options) -> None:
        if len(self.made) in self.refuse:
            self.made.append(self)
            raise self.refusal
        self.lost = self.answered = self.closed = False
        self.began = time.monotonic()
        self.made.append(self)

    def ask_to_end(self) -> None: ...

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch):
    Fake.made, Fake.refuse, Fake.refusal = [], set(), OSError(24, "Too many open files")
    monkeypatch.setattr(module, "Replica", Fake)
    return Fake


async def test_callers_that_come_together_start_the_copies_once(fakes) -> None:
    copies = Copies({}, 3)
    found = await asyncio.gather(*(copies.live() for _ in range(20)))
    assert len(fakes.made) == 3
    assert all(list(one.values()) == fakes.made for one in found)


async def test_the_event_loop_runs_while_copies_are_started(fakes, monkeypatch) -> None:
    free = threading.Event()

    def start(options):
        assert free.wait(10), "the loop was blocked"
        return Fake(options)

    monkeypatch.setattr(module, "Replica", start)
    copies = Copies({}, 1)
    asyncio.get_running_loop().call_later(0.05, free.set)
    assert len(await copies.live()) == 1


async def test_whoever_waits_for_the_start_can_be_cancelled_and_closing_ends_what_was_started(
    fakes, monkeypatch
) -> None:
    free = threading.Event()
    monkeypatch.setattr(module, "Replica", lambda options: free.wait(10) and Fake(options))
    copies = Copies({}, 2)
    waiting = asyncio.create_task(copies.live())
    await asyncio.sleep(0.05)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await copies.aclose()
    free.set()
    while [one.closed for one in fakes.made] != [True, True]:
        await asyncio.sleep(0.01)
    with pytest.raises(EngineUnavailable, match="closed"):
        await copies.live()


async def test_a_copy_that_cannot_be_started_is_an_error_and_leaves_no_other_behind(fakes) -> None:
    fakes.refuse = {1}
    copies = Copies({}, 2)
    with pytest.raises(EngineUnavailable, match="Too many open files"):
        await copies.live()
    assert fakes.made[0].closed
    assert len(await copies.live()) == 2, "the next call tries again"


async def test_lost_copies_are_replaced_but_not_for_ever_if_they_end_at_once(fakes, monkeypatch) -> None:
    copies = Copies({}, 2)
    first, second = (await copies.live()).values()
    first.answered = first.lost = True
    third, kept = (await copies.live()).values()
    assert (first.closed, kept) == (True, second)
    third.lost = True
    for _ in range(3):
        assert list((await copies.live()).values()) == [second]
    second.lost = True
    with pytest.raises(EngineUnavailable, match="before they had answered"):
        await copies.live()
    assert len(fakes.made) == 3
    monkeypatch.setattr(module, "_PAUSE_SECONDS", 0.0)
    assert list((await copies.live()).values()) == fakes.made[3:]


async def test_copies_go_on_if_a_lost_one_cannot_be_replaced(fakes) -> None:
    copies = Copies({}, 2)
    first, second = (await copies.live()).values()
    first.answered = first.lost = True
    fakes.refuse = {2}
    for _ in range(3):
        assert list((await copies.live()).values()) == [second]
    assert len(fakes.made) == 3, "nor is it tried again at once"


async def test_the_reason_stays_the_same_while_none_is_left_and_none_can_be_started(fakes) -> None:
    copies = Copies({}, 1)
    (only,) = (await copies.live()).values()
    only.answered = only.lost = True
    fakes.refuse, fakes.refusal = {1}, RuntimeError("can't start new thread")
    for _ in range(3):
        with pytest.raises(EngineUnavailable, match="cannot be started: can't start new thread"):
            await copies.live()
    assert len(fakes.made) == 2


async def test_a_thread_that_cannot_be_started_is_the_same_error(fakes, monkeypatch) -> None:
    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    copies = Copies({}, 1)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", start)
        with pytest.raises(EngineUnavailable, match="can't start new thread"):
            await copies.live()
    assert len(await copies.live()) == 1, "the next call tries again"


SCRIPT = """
import asyncio, signal
from genprm.engines import ReplicatedEngine, Request, SamplingParams

print("once", flush=True)
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background shell ignores it
engine = ReplicatedEngine("{model}", replicas=2, device="cpu")
try:
    (found,) = asyncio.run(engine.generate([Request(prompt="3 + 4", params=SamplingParams(max_tokens=4))]))
    print("ok" if found.ok else (found.error.message, found.error.hint))
except KeyboardInterrupt:
    print("interrupted")
finally:
    engine.close()
"""


def script(folder: Path, model: Path) -> list[str]:
    path = folder / "script.py"
    path.write_text(SCRIPT.format(model=model))
    return [sys.executable, str(path)]


def test_a_script_needs_no_guard_of_its_main_module(tiny_model, tmp_path) -> None:
    pytest.importorskip("torch")
    command = script(tmp_path, tiny_model)
    for source in (None, Path(command[1]).read_text()):  # a file, and standard input
        done = subprocess.run(
            command if source is None else [sys.executable, "-"],
            input=source,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert (done.stdout.split(), done.stderr) == (["once", "ok"], "")


@ON_LINUX
def test_a_library_that_cannot_be_imported_is_an_error_with_a_remedy(tiny_model, tmp_path) -> None:
    (tmp_path / "transformers").mkdir()
    (tmp_path / "transformers" / "__init__.py").write_text('raise OSError("libcudart.so: cannot open")')
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}
    command = script(tmp_path, tiny_model)
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=120, check=False)
    assert done.stderr == ""
    assert "'transformers', which cannot be imported here: libcudart.so" in done.stdout
    assert "pip install" in done.stdout


@ON_LINUX
@pytest.mark.parametrize("seconds", [0.0, 0.3, 1.0])
def test_ctrl_c_while_torch_is_imported_says_nothing_but_what_the_script_says(
    tiny_model, tmp_path, seconds
) -> None:
    pytest.importorskip("torch")
    running = subprocess.Popen(
        script(tmp_path, tiny_model),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        until = time.monotonic() + 60
        while not _fork_server(running.pid):
            assert time.monotonic() < until
            time.sleep(0.01)
        time.sleep(seconds)
        os.killpg(running.pid, signal.SIGINT)
        said, complaints = running.communicate(timeout=60)
    finally:
        running.kill()
    assert (said.split(), complaints) == (["once", "interrupted"], "")


def _fork_server(parent: int) -> bool:
    """Whether a process has started the one that its copies are forked from."""
    children = Path(f"/proc/{parent}/task").glob("*/children")
    pids = [pid for path in children for pid in path.read_text().split()]
    return any(b"forkserver" in Path(f"/proc/{pid}/cmdline").read_bytes() for pid in pids)
