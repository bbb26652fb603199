"""Code in which attempts are made, and what runs it."""

from __future__ import annotations

import platform
from collections.abc import Sequence

from genprm.sandbox import ExecResult, IsolatedSandbox, Limits

ARM = platform.machine() == "aarch64"
HARSH = Limits(soft_seconds=0.3, hard_seconds=0.45, memory_mb=600)

# Prints "held" unless something of what it tries succeeds.
TRY = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
won = []
def attempt(name, action):
    try:
        value = action()
    except Exception:
        return
    if value != -1:
        won.append((name, value))
"""
SHOW = "\nprint('held' if not won else won)\n"


async def once(sandbox: IsolatedSandbox, code: str, limits: Limits | None = None) -> ExecResult:
    """Run code in a session of its own."""
    async with await sandbox.open() as session:
        return await session.run(code, limits)


async def tried(sandbox: IsolatedSandbox, body: str) -> str:
    """What a list of attempts prints: `held`, or what succeeded."""
    result = await once(sandbox, TRY + body + SHOW)
    return result.stdout.strip() or str(result)


async def steps(sandbox: IsolatedSandbox, codes: Sequence[str]) -> list[ExecResult]:
    """Run snippets one after the other in one session."""
    async with await sandbox.open() as session:
        return [await session.run(code) for code in codes]
