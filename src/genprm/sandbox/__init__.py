"""Runs untrusted Python: isolated, stateful, branching, in milliseconds.

    async with IsolatedSandbox(tier="sympy") as sandbox:
        session = await sandbox.open()
        await session.run("x = 2")
        branch = session.fork()
        result = await session.run("print(x + 1)")

Works on Linux. What it does not stop is in docs/explanation/sandbox.md.
"""

from __future__ import annotations

from genprm.sandbox.base import ExecResult, IsolationReport, Limits, Sandbox, Session, Status
from genprm.sandbox.factory import make_sandbox
from genprm.sandbox.isolated import IsolatedSandbox, open_sandbox, probe
from genprm.sandbox.session import IsolatedSession

__all__ = [
    "ExecResult",
    "IsolatedSandbox",
    "IsolatedSession",
    "IsolationReport",
    "Limits",
    "Sandbox",
    "Session",
    "Status",
    "make_sandbox",
    "open_sandbox",
    "probe",
]
