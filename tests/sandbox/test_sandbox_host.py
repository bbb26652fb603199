# ruff: noqa: E501 - the attacks are code in strings
"""A snippet learns nothing of the host and reaches none of its sockets."""

from __future__ import annotations

import os
import platform
import socket
import tempfile
import time
from pathlib import Path

import processes
import pytest
from attempts import once, tried

import genprm
from genprm.sandbox import IsolatedSandbox

# Walks everything that Python can reach from a snippet, and prints where a forbidden text occurs.
SEARCH = """
import gc, os, sys
OWN = ("__file__", "__cached__", "__path__", "__doc__", "filename", "data")
def search(reversed_needles):
    needles = [text[::-1] for text in reversed_needles]
    found = set()
    def look(where, value):
        text = value.decode("latin-1") if isinstance(value, bytes) else value if isinstance(value, str) else repr(value)
        found.update((where, needle) for needle in needles if needle in text[:10**6])
    frame = sys._getframe(1)
    while frame:
        look("file", frame.f_code.co_filename)
        for name, value in [*frame.f_locals.items(), *frame.f_globals.items()]:
            if not isinstance(value, type(sys)):
                look(name, value)
        frame = frame.f_back
    for name in ("argv", "orig_argv", "executable", "_base_executable", "warnoptions", "_xoptions", "meta_path", "path"):
        look("sys." + name, getattr(sys, name, ""))
    for name, module in list(sys.modules.items()):
        if name.split(".")[0] in ("box", "__main__"):
            for attribute, value in list(vars(module).items()):
                look(name, value)
                look(name, getattr(getattr(value, "__code__", None), "co_filename", ""))
    look("environment", dict(os.environ))
    gc.unfreeze()
    for thing in gc.get_objects():
        if type(thing) is dict:
            for key, value in list(thing.items()):
                if type(value) is str and key not in OWN: look(str(key), value)
        elif type(thing) in (list, tuple):
            for value in list(thing):
                if type(value) is str and value not in needles: look("a list", value)
    return sorted(found)[:10] or "nothing"
print(search({needles!r}))
"""


async def test_nothing_of_the_hosts_start_is_within_reach(box: IsolatedSandbox) -> None:
    """Not the package's place, the program's arguments, the user, this process or the launcher, in any frame."""
    needles = [
        str(Path(genprm.__file__).parent),
        "host_pid",
        "GENPRM_TEST_CANARY",
        str(Path(__file__).parent),
    ]
    needles += [f"{pid}'" for pid in processes.launchers(box)]
    result = await once(box, SEARCH.replace("{needles!r}", repr([needle[::-1] for needle in needles])))
    assert result.stdout == "nothing\n", result


async def test_frames_above_a_snippet_are_the_boxs_own_and_few(box: IsolatedSandbox) -> None:
    code = "import sys\nframe, files = sys._getframe(), []\nwhile frame:\n  files.append(frame.f_code.co_filename)\n  frame = frame.f_back\nprint(files)"
    assert (
        await once(box, code)
    ).stdout == "['<string>', '<box.snippet>', '<box.snippet>', '<box.zygote>', '<string>']\n"


async def test_the_command_line_is_empty(box: IsolatedSandbox) -> None:
    code = "import sys\nprint(sys.argv, sys.orig_argv, repr(sys.executable))"
    assert (await once(box, code)).stdout == "[''] [''] ''\n"


async def test_the_host_has_no_name(box: IsolatedSandbox) -> None:
    code = """
import os, platform, socket, ctypes
print(os.uname().nodename, platform.node(), platform.uname().node)
try: print(socket.gethostname())
except OSError: print('box')
try: print(socket.getfqdn())
except OSError: print('box')
name = ctypes.create_string_buffer(6 * 65)
ctypes.CDLL(None).uname(name)
print(name.raw[65:130].rstrip(bytes(1)) in (b'', b'box'))
try: print(os.sysconf('SC_HOST_NAME_MAX') and os.confstr('CS_PATH') and 'box')
except (OSError, ValueError): print('box')
"""
    shown = (await once(box, code)).stdout
    assert shown.split() == ["box"] * 5 + ["True", "box"], shown


OTHERS = {
    "processor clocks": "import time\nfor pid in pids:\n  for kind in (0, 1, 2, 6): attempt((pid, kind), lambda: time.clock_gettime((~pid << 3) | kind))\n"
    "  attempt(pid, lambda: time.clock_getres((~pid << 3) | 2))\n",
    "processor clocks by libc": "clock = ctypes.c_int()\nfor pid in pids: attempt(pid, lambda: 1 if libc.clock_getcpuclockid(pid, ctypes.byref(clock)) == 0 else -1)\n",
    "groups and sessions": "for pid in pids:\n  attempt(pid, lambda: os.getpgid(pid) + 1)\n  attempt(pid, lambda: os.getsid(pid) + 1)\n",
    "priorities": "for pid in pids:\n  attempt(pid, lambda: os.getpriority(os.PRIO_PROCESS, pid) + 100)\n  attempt(pid, lambda: os.sched_getscheduler(pid) + 1)\n  attempt(pid, lambda: os.sched_getparam(pid))\n",
    "cores": "for pid in pids: attempt(pid, lambda: os.sched_getaffinity(pid))\n",
    "limits": "import resource\nfor pid in pids: attempt(pid, lambda: resource.prlimit(pid, resource.RLIMIT_AS))\n",
    "files": "for pid in pids:\n  for name in ('exe', 'cwd', 'root', 'ns/pid'): attempt((pid, name), lambda: os.readlink(f'/proc/{pid}/{name}'))\n"
    "  for name in ('stat', 'status', 'cmdline', 'maps', 'environ'): attempt((pid, name), lambda: open(f'/proc/{pid}/{name}').read())\n",
    "handles": "for pid in pids: attempt(pid, lambda: os.pidfd_open(pid) if hasattr(os, 'pidfd_open') else -1)\n",
    "memory": "data = ctypes.create_string_buffer(8)\nfor pid in pids:\n  attempt(pid, lambda: libc.process_vm_readv(pid, data, 1, data, 1, 0))\n  attempt(pid, lambda: libc.kcmp(pid, pid, 0, 0, 0) + 1)\n",
    "signals": "for pid in pids: attempt(pid, lambda: os.kill(pid, 0) or 1)\n",
}


@pytest.mark.parametrize("kind", OTHERS)
async def test_other_processes_cannot_be_asked_about(box: IsolatedSandbox, kind: str) -> None:
    some = [1, os.getpid(), os.getppid(), *processes.of(box)]
    pids = f"pids = [os.getppid(), *range(1, 30), *{some}]\npids = [pid for pid in pids if pid != os.getpid()]\n"
    assert await tried(box, pids + OTHERS[kind]) == "held"


MACHINE = {
    "memory and load": "attempt('load', lambda: os.getloadavg())\n"
    "data = ctypes.create_string_buffer(256)\nattempt('sysinfo', lambda: libc.sysinfo(data) or 1)\n",
    "file systems": "for place in ('/', '/usr/lib', '.'): attempt(place, lambda: os.statvfs(place))\nattempt('fd', lambda: os.fstatvfs(0))\n",
    "links": "for place in ('/proc/self/exe', '/proc/self/cwd', '/proc/self/root', '/etc/localtime', '/proc/self/fd/0'): attempt(place, lambda: os.readlink(place))\n",
    "kernel": "for place in ('version', 'cpuinfo', 'meminfo', 'uptime', 'mounts', 'self/mountinfo', 'net/tcp', 'sys/kernel/hostname', 'cmdline'):\n"
    "  attempt(place, lambda: open('/proc/' + place).read())\n",
    "devices": "for place in ('/sys', '/dev', '/sys/class/net', '/dev/shm'): attempt(place, lambda: os.listdir(place) or -1)\n"
    "for place in ('/dev/tty', '/dev/zero', '/dev/random', '/dev/mem', '/dev/kmsg'): attempt(place, lambda: open(place, 'rb').read(1))\n",
    "users": "import pwd, grp\nattempt('users', lambda: pwd.getpwall() or -1)\nattempt('groups', lambda: grp.getgrall() or -1)\nattempt('login', lambda: os.getlogin())\n"
    "attempt('home', lambda: os.listdir(os.path.expanduser('~root')))\n",
    "names of the network": "import socket\nattempt('interfaces', lambda: socket.if_nameindex())\nattempt('hosts', lambda: socket.gethostbyname('localhost'))\n",
}  # fmt: skip


@pytest.mark.parametrize("kind", MACHINE)
async def test_the_machine_cannot_be_asked_about(box: IsolatedSandbox, kind: str) -> None:
    assert await tried(box, MACHINE[kind]) == "held"


async def test_the_user_of_the_host_is_not_told(box: IsolatedSandbox) -> None:
    shown = (await once(box, "import os\nprint(*os.getresuid(), *os.getresgid(), *os.getgroups())")).stdout
    ids = {int(number) for number in shown.split()}
    if box.report.mechanisms["pid namespace"] or os.getuid() == 0:
        assert not ids & {os.getuid(), os.getgid()}
    for pid in processes.launchers(box):
        assert not any(pid == number & 0xFFFFFF for number in ids)


async def test_packages_that_are_not_of_the_tier_are_out_of_reach(box: IsolatedSandbox) -> None:
    code = """
import os, sys, sysconfig
library = os.path.dirname(os.__file__)
places = [os.path.join(library, name) for name in ('site-packages', 'dist-packages')]
places += ['/usr/lib/python3/dist-packages', '/usr/local/lib/python3/dist-packages']
for place in places:
    for directory, _, names in os.walk(place):
        for name in names:
            attempt(name, lambda: open(os.path.join(directory, name), 'rb').read(1))
for name in ('pip', 'setuptools', 'pydantic', 'pytest', 'genprm', 'numpy', 'sympy'):
    sys.path += [place for place in places if place not in sys.path]
    attempt(name, lambda: __import__(name))
"""
    assert await tried(box, code) == "held"


async def test_the_standard_library_is_whole(box: IsolatedSandbox) -> None:
    """What is taken away does not keep harmless code from working."""
    code = """
import asyncio, ctypes.util, decimal, difflib, email, fractions, html, http.client, itertools, json, logging
import multiprocessing, platform, pprint, queue, sched, secrets, sqlite3, ssl, statistics, sysconfig, tempfile
import timeit, turtledemo if False else types, unittest, urllib.parse, uuid, xml.dom, zipfile, zoneinfo
""".replace("turtledemo if False else types", "types")
    code += """
async def later(): await asyncio.sleep(0.01); return 7
print(asyncio.run(later()))
from concurrent.futures import ThreadPoolExecutor
with ThreadPoolExecutor(2) as pool: print(list(pool.map(abs, [-1, 2])))
print(os.cpu_count() if 'os' in dir() else 1, len(uuid.uuid4().hex), platform.system())
print(time.process_time() >= 0 if 'time' in dir() else True)
"""
    result = await once(box, "import os, time\n" + code)
    lines = result.stdout.splitlines()
    assert lines[:2] == ["7", "[1, 2]"], result
    assert lines[2].split()[1:] == ["32", "Linux"]


async def test_sockets_of_the_host_cannot_be_reached_by_path_or_name(box: IsolatedSandbox) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        path, name = str(Path(folder) / "socket"), f"\0genprm-datagrams-{os.getpid()}"
        servers = []
        for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
            for place in (f"{path}-{kind}", f"{name}-{kind}"):
                server = socket.socket(socket.AF_UNIX, kind)
                server.bind(place)
                if kind == socket.SOCK_STREAM:
                    server.listen()
                elif not place.startswith("\0"):
                    Path(place).chmod(0o777)
                server.setblocking(False)
                servers.append((server, kind, place))
        body = f"""
import socket, struct
for place in {[place for _, _, place in servers]!r}:
    for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM, socket.SOCK_SEQPACKET):
        a, b = socket.socketpair(socket.AF_UNIX, kind)
        attempt((place, kind, 'sendto'), lambda: a.sendto(b'x', place))
        attempt((place, kind, 'sendmsg'), lambda: a.sendmsg([b'x'], [], 0, place))
        attempt((place, kind, 'connect'), lambda: a.connect(place) or 1)
        attempt((place, kind, 'bind'), lambda: a.bind(place + 'x') or 1)
        attempt((place, kind, 'socket'), lambda: socket.socket(socket.AF_UNIX, kind))
        raw = place.encode()
        address = struct.pack('H', 1) + raw
        number = {206 if platform.machine() == "aarch64" else 44}
        attempt((place, kind, 'raw'), lambda: libc.syscall(number, a.fileno(), b'x', 1, 0, address, len(address)))
        attempt((place, kind, 'mmsg'), lambda: libc.sendmmsg(a.fileno(), bytes(64), 1, 0))
        a.close(); b.close()
attempt('family', lambda: socket.socketpair(socket.AF_INET, socket.SOCK_STREAM))
attempt('netlink', lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW))
attempt('vsock', lambda: socket.socket(40, socket.SOCK_STREAM))
"""
        assert await tried(box, body) == "held"
        for server, kind, _ in servers:
            with pytest.raises(BlockingIOError):
                server.recv(1) if kind == socket.SOCK_DGRAM else server.accept()
            server.close()


async def test_who_made_a_socket_is_not_told(box: IsolatedSandbox) -> None:
    """Neither its number, groups and label, nor a descriptor of that process, for any socket within reach."""
    code = """
import ctypes, socket
libc = ctypes.CDLL(None, use_errno=True)
pair = socket.socketpair()
told = []
for option in (17, 31, 55, 57, 59, 75, 77, 83):
    for fd in (3, pair[0].fileno()):
        buffer, size = ctypes.create_string_buffer(256), ctypes.c_int(256)
        result = libc.getsockopt(fd, socket.SOL_SOCKET, option, buffer, ctypes.byref(size))
        if result != -1 or ctypes.get_errno() != 1: told.append((option, fd, result))
print(told, pair[0].getsockopt(socket.SOL_SOCKET, socket.SO_TYPE), pair[0].gettimeout())
"""
    assert (await once(box, code)).stdout == "[] 1 None\n"


async def test_memory_is_not_taken_from_the_hosts_reserve_or_merged_with_others(
    box: IsolatedSandbox,
) -> None:
    """Whether or not this machine has huge pages in reserve, or merges pages now: the calls are refused."""
    code = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
def mapped(flags):
    place = libc.mmap(None, ctypes.c_size_t(2 << 20), 3, flags, -1, ctypes.c_long(0))
    return place, ctypes.get_errno()
nowhere = ctypes.c_void_p(-1).value
sizes = [0, 21 << 26, 30 << 26]
print(all(mapped(0x40022 | size) == (nowhere, 1) for size in sizes))
place, _ = mapped(0x22)
for advice in (12, 14):
    print(libc.madvise(ctypes.c_void_p(place), ctypes.c_size_t(2 << 20), advice), ctypes.get_errno() if advice == 12 else 0)
"""
    lines = (await once(box, code)).stdout.splitlines()
    assert lines[:2] == ["True", "-1 1"], lines
    assert lines[2].startswith("0 "), "advice that harms nobody is taken"


async def test_threads_have_no_descriptors_of_their_own(box: IsolatedSandbox) -> None:
    code = """
import ctypes, os, threading
libc = ctypes.CDLL(None, use_errno=True)
def work():
    print(libc.syscall(436, 50, 60, 2), ctypes.get_errno())
    kept = os.dup(1)
    print(libc.syscall(436, kept, kept, 4), libc.syscall(436, kept, kept, 0))
thread = threading.Thread(target=work)
thread.start()
thread.join()
"""
    assert (await once(box, code)).stdout == "-1 1\n0 0\n"


async def test_a_socketpair_still_talks_to_itself(box: IsolatedSandbox) -> None:
    code = "import socket\na, b = socket.socketpair()\na.sendall(b'hello')\nprint(b.recv(5), b.send(b'x'), a.recv(1))"
    assert (await once(box, code)).stdout == "b'hello' 1 b'x'\n"


async def test_own_clocks_work(box: IsolatedSandbox) -> None:
    code = "import time\nprint(all(f() >= 0 for f in (time.time, time.monotonic, time.process_time, time.thread_time, time.perf_counter)), time.clock_gettime(time.CLOCK_BOOTTIME) > 0, time.clock_getres(time.CLOCK_MONOTONIC) > 0)\ntime.sleep(0.01)"
    begin = time.monotonic()
    assert (await once(box, code)).stdout == "True True True\n"
    assert time.monotonic() > begin


async def test_files_of_the_host_cannot_be_asked_about(box: IsolatedSandbox) -> None:
    """A root of its own holds nothing but the interpreter. Landlock has no rule for `stat`: see the page."""
    if not box.report.mechanisms["mount namespace"]:
        pytest.skip("without a mount namespace the existence of a path can be found out")
    body = (
        "for place in ('/etc/passwd', '/root/.bashrc', '/home', '/proc', '/proc/self/exe', '/sys', '/var', '/etc/hostname'):\n"
        "  attempt(place, lambda: os.stat(place))\n  attempt(place, lambda: os.access(place, os.F_OK) or -1)\n"
        "  attempt(place, lambda: os.chdir(place) or 1)\n"
        f"attempt('package', lambda: os.stat({str(Path(genprm.__file__))!r}))\n"
    )
    assert await tried(box, body) == "held"
