"""A run within a budget of wall time, and its jobs: processes that end by themselves at the time that they are given."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import genprm
from genprm.store import write_atomic

WORKER = Path(__file__).resolve().parents[1] / "worker.py"
GRACE = 25.0
"""Seconds that a job gets to write its last rows or its model after its end in time."""
FREE = frozenset({"out", "work", "seconds", "boxes", "allow_unsandboxed"})
"""Options that do not decide what is measured."""


def shown_options(options: argparse.Namespace) -> dict[str, str]:
    """The options as the result states them."""
    return {name: str(value) for name, value in vars(options).items()}


@dataclass
class Run:
    """One run: its options, its clock, its jobs, and what is known so far."""

    options: argparse.Namespace
    started: float = field(default_factory=time.time)
    result: dict[str, Any] = field(default_factory=dict)
    earlier: float = 0.0
    """Seconds of earlier runs of the same command."""

    def resume(self) -> None:
        """Go on from what an earlier run of the command left, if its result is there.

        Raises:
            DataError: the result is none of this recipe's, or one of other options.
        """
        path = self.options.out / "result.json"
        if not path.exists():
            return
        try:
            found = json.loads(path.read_bytes())
            earlier, options = float(found["seconds"]), dict(found["options"])
        except (ValueError, KeyError, TypeError) as error:
            raise genprm.DataError(
                f"{path}: not a result of this recipe", hint="remove it, or give another --out"
            ) from error
        own = shown_options(self.options)
        changed = [f"--{name}" for name in own if name not in FREE and options.get(name) != own[name]]
        if changed:
            raise genprm.DataError(
                f"{path}: made with another {' and '.join(changed)}", hint="give another --out"
            )
        self.result, self.earlier = found, earlier

    @property
    def work(self) -> Path:
        """The folder for what is not sent back: models and verifications."""
        folder: Path = self.options.work
        return folder

    def at(self, share: float) -> float:
        """The point in time at which a share of the budget is used."""
        return self.started + share * float(self.options.seconds)

    def save(self) -> None:
        """Write what is known so far."""
        self.result["seconds"] = round(self.earlier + time.time() - self.started, 1)
        write_atomic(self.options.out / "result.json", json.dumps(self.result, indent=1).encode())

    def start(self, name: str, *command: object) -> Job:
        """Start a job of worker.py; its output goes to a log file of its name."""
        log = self.work / f"{name}.log"
        with log.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, str(WORKER), *map(str, command)],
                stdout=file,
                stderr=file,
                env={"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True", **os.environ},
            )
        return Job(name, process, log, time.time())


@dataclass(frozen=True)
class Job:
    """A running process of worker.py."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path
    started: float

    def wait(self, until: float) -> dict[str, Any]:
        """Wait for the job's end, at most until shortly after `until`; how it ended."""
        try:
            code: int | None = self.process.wait(max(1.0, until + GRACE - time.time()))
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            code = None
        state = "done" if code == 0 else "killed: it did not end in time" if code is None else "failed"
        facts: dict[str, Any] = {"state": state, "seconds": round(time.time() - self.started, 1)}
        if state != "done":
            facts["log"] = self.log.read_text(encoding="utf-8", errors="replace")[-800:]
        return facts

    def printed(self) -> dict[str, Any] | None:
        """The last line of the job's output, which is its report; None if it wrote none."""
        for line in reversed(self.log.read_text(encoding="utf-8", errors="replace").splitlines()):
            if line.startswith("{"):
                found: dict[str, Any] = json.loads(line)
                return found
        return None
