"""The bridge from synchronous code: one background loop for the whole process."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import traceback
import warnings
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from genprm.aio import await_on_bridge, iterate_sync, run_sync


async def double(value: int) -> int:
    await asyncio.sleep(0)
    return 2 * value


async def loop_and_thread() -> tuple[asyncio.AbstractEventLoop, int]:
    return asyncio.get_running_loop(), threading.get_ident()


def run_script(code: str, *, interrupt_after: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run a script; with `interrupt_after`, send it SIGINT once it has printed that line."""
    # A shell starts background jobs with SIGINT ignored, and Python then leaves it so.
    heeded = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    process = subprocess.Popen(
        [sys.executable, "-W", "always::ResourceWarning", "-c", heeded + textwrap.dedent(code)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        if interrupt_after is not None:
            assert process.stdout is not None
            while (line := process.stdout.readline().strip()) != interrupt_after:
                assert line, "the script ended early"
            process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def test_all_calls_run_on_one_loop_in_a_thread_of_its_own():
    first, second = run_sync(loop_and_thread()), run_sync(loop_and_thread())
    assert first == second
    assert first[1] != threading.get_ident()


async def test_a_running_loop_is_no_obstacle():
    assert run_sync(double(4)) == 8
    assert run_sync(loop_and_thread())[0] is not asyncio.get_running_loop()


def test_what_one_call_made_serves_the_next():
    async def make() -> tuple[asyncio.Lock, asyncio.Task[int]]:
        return asyncio.Lock(), asyncio.create_task(double(21))

    async def use(lock: asyncio.Lock, task: asyncio.Task[int]) -> int:
        async with lock:
            return await task

    lock, task = run_sync(make())
    assert run_sync(use(lock, task)) == 42


def test_calls_from_eight_threads_run_concurrently():
    waiting = 0
    everybody = asyncio.Event()

    async def meet(number: int) -> int:
        nonlocal waiting
        waiting += 1
        if waiting == 8:
            everybody.set()
        await everybody.wait()
        return number

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda number: run_sync(meet(number)), range(8))) == list(range(8))


def test_an_exception_keeps_its_type_and_its_traceback():
    async def inner() -> None:
        raise ValueError("inside")

    async def outer() -> None:
        await inner()

    with pytest.raises(ValueError, match="inside") as caught:
        run_sync(outer())
    names = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert names[-2:] == ["outer", "inner"]
    assert "test_an_exception_keeps_its_type_and_its_traceback" in names


def test_an_exit_inside_ends_the_call_and_not_the_loop():
    async def leave() -> None:
        raise SystemExit(3)

    async def leave_in_a_task() -> str:
        with pytest.raises(SystemExit):
            await asyncio.create_task(leave())
        return "lives"

    with pytest.raises(SystemExit):
        run_sync(leave())
    assert run_sync(leave_in_a_task()) == "lives"
    assert run_sync(double(1)) == 2


def test_a_call_that_cancels_itself_says_so():
    async def give_up() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(60)

    with pytest.raises(asyncio.CancelledError):
        run_sync(give_up())


def test_context_variables_are_the_callers():
    seen: contextvars.ContextVar[str] = contextvars.ContextVar("seen", default="nothing")
    token = seen.set("the caller's")

    async def look() -> str:
        found = seen.get()
        seen.set("changed inside")
        return found

    assert run_sync(look()) == "the caller's"
    assert seen.get() == "the caller's"
    seen.reset(token)


def test_something_that_is_no_coroutine_is_refused():
    with pytest.raises(TypeError):
        run_sync(3)  # type: ignore[arg-type]


def test_a_call_from_the_bridges_own_loop_is_refused_and_leaves_nothing_unawaited():
    async def nested() -> int:
        return run_sync(double(1))

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(RuntimeError, match="await"):
            run_sync(nested())
        gc.collect()


def test_a_thread_that_the_loop_waits_for_may_use_the_bridge():
    async def through_a_thread() -> int:
        return await asyncio.to_thread(lambda: run_sync(double(3)))

    assert run_sync(through_a_thread()) == 6


# Iteration


class Numbers:
    """Numbers, and what became of their iterator."""

    def __init__(self) -> None:
        self.closed = threading.Event()
        self.made: list[int] = []

    async def stream(self, count: int, fails_at: int | None = None) -> AsyncIterator[int]:
        try:
            for number in range(count):
                await asyncio.sleep(0)
                if number == fails_at:
                    raise ValueError("broken")
                self.made.append(number)
                yield number
        finally:
            await asyncio.sleep(0)
            self.closed.set()


def test_iterate_sync_yields_every_item_one_by_one():
    numbers = Numbers()
    for number in iterate_sync(numbers.stream(5)):
        assert numbers.made[-1] == number, "nothing is asked for before the consumer wants it"
    assert numbers.made == [0, 1, 2, 3, 4]
    assert numbers.closed.is_set()


async def test_iterate_sync_works_inside_a_running_loop():
    assert list(iterate_sync(Numbers().stream(3))) == [0, 1, 2]


def test_tasks_run_on_between_items():
    ready = threading.Event()

    async def stream() -> AsyncIterator[str]:
        async def work() -> str:
            await asyncio.sleep(0)
            ready.set()
            return "done"

        task = asyncio.create_task(work())
        yield "started"
        yield await task

    items = iterate_sync(stream())
    assert next(items) == "started"
    assert ready.wait(30), "the loop runs while the consumer does something else"
    assert list(items) == ["done"]


def test_iterate_sync_closes_the_iterator_when_the_consumer_stops():
    numbers = Numbers()
    for number in iterate_sync(numbers.stream(1000)):
        if number == 2:
            break
    assert numbers.closed.wait(30)
    assert numbers.made == [0, 1, 2]


def test_iterate_sync_closes_the_iterator_when_it_is_collected_on_the_loop_itself():
    numbers = Numbers()
    held = [iterate_sync(numbers.stream(1000))]
    assert next(held[0]) == 0

    async def drop() -> None:
        held.clear()

    run_sync(drop())
    assert numbers.closed.wait(30)


def test_iterate_sync_passes_an_error_on():
    numbers = Numbers()
    items = iterate_sync(numbers.stream(9, fails_at=2))
    assert [next(items), next(items)] == [0, 1]
    with pytest.raises(ValueError, match="broken"):
        next(items)
    assert numbers.closed.is_set()


def test_an_iterator_that_cannot_be_closed_is_fine():
    class Plain:
        def __init__(self) -> None:
            self.left = 2

        def __aiter__(self) -> Plain:
            return self

        async def __anext__(self) -> int:
            if not self.left:
                raise StopAsyncIteration
            self.left -= 1
            return self.left

    assert list(iterate_sync(Plain())) == [1, 0]


# Interrupts, exits and forks, each in a process of its own


INTERRUPTED = """
    import asyncio, sys, threading, time
    from genprm.aio import await_on_bridge, iterate_sync, run_sync

    async def work():
        print("working", flush=True)
        try:
            await asyncio.sleep(600)
        finally:
            await asyncio.sleep(0.05)
            print("cleaned up", flush=True)

    async def stream():
        yield 1
        await work()

    async def after():
        return "the loop lives"

    try:
        {call}
    except KeyboardInterrupt:
        print("interrupted")
    print(run_sync(after()))
"""


@pytest.mark.parametrize("call", ["run_sync(work())", "list(iterate_sync(stream()))"])
def test_an_interrupt_cancels_waits_for_the_clean_up_and_is_raised_again(call):
    done = run_script(INTERRUPTED.format(call=call), interrupt_after="working")
    assert done.stdout.split("\n")[:-1] == ["cleaned up", "interrupted", "the loop lives"]
    assert (done.returncode, done.stderr) == (0, "")


def test_an_uncaught_interrupt_ends_the_process_after_the_clean_up():
    code = INTERRUPTED.format(call="run_sync(work())").replace(
        "except KeyboardInterrupt", "except ValueError"
    )
    done = run_script(code, interrupt_after="working")
    assert done.returncode == -signal.SIGINT
    assert done.stdout == "cleaned up\n"
    assert done.stderr.rstrip().endswith("KeyboardInterrupt")
    assert "was destroyed" not in done.stderr


def test_the_exit_cancels_what_still_runs_quietly():
    started = time.monotonic()
    done = run_script(
        """
        import asyncio, threading
        from genprm.aio import await_on_bridge, iterate_sync, run_sync

        async def for_ever(name):
            try:
                await asyncio.sleep(600)
            finally:
                await asyncio.sleep(0)
                print(name, "cleaned up", flush=True)

        async def spawn():
            kept.append(asyncio.create_task(for_ever("task")))
            await asyncio.sleep(0)

        async def stream():
            try:
                while True:
                    yield 1
            finally:
                print("stream closed", flush=True)

        def call():
            try:
                run_sync(for_ever("call"))
            except asyncio.CancelledError:
                pass

        kept = []
        run_sync(spawn())
        kept.append(iterate_sync(stream()))
        next(kept[-1])
        threading.Thread(target=call, daemon=True).start()
        while len(asyncio.all_tasks(kept[0].get_loop())) < 2:
            pass
        print("main ends", flush=True)
        """
    )
    assert time.monotonic() - started < 60
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == "main ends"
    assert sorted(lines[1:]) == ["call cleaned up", "stream closed", "task cleaned up"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_has_a_loop_of_its_own_and_leaves_its_parents_alone():
    done = run_script(
        """
        import asyncio, os, sys, warnings
        warnings.simplefilter("ignore", DeprecationWarning)  # fork beside threads, which is the point here
        from genprm.aio import run_sync

        async def double(value):
            await asyncio.sleep(0.01)
            return 2 * value

        async def spawn():
            return asyncio.create_task(double(5))

        async def collect(task):
            return await task

        task = run_sync(spawn())
        child = os.fork()
        if not child:
            assert run_sync(double(2)) == 4
            sys.exit(7)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), run_sync(collect(task)), run_sync(double(3)))
        """
    )
    assert done.stdout == "7 10 6\n"
    assert "Error" not in done.stderr and "was destroyed" not in done.stderr


async def test_other_loops_await_what_runs_on_the_bridge() -> None:
    here = (asyncio.get_running_loop(), threading.get_ident())
    first, second = await asyncio.gather(*(await_on_bridge(loop_and_thread()) for _ in range(2)))
    assert first == second != here
    assert await asyncio.to_thread(lambda: asyncio.run(await_on_bridge(loop_and_thread()))) == first
    assert await asyncio.to_thread(run_sync, loop_and_thread()) == first


def test_the_bridge_itself_awaits_without_a_detour() -> None:
    async def body() -> bool:
        return await await_on_bridge(loop_and_thread()) == await loop_and_thread()

    assert run_sync(body())


async def test_a_failure_on_the_bridge_is_the_callers() -> None:
    async def fail() -> None:
        raise KeyError("gone")

    with pytest.raises(KeyError, match="gone"):
        await await_on_bridge(fail())


async def test_a_cancelled_caller_cancels_what_runs_on_the_bridge() -> None:
    begun, ended = threading.Event(), threading.Event()

    async def wait() -> None:
        begun.set()
        try:
            await asyncio.sleep(600)
        finally:
            ended.set()

    task = asyncio.create_task(await_on_bridge(wait()))
    assert await asyncio.to_thread(begun.wait, 30)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(ended.wait, 30)
