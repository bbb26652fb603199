# ruff: noqa: E501 - the attacks are code in strings
"""Branches, later snippets and other sessions share nothing: no memory, descriptors, threads, handlers or flags.

What a fork would share is refused (memory), made anew (standard streams), or keeps a state from being forked a
second time: it is then made again from its snippets.
"""

from __future__ import annotations

import asyncio

import processes
import pytest
from attempts import HARSH, SHOW, TRY, once, steps, tried

from genprm.sandbox import IsolatedSandbox, Limits, Status

SHARED_MEMORY = {
    "anonymous": "import mmap\nattempt('mmap', lambda: mmap.mmap(-1, 4096))\n",
    "every type but private": "libc.mmap.restype = ctypes.c_ssize_t\n"
    "for flags in (0x21, 0x23, 0x28, 0x2f, 0x20, 0x40021, 0x8021):\n"
    "  attempt(flags, lambda: libc.mmap(None, ctypes.c_size_t(1 << 21), 3, flags, -1, 0))\n",
    "of a file": "import mmap\nf = open(os.__file__, 'rb')\n"
    "attempt('read', lambda: mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ))\n"
    "attempt('shared', lambda: mmap.mmap(f.fileno(), 0, mmap.MAP_SHARED, mmap.PROT_READ))\n",
    "with a name": "from multiprocessing import shared_memory\n"
    "attempt('shm', lambda: shared_memory.SharedMemory(create=True, size=4096))\n"
    "attempt('memfd', lambda: os.memfd_create('x'))\n",
    "of multiprocessing": "import multiprocessing\n"
    "attempt('array', lambda: multiprocessing.Array('i', 4))\nattempt('value', lambda: multiprocessing.Value('i'))\n",
    "of System V and POSIX": "for name, arguments in (('shmget', (7, 4096, 0o1666)), ('semget', (7, 1, 0o1666)), ('msgget', (7, 0o1666)),\n"
    "    ('mq_open', (b'/genprm', 0o102, 0o666, 0)), ('sem_open', (b'/genprm', 0o102, 0o666, 1))):\n"
    "  attempt(name, lambda: getattr(libc, name)(*arguments) or -1)\n",
    "duplicated": "import mmap\nm = mmap.mmap(-1, 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)\n"
    "address = ctypes.addressof(ctypes.c_char.from_buffer(m)) & ~0xfff\nlibc.mremap.restype = ctypes.c_ssize_t\n"
    "attempt('mremap', lambda: libc.mremap(ctypes.c_void_p(address), ctypes.c_size_t(0), ctypes.c_size_t(4096), 1))\n",
}


@pytest.mark.parametrize("kind", SHARED_MEMORY)
async def test_shared_memory_cannot_be_had(box: IsolatedSandbox, kind: str) -> None:
    assert await tried(box, SHARED_MEMORY[kind]) == "held"


async def test_private_memory_is_every_branchs_own(box: IsolatedSandbox) -> None:
    make = "import mmap\nm = mmap.mmap(-1, 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)\nm[0] = 1"
    async with await box.open() as session:
        assert (await session.run(make)).status is Status.OK
        async with session.fork() as left, session.fork() as right:
            await left.run("m[0] = 2")
            assert (await right.run("print(m[0])")).stdout == "1\n"


# What a prefix opens, what one branch does with it, and what another branch must still see.
OPENED = {
    "pipe": ("import os\nr, w = os.pipe()", "os.write(w, b'x')", "os.set_blocking(r, False)\ntry: print(os.read(r, 1))\nexcept BlockingIOError: print('empty')", "empty"),
    "socketpair": ("import socket\na, b = socket.socketpair()", "a.send(b'x')", "b.setblocking(False)\ntry: print(b.recv(1))\nexcept BlockingIOError: print('empty')", "empty"),
    "offset of a file": ("import os\nf = os.open(os.__file__, os.O_RDONLY)", "os.read(f, 100)", "print(os.lseek(f, 0, 1))", "0"),
    "offset of a buffered file": ("import os\nf = open(os.__file__)", "f.seek(0, 2)", "print(f.tell())", "0"),
    "flags of a file": ("import fcntl, os\nf = os.open('/dev/null', os.O_RDWR)", "fcntl.fcntl(f, fcntl.F_SETFL, os.O_NONBLOCK)", "print(fcntl.fcntl(f, fcntl.F_GETFL) & os.O_NONBLOCK)", "0"),
    "event counter": ("import ctypes, os\ne = ctypes.CDLL(None).eventfd(0, 0)", "os.write(e, bytes([1] + [0] * 7))", "import select\nprint(select.select([e], [], [], 0)[0])", "[]"),
    "epoll": ("import os, select\ne = select.epoll()\nr, w = os.pipe()", "e.register(w, select.EPOLLOUT)", "print(e.poll(0))", "[]"),
    "in the place of a stream": ("import os\nr, w = os.pipe()\nos.dup2(w, 2)\nos.dup2(r, 0)\nos.close(r)\nos.close(w)", "os.write(2, b'x')", "import select\nprint(select.select([0], [], [], 0)[0] == [0], os.read(0, 1) == b'x')", "True False"),
    "at a high number": ("import os\nr, w = os.pipe()\nos.dup2(r, 60)\nos.dup2(w, 61)\nos.close(r)\nos.close(w)", "os.write(61, b'x')", "os.set_blocking(60, False)\ntry: print(os.read(60, 1))\nexcept BlockingIOError: print('empty')", "empty"),
}  # fmt: skip


@pytest.mark.parametrize("kind", OPENED)
async def test_branches_share_no_descriptor(box: IsolatedSandbox, kind: str) -> None:
    opening, using, seeing, seen = OPENED[kind]
    async with await box.open() as session:
        assert (await session.run(opening)).status is Status.OK
        async with session.fork() as left, session.fork() as right:
            assert (await left.run(using)).status is Status.OK
            assert (await right.run(seeing)).stdout.strip() == seen
            assert (await session.run(seeing)).stdout.strip() == seen


@pytest.mark.parametrize("kind", OPENED)
async def test_a_time_out_leaves_what_a_prefix_opened_as_it_was(box: IsolatedSandbox, kind: str) -> None:
    opening, using, seeing, seen = OPENED[kind]
    async with await box.open() as session:
        await session.run(opening)
        assert (await session.run(f"{using}\nwhile True: pass", HARSH)).status is Status.TIMEOUT
        assert (await session.run(seeing)).stdout.strip() == seen


async def test_branches_at_the_same_time_share_no_descriptor(box: IsolatedSandbox) -> None:
    opening, _, seeing, _ = OPENED["pipe"]
    async with await box.open() as session:
        await session.run(opening)
        branches = [session.fork() for _ in range(4)]
        shown = await asyncio.gather(
            *(branch.run(f"os.write(w, b'{number}')\n{seeing}") for number, branch in enumerate(branches))
        )
        assert [one.stdout for one in shown] == [f"b'{number}'\n" for number in range(4)]
        await asyncio.gather(*(branch.aclose() for branch in branches))


async def test_what_one_line_of_snippets_opened_stays_open(box: IsolatedSandbox) -> None:
    shown = await steps(
        box,
        ["import os\nr, w = os.pipe()", "os.write(w, b'a')", "os.write(w, b'b')", "print(os.read(r, 2))"],
    )
    assert shown[-1].stdout == "b'ab'\n"


async def test_a_prefix_without_open_files_is_never_executed_twice(box: IsolatedSandbox) -> None:
    """Branches and roll-backs are forks; only what a fork would share costs a replay."""
    async with await box.open() as session:
        await session.run("import time\nwhen = time.monotonic_ns()")
        first = (await session.run("print(when)")).stdout
        async with await box.open() as other:
            await other.run("import time\nwhen = time.monotonic_ns()")
            shown = (await other.run("print(when)")).stdout
            for _ in range(3):
                async with other.fork() as branch:
                    assert (await branch.run("print(when)")).stdout == shown
                assert (await other.run("while True: pass", HARSH)).status is Status.TIMEOUT
            assert (await other.run("print(when)")).stdout == shown != first


NULL_FLAGS = "import fcntl, os\nprint([fcntl.fcntl(fd, fcntl.F_GETFL) & (os.O_NONBLOCK | os.O_APPEND) for fd in (0, 1, 2)])"
SET_FLAGS = (
    "import fcntl, os\nfor fd in (0, 1, 2): fcntl.fcntl(fd, fcntl.F_SETFL, os.O_NONBLOCK | os.O_APPEND)"
)


@pytest.mark.parametrize("closed", ["0", "1", "2", "0, 1", "1, 2", "0, 1, 2"])
async def test_the_next_snippet_has_its_streams_whatever_was_closed(
    box: IsolatedSandbox, closed: str
) -> None:
    async with await box.open() as session:
        await session.run(f"import os\nx = 1\nfor fd in ({closed},): os.close(fd)")
        look = "import sys\nprint('back', x, file=sys.stderr)\nprint('back', x, sys.stdin.read())"
        for one in (session, session.fork(), session.fork(), session):
            assert (await one.run(look)).stdout == "back 1 \n"


async def test_flags_of_standard_streams_reach_nobody(box: IsolatedSandbox) -> None:
    async with await box.open() as sender, await box.open() as other:
        await sender.run("x = 1")
        async with sender.fork() as sibling:
            assert (await sender.run(SET_FLAGS)).status is Status.OK
            for witness in (other, sibling, sender):
                assert (await witness.run(NULL_FLAGS)).stdout == "[0, 0, 0]\n"
    assert (await once(box, NULL_FLAGS)).stdout == "[0, 0, 0]\n"


async def test_a_session_begins_with_four_descriptors(box: IsolatedSandbox) -> None:
    code = "import os\ndef open_(fd):\n  try: return bool(os.fstat(fd))\n  except OSError: return False\nprint([fd for fd in range(4096) if open_(fd)])"
    for result in await steps(box, [code, code]):
        assert result.stdout == "[0, 1, 2, 3]\n"


async def test_one_thread_is_always_allowed(box: IsolatedSandbox) -> None:
    code = "import threading\nt = threading.Thread(target=lambda: print('ran'))\nt.start()\nt.join()"
    sessions = [await box.open() for _ in range(120)]
    shown = await asyncio.gather(*(one.run(code, Limits(processes=1)) for one in sessions))
    await asyncio.gather(*(one.aclose() for one in sessions))
    assert [one.stdout for one in shown] == ["ran\n"] * 120


async def test_threads_count_while_they_live(box: IsolatedSandbox) -> None:
    """A limit of one is enough for any number of threads, one after the other."""
    code = "import threading\nfor _ in range(150):\n  t = threading.Thread(target=len, args=('',))\n  t.start()\n  t.join()\nprint('done')"
    result = await once(box, code, Limits(processes=1))
    assert result.stdout == "done\n", result
    pool = "from concurrent.futures import ThreadPoolExecutor\nfor _ in range(5):\n  with ThreadPoolExecutor(8) as p: print(sum(p.map(abs, range(100))))"
    assert (await once(box, pool, Limits(processes=8))).stdout == "4950\n" * 5


async def test_a_thread_may_start_another_within_the_limit(box: IsolatedSandbox) -> None:
    code = """
import threading, time
def work(depth):
    if depth:
        t = threading.Thread(target=work, args=(depth - 1,))
        t.start()
        t.join()
    print(depth)
work(4)
"""
    assert (await once(box, code, Limits(processes=4))).stdout == "0\n1\n2\n3\n4\n"
    assert (await once(box, code, Limits(processes=3))).stdout == "2\n3\n4\n"


async def test_threads_that_start_threads_at_the_same_time_stay_below_the_limit(
    box: IsolatedSandbox,
) -> None:
    before = processes.of(box)
    code = """
import threading, time
def breed():
    while True:
        try: threading.Thread(target=breed, daemon=True).start()
        except RuntimeError: time.sleep(0.01)
breed()
"""
    async with await box.open() as session:
        task = asyncio.ensure_future(
            session.run(code, Limits(soft_seconds=1.0, hard_seconds=1.2, processes=6, memory_mb=600))
        )
        most = 0
        while not task.done():
            for pid in processes.of(box) - before:
                most = max(most, processes.threads(pid))
            await asyncio.sleep(0.01)
        assert 2 <= most <= 7
        assert task.result().status is Status.TIMEOUT


LEFT_BEHIND = """
import threading
count = 0
def work():
    global count
    while True: count += 1
for _ in range(3): threading.Thread(target=work, daemon=True).start()
"""


async def test_threads_of_a_prefix_do_not_run_between_its_branches(box: IsolatedSandbox) -> None:
    """A prefix with threads is forked once: by then they may have changed it, and no other branch sees that."""
    mark = "seen = []\ndef see():\n  a = count\n  for _ in range(10**5): pass\n  return count == a\nprint(see(), threading.active_count())"
    async with await box.open() as session:
        await session.run(LEFT_BEHIND)
        for _ in range(3):
            async with session.fork() as branch:
                assert (await branch.run(mark)).stdout == "True 1\n"
        assert (await session.run(mark)).stdout == "True 1\n"


HANDLERS = """
import signal
calls = []
for number in (signal.SIGCONT, signal.SIGCHLD, signal.SIGALRM, signal.SIGUSR1, signal.SIGVTALRM, signal.SIGTERM):
    signal.signal(number, lambda *a: calls.append(a[0]))
class Late:
    def __del__(self): signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
late = Late()
del late
"""


async def test_handlers_of_a_prefix_do_not_run_when_it_is_forked(box: IsolatedSandbox) -> None:
    async with await box.open() as session:
        assert (await session.run(HANDLERS)).status is Status.OK
        for _ in range(3):
            async with session.fork() as branch:
                await branch.run("import os\nos._exit(1)")
                assert (await branch.run("print(calls)")).stdout == "[]\n"
            assert (await session.run("while True: pass", HARSH)).status is Status.TIMEOUT
        assert (await session.run("print(calls)")).stdout == "[]\n"


async def test_handlers_and_masks_do_not_keep_a_snippet_from_its_limits(box: IsolatedSandbox) -> None:
    block = "import signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())"
    async with await box.open() as session:
        await session.run(block)
        caught = "import time\ntry: time.sleep(30)\nexcept TimeoutError: print('soft')"
        assert (await session.run(caught, Limits(soft_seconds=0.2, hard_seconds=2))).stdout == "soft\n"


END_MAIN = "import ctypes, threading, time\n{body}\nthreading.Thread(target=work, daemon=True).start()\ntime.sleep(0.2)\n{end}"
ENDS = {
    "pthread_exit": "ctypes.CDLL(None).pthread_exit(None)",
    "exit": "ctypes.CDLL(None).syscall({}, 0)".format(
        "93 if __import__('os').uname().machine == 'aarch64' else 60"
    ),
}


@pytest.mark.parametrize("end", ENDS)
async def test_a_main_thread_that_ends_before_the_others_takes_them_along(
    box: IsolatedSandbox, end: str
) -> None:
    """The kernel says nothing of the memory of a process whose first thread has ended."""
    before = processes.of(box)
    body = "def work():\n  hold = []\n  while True: hold.append(bytearray(1 << 20)); time.sleep(0.002)"
    async with await box.open() as session:
        result = await session.run(END_MAIN.format(body=body, end=ENDS[end]))
        assert result.status is Status.DIED
        assert result.wall_seconds < 3
        assert not await processes.settle(box, before)


async def test_a_forged_outcome_behind_an_ended_main_thread_leaves_no_state(box: IsolatedSandbox) -> None:
    before = processes.of(box)
    body = "import os\ndef work():\n  time.sleep(0.5)\n  os.write(3, b'[\"ok\",null,null,1]')\n  time.sleep(60)"
    async with await box.open() as session:
        await session.run("x = 1")
        result = await session.run(END_MAIN.format(body=body, end=ENDS["pthread_exit"]))
        assert result.status is Status.DIED
        assert (await session.run("print(x)")).stdout == "1\n"
    assert not await processes.settle(box, before)


async def test_descriptors_used_up_are_the_codes_own_fault(box: IsolatedSandbox) -> None:
    fill = "import os\nkept = []\ntry:\n  while True: kept.append(os.open('/dev/null', os.O_RDONLY))\nexcept OSError as e: print(e.errno)"
    async with await box.open() as session:
        assert (await session.run(fill)).stdout == "24\n"
        assert (await session.run("print(len(kept))")).stdout == "60\n"
        more = await session.run("open(os.__file__)")
        assert (more.status, more.error_type) == (Status.ERROR, "OSError")
        async with session.fork() as branch:
            assert (await branch.run("print(len(kept))")).stdout == "60\n"
        assert (
            await session.run("for fd in kept: os.close(fd)\nprint(len(open(os.__file__).read()) > 0)")
        ).stdout == "True\n"


async def test_the_control_socket_cannot_be_used_to_reach_anything(box: IsolatedSandbox) -> None:
    body = (
        "import socket\ns = socket.socket(fileno=os.dup(3))\n"
        "attempt('sendmsg', lambda: s.sendmsg([b'x']))\nattempt('bind', lambda: s.bind('\\0x') or 1)\n"
        "attempt('listen', lambda: s.listen() or 1)\nattempt('connect', lambda: s.connect('\\0x') or 1)\n"
        "attempt('setsockopt', lambda: s.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1) or 1)\n"
        "attempt('accept', lambda: s.accept())\nattempt('peer', lambda: s.getpeername())\n"
    )
    result = await once(box, TRY + body + SHOW)
    assert result.stdout == "held\n"
