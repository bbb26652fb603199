"""Facts that every run records: versions, commit, machine."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import shlex
import subprocess
import sys
from pathlib import Path

from pydantic import BaseModel

import genprm
from genprm.records import Provenance

_PACKAGES = (
    "torch",
    "transformers",
    "peft",
    "accelerate",
    "trl",
    "datasets",
    "pyarrow",
    "pydantic",
    "aiohttp",
    "math-verify",
    "sympy",
    "numpy",
    "scipy",
)


def versions() -> dict[str, str]:
    """Versions of genprm, Python and of what is installed among the packages that decide results."""
    found = {"genprm": genprm.__version__, "python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def git_commit() -> str | None:
    """The commit of the source tree that genprm runs from; None for an installed wheel."""
    folder = Path(genprm.__file__).resolve().parent
    try:
        answer = subprocess.run(
            ["git", "-C", str(folder), "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            timeout=5,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() if answer.returncode == 0 else None


def command_line() -> str | None:
    """The `genprm` command that this process runs; None if it runs something else."""
    program = Path(sys.argv[0]).name
    if program not in ("genprm", "__main__.py"):
        return None
    return shlex.join(["genprm", *sys.argv[1:]])


def run_facts(seed: int) -> dict[str, object]:
    """What `run.json` holds."""
    return {"seed": seed, "versions": versions(), "git_commit": git_commit(), "machine": machine()}


def provenance(config: BaseModel) -> Provenance:
    """Where a report's figures come from: now, this machine, this command, this config."""
    return Provenance(
        date=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        git_commit=git_commit(),
        machine=machine(),
        command=command_line(),
        config=config.model_dump(mode="json"),
    )


def machine() -> dict[str, str | int | None]:
    """The machine, as far as figures depend on it."""
    return {"system": platform.system(), "arch": platform.machine(), "cores": os.cpu_count()}
