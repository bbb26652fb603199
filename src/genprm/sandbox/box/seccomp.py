"""Two seccomp filters: an allow-list, and a gate that asks about every new process or thread.

The gate is what keeps untrusted code from leaving anything running: a snapshot must be able to fork,
the code in it must not. The filter cannot tell them apart, so `clone` is suspended and the
supervisor, which knows whether it has just told that very process to make a snapshot, lets it
continue or answers EPERM. Threads are let through up to a number for each execution.

The default answer is EPERM and not death, since harmless library code tries harmless things (a
printer asking for the width of the terminal).
"""

from __future__ import annotations

import ctypes
import fcntl
import struct
from dataclasses import dataclass

from . import kernel, syscalls

_SET_MODE_FILTER = 1
_NEW_LISTENER = 1 << 3

_RET_KILL = 0x80000000
_RET_ERRNO = 0x00050000
_RET_NOTIFY = 0x7FC00000
_RET_ALLOW = 0x7FFF0000
EPERM, EAGAIN, _ENOSYS = 1, 11, 38

_AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_X32_BIT = 0x40000000
_LOAD, _JUMP_EQUAL, _JUMP_AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_OFFSET_NUMBER, _OFFSET_ARCH, _OFFSET_ARGS = 0, 4, 16

_NOTIFY_RECEIVE, _NOTIFY_SEND = 0xC0502100, 0xC0182101
_CONTINUE = 1

_FORKS = (0x01200011, 0x11)  # glibc's fork, musl's fork
_THREAD = 0x10000
_THREAD_FLAGS = 0x007D0F00  # what pthread_create passes; no namespace flag among them

# Arguments that are looked at: call -> (argument's index, values that pass).
_ARGUMENTS: dict[str, tuple[int, tuple[int, ...]]] = {
    "ioctl": (
        1,
        (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451),
    ),
    "prctl": (0, (15, 16, 0x53564D41)),  # thread names, names of memory areas
    "fcntl": (1, (0, 1, 2, 3, 4, 1030, 1032)),  # no F_SETOWN: it can send signals to others
    "socketpair": (0, (1,)),  # AF_UNIX
}


def _instruction(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)


def _load(offset: int) -> bytes:
    return _instruction(_LOAD, offset)


def _return(value: int) -> bytes:
    return _instruction(_RETURN, value)


def _when_equal(value: int, body: list[bytes]) -> list[bytes]:
    return [_instruction(_JUMP_EQUAL, value, 0, len(body)), *body]


def _prologue() -> list[bytes]:
    architecture = _AUDIT_ARCH[kernel.MACHINE]
    program = [_load(_OFFSET_ARCH), _instruction(_JUMP_EQUAL, architecture, 1, 0), _return(_RET_KILL)]
    program.append(_load(_OFFSET_NUMBER))
    if kernel.MACHINE == "x86_64":
        program += [_instruction(_JUMP_AT_LEAST, _X32_BIT, 0, 1), _return(_RET_ERRNO | _ENOSYS)]
    return program


def allow_list() -> list[bytes]:
    """The program of the allow-list for this architecture."""
    calls = syscalls.numbers(kernel.MACHINE)
    allow, refuse = _return(_RET_ALLOW), _return(_RET_ERRNO | EPERM)
    program = _prologue()
    program += _when_equal(calls.pop("clone3"), [_return(_RET_ERRNO | _ENOSYS)])
    program += _when_equal(
        calls.pop("prlimit64"),
        [
            # Reading a limit passes a null pointer for the new value.
            _load(_OFFSET_ARGS + 2 * 8),
            *_when_equal(0, [_load(_OFFSET_ARGS + 2 * 8 + 4), *_when_equal(0, [allow])]),
            refuse,
        ],
    )
    for name, (index, values) in _ARGUMENTS.items():
        body = [_load(_OFFSET_ARGS + 8 * index)]
        for value in values:
            body += _when_equal(value, [allow])
        program += _when_equal(calls.pop(name), [*body, refuse])
    for number in calls.values():
        program += _when_equal(number, [allow])
    program.append(refuse)
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
    argument = _Program(len(program), code)
    return kernel.seccomp(_SET_MODE_FILTER, _NEW_LISTENER if listen else 0, ctypes.byref(argument))


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
