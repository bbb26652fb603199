from __future__ import annotations

import subprocess
import sys


def run(code: str) -> str:
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return answer.stdout.strip()


def test_importing_genprm_loads_nothing_heavy() -> None:
    heavy = (
        "torch",
        "transformers",
        "trl",
        "datasets",
        "pyarrow",
        "math_verify",
        "sympy",
        "numpy",
        "matplotlib",
    )
    loaded = run(f"import genprm, sys; print([m for m in {heavy!r} if m in sys.modules])")
    assert loaded == "[]"


def test_the_command_line_loads_nothing_heavy() -> None:
    heavy = (
        "torch",
        "transformers",
        "trl",
        "datasets",
        "pyarrow",
        "math_verify",
        "sympy",
        "numpy",
        "httpx",
    )
    loaded = run(f"import genprm.cli.main, sys; print([m for m in {heavy!r} if m in sys.modules])")
    assert loaded == "[]"


def test_every_public_name_is_there() -> None:
    missing = run("import genprm; print([n for n in genprm.__all__ if not hasattr(genprm, n)])")
    assert missing == "[]"
