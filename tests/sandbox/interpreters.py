"""Other interpreters on this machine that can run these tests.

Named by `GENPRM_TEST_PYTHONS` (paths, separated as in PATH), or found on PATH or among pyenv's versions.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

_NEEDED = "import hypothesis, numpy, pydantic, pytest, pytest_asyncio, sympy, yaml"
_ASK = f"import sys; print(*sys.version_info[:2]); {_NEEDED}"


def candidates(minor: int) -> list[str]:
    """Paths at which CPython 3.`minor` may be."""
    named = os.environ.get("GENPRM_TEST_PYTHONS", "").split(os.pathsep)
    found = shutil.which(f"python3.{minor}")
    pyenv = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser() / "versions"
    versions = sorted(pyenv.glob(f"3.{minor}.*/bin/python"), reverse=True)
    return [place for place in (*named, found, *map(str, versions)) if place]


def interpreter(minor: int) -> tuple[str | None, str]:
    """A CPython 3.`minor` that has what the tests import, or None and why there is none."""
    reasons = []
    for place in candidates(minor):
        asked = subprocess.run([place, "-c", _ASK], capture_output=True, text=True, check=False)
        if asked.stdout.split()[:2] != ["3", str(minor)]:
            continue
        if asked.returncode == 0:
            return place, ""
        reasons.append(f"{place}: {asked.stderr.strip().splitlines()[-1]}")
    return None, "; ".join(reasons) or f"there is no CPython 3.{minor}"
