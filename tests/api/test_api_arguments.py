"""Wrong arguments of public calls: one `GenPRMError` that names the argument, before an engine is asked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import genprm
from genprm.errors import ConfigError, DataError


def no_reply(_: genprm.Request) -> str:
    raise AssertionError("the engine was asked")


ENGINE = genprm.ScriptedEngine(no_reply)
PROBLEM = genprm.Problem(id="a", text="What is 2 + 2?", answer="4")
SOLUTION = genprm.Solution(id="a/0", problem_id="a", steps=("It is 4.",), answer="4")
HALF = "half \ud800"


@pytest.mark.parametrize("problem", [None, 5, b"bytes", "", " \n", HALF])
def test_a_problem_must_be_text(problem: Any) -> None:
    with pytest.raises(DataError, match="the problem"):
        genprm.verify(ENGINE, problem, ["a step"])


@pytest.mark.parametrize("steps", ["", " ", [], [""], ["a", " "], [1], b"bytes", ["a", HALF]])
def test_steps_must_be_text(steps: Any) -> None:
    with pytest.raises(DataError, match="step"):
        genprm.verify(ENGINE, "What is 2 + 2?", steps)


@pytest.mark.parametrize(
    ("call", "kind", "needle"),
    [
        (lambda: genprm.sample(ENGINE, PROBLEM, 0), ConfigError, "n must be at least 1"),
        (lambda: genprm.best_of_n(ENGINE, ENGINE, PROBLEM, -1), ConfigError, "n must be at least 1"),
        (lambda: genprm.sample(ENGINE, ""), DataError, "the problem is empty"),
        (lambda: genprm.sample(ENGINE, [PROBLEM, PROBLEM]), DataError, "the same id"),
        (lambda: genprm.best_of_n(ENGINE, ENGINE, [PROBLEM, PROBLEM]), DataError, "the same id"),
        (
            lambda: genprm.refine(ENGINE, None, [(PROBLEM, SOLUTION)], turns=0),
            ConfigError,
            "'turns' cannot be 0",
        ),
        (lambda: genprm.verify(ENGINE, "p", ["s"], votes=0), ConfigError, "'votes' cannot be 0"),
    ],
)
def test_counts_and_ids(call: Callable[[], Any], kind: type[Exception], needle: str) -> None:
    with pytest.raises(kind, match=needle):
        call()


def test_an_evaluation_needs_data(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no data is named"):
        genprm.evaluate("processbench", {}, "builtin:verifier", tmp_path / "run")
    assert not (tmp_path / "run").exists()
