"""The sandbox protocol: sessions with state, branches, and results that tell whose fault it was.

A failure of the *code* is an `ExecResult`; a failure of the *box* is a `SandboxError`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol, runtime_checkable

from genprm.errors import ConfigError

_LONGEST = 1e7  # seconds, about four months: every timer of the kernel can count it
_LARGEST = 1 << 40
_FEWEST_FILES = 8  # every execution has four, standard streams and control, and three more while it begins


def positive(name: str, value: object, least: int = 1) -> None:
    """Raise `ConfigError` unless `value` is a whole number from `least` on, and not absurdly large."""
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= _LARGEST:
        raise ConfigError(f"{name} is {value!r}", hint=f"a whole number, at least {least}")


class Status(StrEnum):
    """How an executed snippet ended."""

    OK = "ok"
    ERROR = "error"
    TIMEOUT = "timeout"
    KILLED = "killed"
    OUTPUT_LIMIT = "output_limit"
    DIED = "died"


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one execution.

    Attributes:
        soft_seconds: after this a `TimeoutError` is raised inside the code.
        hard_seconds: after this the process is killed from outside.
        cpu_seconds: CPU time.
        memory_mb: address space of one process.
        processes: threads that may be alive at once beyond the main one.
        open_files: file descriptors of one process.
        file_mb: bytes that one file, and the session's scratch directory, may hold.
        output_bytes: standard output that is kept; more ends the execution with `output_limit`.

    Raises:
        ConfigError: a time that is not positive and finite, or a number out of range.
    """

    soft_seconds: float = 5.0
    hard_seconds: float = 6.0
    cpu_seconds: float = 6.0
    memory_mb: int = 1024
    processes: int = 16
    open_files: int = 64
    file_mb: int = 16
    output_bytes: int = 64 * 1024

    def __post_init__(self) -> None:
        for name in ("soft_seconds", "hard_seconds", "cpu_seconds"):
            value = getattr(self, name)
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not number or not 0 < value <= _LONGEST:
                raise ConfigError(
                    f"sandbox limit {name} is {value!r}",
                    hint=f"a number of seconds above 0 and at most {_LONGEST:.0f}",
                )
        for name, least in (
            ("memory_mb", 1), ("processes", 0), ("open_files", _FEWEST_FILES), ("file_mb", 0), ("output_bytes", 0),
        ):  # fmt: skip
            positive(f"sandbox limit {name}", getattr(self, name), least)


@dataclass(frozen=True, slots=True)
class ExecResult:
    """What happened to one snippet.

    Attributes:
        status: `ok`; `error` for an exception; `timeout` for either time limit; `killed` where a
            resource limit killed the process; `output_limit`; `died` where the process ended itself.
        stdout: standard output, at most `Limits.output_bytes`, decoded with replacement.
        error_type: the exception's class name, where `status` is `error`.
        error_message: its message.
        cpu_seconds, wall_seconds: cost of the execution.
        memory_peak_mb: peak resident memory, where the kernel tells; else None.
        truncated: whether output was cut.
    """

    status: Status
    stdout: str = ""
    error_type: str | None = None
    error_message: str | None = None
    cpu_seconds: float = 0.0
    wall_seconds: float = 0.0
    memory_peak_mb: float | None = None
    truncated: bool = False


@dataclass(frozen=True, slots=True)
class IsolationReport:
    """What canaries found about the isolation reached here.

    Attributes:
        level: 0 to 3, as docs/explanation/sandbox.md defines them.
        mechanisms: each mechanism's name, and whether it holds.
        reasons: why the level is not higher, one sentence each.
    """

    level: int
    mechanisms: dict[str, bool] = field(default_factory=dict)
    reasons: tuple[str, ...] = ()


@runtime_checkable
class Session(Protocol):
    """An interpreter state. Variables persist from one `run` to the next."""

    async def run(self, code: str, limits: Limits | None = None) -> ExecResult:
        """Execute code in this state and advance it. Raises `SandboxError` for faults of the box."""
        ...

    def fork(self) -> Session:
        """A new session that starts from this one's current state and shares nothing from here on."""
        ...

    async def aclose(self) -> None:
        """Kill everything the session has. Idempotent."""
        ...


@runtime_checkable
class Sandbox(Protocol):
    """Makes sessions. An async context manager in every implementation."""

    async def open(self) -> Session:
        """A session with an empty namespace."""
        ...

    @property
    def report(self) -> IsolationReport:
        """The isolation reached."""
        ...

    async def aclose(self) -> None:
        """Close every session and leave nothing behind. Idempotent."""
        ...

    async def __aenter__(self) -> Sandbox: ...

    async def __aexit__(self, *exc: object) -> None: ...
