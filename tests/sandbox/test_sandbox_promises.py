"""The table of promises in the documentation names tests that exist, and says at which levels they hold."""

from __future__ import annotations

import ast
import re
from pathlib import Path

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "explanation" / "sandbox.md"


def rows() -> list[list[str]]:
    section = PAGE.read_text().partition("## Promise by promise")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[1:]]


def functions() -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in HERE.glob("*.py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                found[node.name] = path
    return found


def test_every_promise_names_its_levels_and_tests_that_exist() -> None:
    assert len(rows()) >= 20
    known = functions()
    for promise, levels, tests in rows():
        assert re.fullmatch(r"all|[123](, [123])*", levels), promise
        named = re.findall(r"`(\w+)`", tests)
        assert named, promise
        assert [name for name in named if name not in known] == [], promise


def test_numbers_of_attacks_in_the_table_are_those_of_the_list() -> None:
    text = (HERE / "test_sandbox_attacks.py").read_text()
    numbers = set(re.findall(r'"(\d\d)', text))
    for promise, _, tests in rows():
        for listed in re.findall(r"`test_attack` ([\d, to]+)", tests):
            assert set(re.findall(r"\d\d", listed)) <= numbers, promise
