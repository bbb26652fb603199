"""Other interpreters on this machine that can run these tests.

Named by `GENPRM_TEST_PYTHONS` (paths, separated as in PATH), made by `make test-slow`, or found on PATH or among
pyenv's versions.

    python interpreters.py MINOR

prints a CPython 3.MINOR of this machine from which an environment can be made.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ENVIRONMENTS = Path(__file__).parents[2] / ".venv-pythons"

_NEEDED = "import hypothesis, numpy, pydantic, pytest, pytest_asyncio, sympy, yaml"


def candidates(minor: int) -> list[str]:
    """Paths at which CPython 3.`minor` may be."""
    named = os.environ.get("GENPRM_TEST_PYTHONS", "").split(os.pathsep)
    made = str(ENVIRONMENTS / f"3.{minor}" / "bin" / "python")
    found = shutil.which(f"python3.{minor}")
    pyenv = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser() / "versions"
    versions = sorted(pyenv.glob(f"3.{minor}.*/bin/python"), reverse=True)
    places = (*named, made, found, *map(str, versions))
    return [place for place in places if place and Path(place).exists()]


def _is(place: str, minor: int) -> bool:
    asked = subprocess.run(
        [place, "-c", "import sys; print(*sys.version_info[:2])"],
        capture_output=True,
        text=True,
        check=False,
    )
    return asked.stdout.split() == ["3", str(minor)]


def interpreter(minor: int) -> tuple[str | None, str]:
    """A CPython 3.`minor` that has what the tests import, or None and why there is none."""
    reasons = []
    for place in candidates(minor):
        if not _is(place, minor):
            continue
        asked = subprocess.run([place, "-c", _NEEDED], capture_output=True, text=True, check=False)
        if asked.returncode == 0:
            return place, ""
        reasons.append(f"{place}: {asked.stderr.strip().splitlines()[-1]}")
    return None, "; ".join(reasons) or f"there is no CPython 3.{minor}"


def main() -> None:
    minor = int(sys.argv[1])
    found = next((place for place in candidates(minor) if _is(place, minor)), None)
    sys.exit(f"there is no CPython 3.{minor}") if found is None else print(found)


if __name__ == "__main__":
    main()
