"""Solutions load with their problems, in every form that a row may have."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from genprm.domains.math import MathDomain
from genprm.errors import DataError
from genprm.records import Solution
from genprm.sources import iterate_solutions, load_problems, load_solutions
from genprm.sources.solutions import named_solutions


def _jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_solutions_in_every_form(tmp_path: Path) -> None:
    rows = [
        {"problem": "P?", "steps": ["one", "two \\boxed{2}"], "answer": "2"},
        {"question": "Q?", "solution": "Step 1: a\n\nStep 2: b"},
        {
            "id": "gsm8k-0",
            "generator": "g",
            "problem": "R?",
            "steps": ["r"],
            "final_answer_correct": True,
            "label": 0,
        },
    ]
    first, second, third = load_solutions(_jsonl(tmp_path / "s.jsonl", rows))
    assert first[0].answer == "2" and first[1].answer == "2"
    assert first[1].steps == ("one", "two \\boxed{2}")
    assert second[1].steps == ("Step 1: a", "Step 2: b")
    assert third[0].metadata == {"label": 0, "final_answer_correct": True, "generator": "g"}
    assert third[1].problem_id == third[0].id == "gsm8k-0"


@pytest.mark.parametrize(
    ("row", "word"),
    [
        ({"problem": "P?"}, "'steps'"),
        ({"problem": "P?", "steps": []}, "'steps'"),
        ({"problem": "P?", "steps": "one"}, "'steps'"),
        ({"problem": "P?", "steps": ["one", ""]}, "paragraph 2"),
        ({"problem": "P?", "steps": ["one", "t\ud800"]}, "paragraph 2 holds half"),
        ({"problem": "P?", "steps": ["one"], "generator": "\udfff"}, "'generator' holds half"),
        ({"problem": "P?", "solution": " "}, "'solution'"),
        ({"steps": ["one"]}, "no field holds the problem"),
    ],
)
def test_bad_solutions(tmp_path: Path, row: dict[str, Any], word: str) -> None:
    with pytest.raises(DataError, match=word) as error:
        load_solutions(_jsonl(tmp_path / "s.jsonl", [row]))
    assert "s.jsonl:1" in error.value.message


def test_solutions_are_read_as_they_are_wanted(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        iterate_solutions(tmp_path / "none.jsonl")
    row = {"id": "a", "problem": "P?", "steps": ["one"]}
    pairs = iterate_solutions(_jsonl(tmp_path / "s.jsonl", [row, row]))
    assert next(pairs)[0].id == "a"
    with pytest.raises(DataError, match=r"s\.jsonl:2: the id 'a' was already used at .*s\.jsonl:1"):
        next(pairs)
    with pytest.raises(DataError, match="no rows") as caught:
        load_solutions(_jsonl(tmp_path / "empty.jsonl", []))
    assert "it is empty" in caught.value.hint


def test_the_domain_splits_and_extracts(tmp_path: Path) -> None:
    class Sentences(MathDomain):
        def split(self, text: str) -> tuple[str, ...]:
            return tuple(part.strip() for part in text.split(".") if part.strip())

    rows = [{"problem": "P?", "solution": "One and one. That is \\boxed{2}."}]
    ((_, solution),) = load_solutions(_jsonl(tmp_path / "s.jsonl", rows), domain=Sentences())
    assert solution.steps == ("One and one", "That is \\boxed{2}")
    assert solution.answer == "2"


@pytest.mark.parametrize("row", [{"prompt": "P?", "solution": "s"}, {"problem": "P?", "response": "s"}])
def test_missing_columns_are_named_by_a_hint_that_can_be_followed(
    tmp_path: Path, row: dict[str, Any]
) -> None:
    """Solutions have no `problems.columns` and no preset: only their file can be changed."""
    with pytest.raises(DataError) as error:
        load_solutions(_jsonl(tmp_path / "s.jsonl", [row]))
    hint = error.value.hint
    assert hint.startswith(f"the row has {', '.join(sorted(row))}; ")
    assert "problems." not in hint
    for name in ("problem", "question", "text", "steps", "solution"):
        assert f" {name}" in hint


def test_the_answer_of_a_sample_is_no_reference(tmp_path: Path) -> None:
    sample = Solution(
        id="p/0", problem_id="p", steps=("It is \\boxed{5}.",), answer="5", answer_how="boxed"
    )
    row = {"problem": "What is 2 + 2?", **sample.model_dump(mode="json")}
    ((problem, solution),) = load_solutions(_jsonl(tmp_path / "s.jsonl", [row]))
    assert (problem.text, problem.answer) == ("What is 2 + 2?", None)
    assert (solution.id, solution.steps, solution.answer) == ("p/0", sample.steps, "5")
    (alone,) = load_problems(tmp_path / "s.jsonl")
    assert (alone.text, alone.answer) == ("What is 2 + 2?", None)


def test_rows_without_an_id_are_named_by_their_place(tmp_path: Path) -> None:
    rows = [{"id": "own", "problem": "P?", "steps": ["a"]}, {"problem": "Q?", "steps": ["b"]}]
    file = _jsonl(tmp_path / "s.jsonl", rows)
    found = list(named_solutions(file))
    assert [name for name, _ in found] == ["own", f"{file}:2"]
    assert [pair for _, pair in found] == load_solutions(file)
