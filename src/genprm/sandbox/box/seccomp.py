"""Two seccomp filters: an allow-list, and a gate that asks about every new process or thread.

The gate is what keeps untrusted code from leaving anything running: a snapshot must be able to fork,
the code in it must not. The filter cannot tell them apart, so `clone` is suspended and the
supervisor, which knows whether it has just told that very process to make a snapshot, lets it
continue or answers EPERM. Threads are let through up to a number of those alive.

The default answer is EPERM and not death, since harmless library code tries harmless things (a
printer asking for the width of the terminal).
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import struct
from dataclasses import dataclass

from . import kernel, syscalls

_SET_MODE_FILTER = 1
_NEW_LISTENER = 1 << 3
_WAIT_KILLABLE = 1 << 5  # what waits for an answer is not disturbed by signals; Linux 5.19

_RET_KILL = 0x80000000
_RET_ERRNO = 0x00050000
_RET_NOTIFY = 0x7FC00000
_RET_ALLOW = 0x7FFF0000
EPERM, EAGAIN, _ENOSYS = 1, 11, 38

_AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_X32_BIT = 0x40000000
_LOAD, _JUMP_EQUAL, _JUMP_AT_LEAST, _AND, _RETURN = 0x20, 0x15, 0x35, 0x54, 0x06
_OFFSET_NUMBER, _OFFSET_ARCH, _OFFSET_ARGS = 0, 4, 16

_NOTIFY_RECEIVE, _NOTIFY_SEND = 0xC0502100, 0xC0182101
_CONTINUE = 1

_FORKS = (0x01200011, 0x11)  # glibc's fork, musl's fork
_THREAD = 0x10000
_THREAD_FLAGS = 0x007D0F00  # what pthread_create passes; no namespace flag among them


def _instruction(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)


def _load(offset: int) -> bytes:
    return _instruction(_LOAD, offset)


def _return(value: int) -> bytes:
    return _instruction(_RETURN, value)


_REFUSE = _return(_RET_ERRNO | EPERM)


def _when_equal(value: int, body: list[bytes]) -> list[bytes]:
    return [_instruction(_JUMP_EQUAL, value, 0, len(body)), *body]


# Conditions on arguments: programs that go on behind their end where they hold, and refuse the call otherwise.
# All but `_null` look at the lower 32 bits alone, as the kernel does for these arguments.


def _one_of(argument: int, *values: int, mask: int = 0) -> list[bytes]:
    count = len(values)
    return [
        _load(_OFFSET_ARGS + 8 * argument),
        *([_instruction(_AND, mask)] if mask else []),
        *(_instruction(_JUMP_EQUAL, value, count - at, 0) for at, value in enumerate(values)),
        _REFUSE,
    ]


def _below(argument: int, bound: int) -> list[bytes]:
    return [_load(_OFFSET_ARGS + 8 * argument), _instruction(_JUMP_AT_LEAST, bound, 0, 1), _REFUSE]


def _null(argument: int) -> list[bytes]:
    low = _OFFSET_ARGS + 8 * argument
    halves = ([_load(at), _instruction(_JUMP_EQUAL, 0, 1, 0), _REFUSE] for at in (low, low + 4))
    return [instruction for half in halves for instruction in half]


# A clock of another process has a negative number; one that is a device has a descriptor for its number.
_OWN_CLOCK = _below(0, 16)
_SELF = 0
_MAP_HUGETLB = 0x40000

_CONDITIONS: dict[str, list[bytes]] = {
    # Sizes and modes of terminals that do not exist, bytes to read, blocking or not, close on exec or not.
    "ioctl": _one_of(1, 0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451),
    "prctl": _one_of(0, 15, 16, 0x53564D41),  # thread names, names of memory areas
    "fcntl": _one_of(1, 0, 1, 2, 3, 4, 1030, 1032),  # no F_SETOWN: it can send signals to others
    "socketpair": _one_of(0, 1),  # AF_UNIX
    "sendto": _null(4),  # to the other end of a pair; an address could be that of a socket of the host
    # Private: what is shared would be shared with every later fork. No huge pages of the host's reserve.
    "mmap": _one_of(3, 2, mask=0xF | _MAP_HUGETLB),
    # What CPython's allocator and those of libraries say about their memory; not that it may be merged with others'.
    "madvise": _one_of(2, 0, 1, 2, 3, 4, 8, 10, 11, 14, 15, 16, 17, 18, 19, 22, 23, 25),
    "close_range": _one_of(2, 0, 4),  # a table of descriptors of a thread's own would not be counted
    # Of what kind a socket is, errors, sizes, time-outs; not who is at the other end, nor a descriptor of that process.
    "getsockopt": _one_of(2, 3, 4, 7, 8, 16, 20, 21, 30, 38, 39),
    "prlimit64": [*_one_of(0, _SELF), *_null(2)],  # one's own limits, to read
    "clock_gettime": _OWN_CLOCK,
    "clock_getres": _OWN_CLOCK,
    "clock_nanosleep": _OWN_CLOCK,
    "getpgid": _one_of(0, _SELF),
    "getsid": _one_of(0, _SELF),
    "sched_getaffinity": _one_of(0, _SELF),
    "sched_getparam": _one_of(0, _SELF),
    "sched_getscheduler": _one_of(0, _SELF),
    "getpriority": _one_of(1, _SELF),
}
# What tells of the host, unless the box has a host name and a root of its own.
_REVEALING = ("uname", "readlink", "readlinkat")


def _prologue() -> list[bytes]:
    architecture = _AUDIT_ARCH[kernel.MACHINE]
    program = [_load(_OFFSET_ARCH), _instruction(_JUMP_EQUAL, architecture, 1, 0), _return(_RET_KILL)]
    program.append(_load(_OFFSET_NUMBER))
    if kernel.MACHINE == "x86_64":
        program += [_instruction(_JUMP_AT_LEAST, _X32_BIT, 0, 1), _return(_RET_ERRNO | _ENOSYS)]
    return program


def allow_list(*, own_root: bool) -> list[bytes]:
    """The program of the allow-list for this architecture.

    Args:
        own_root: whether the box has a root directory and a host name of its own.
    """
    calls = syscalls.numbers(kernel.MACHINE)
    for name in _REVEALING if not own_root else ():
        calls.pop(name, None)
    allow = _return(_RET_ALLOW)
    program = _prologue()
    program += _when_equal(calls.pop("clone3"), [_return(_RET_ERRNO | _ENOSYS)])
    for name, conditions in _CONDITIONS.items():
        program += _when_equal(calls.pop(name), [*conditions, allow])
    for number in calls.values():
        program += _when_equal(number, [allow])
    program.append(_REFUSE)
    return program


def gate() -> list[bytes]:
    """The program that reports `clone` to the supervisor and lets everything else pass."""
    number = syscalls.numbers(kernel.MACHINE)["clone"]
    return [*_prologue(), *_when_equal(number, [_return(_RET_NOTIFY)]), _return(_RET_ALLOW)]


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def install(program: list[bytes], *, listen: bool = False) -> int:
    """Put a filter on this process and its future children, for good.

    Returns:
        The descriptor on which a gate's questions arrive, where `listen` is set; else 0.
    """
    code = b"".join(program)
    argument = ctypes.byref(_Program(len(program), code))
    if not listen:
        return kernel.seccomp(_SET_MODE_FILTER, 0, argument)
    try:
        return kernel.seccomp(_SET_MODE_FILTER, _NEW_LISTENER | _WAIT_KILLABLE, argument)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return kernel.seccomp(_SET_MODE_FILTER, _NEW_LISTENER, argument)


@dataclass(frozen=True, slots=True)
class Question:
    """A process asks to make another one, or a thread.

    Attributes:
        id: what the answer must carry.
        pid: the asking thread's id; the process id where its main thread asks.
        kind: `fork`, `thread`, or `other`, which is never granted.
    """

    id: int
    pid: int
    kind: str


def receive(listener: int) -> Question | None:
    """The next question; None where the asking process has died in the meantime."""
    buffer = bytearray(80)
    try:
        fcntl.ioctl(listener, _NOTIFY_RECEIVE, buffer, True)
    except OSError:
        return None
    number, pid = struct.unpack_from("=QI", buffer)
    (flags,) = struct.unpack_from("=Q", buffer, 32)
    if flags in _FORKS:
        kind = "fork"
    elif flags & _THREAD and not flags & ~_THREAD_FLAGS:
        kind = "thread"
    else:
        kind = "other"
    return Question(number, pid, kind)


def answer(listener: int, question: Question, error: int) -> bool:
    """Let the call continue (`error` 0) or fail with an errno; False where nobody waits any more."""
    response = struct.pack("=QqiI", question.id, 0, -error, 0 if error else _CONTINUE)
    try:
        fcntl.ioctl(listener, _NOTIFY_SEND, bytearray(response), True)
    except OSError:
        return False
    return True
