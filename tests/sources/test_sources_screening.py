"""Rows that evaluation sets hold, and near duplicates: what is found, what is not, in which words it is reported."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genprm import decontaminate
from genprm.config import ProblemsConfig
from genprm.errors import DataError, MissingExtraError
from genprm.records import ChatMessage, LabelledSolution, Problem, TrainingSample
from genprm.sources import iterate_problems, load_problems
from genprm.sources.near import NearDuplicates
from genprm.sources.overlap import WORDS_IN_A_ROW, EvaluationSets, words_of
from genprm.sources.problems import screened_problems
from genprm.sources.unique import FirstSeen

LONG = (
    "A baker sells 24 rolls in the morning and half as many in the afternoon . How many rolls does the baker sell "
    "on a day on which nobody else in the town bakes anything at all?"
)
SHORT = "What is 2 + 3?"


def written(path: Path, *rows: dict[str, Any]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.fixture
def gsm8k(tmp_path: Path) -> str:
    rows = [{"question": text, "answer": "#### 1"} for text in (LONG, SHORT)]
    return written(tmp_path / "test.jsonl", *rows)


def problem(text: str, name: str = "p") -> Problem:
    return Problem(id=name, text=text)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (LONG, True),
        (LONG.upper().replace(" . ", ". "), True),
        ("Long ago: " + LONG.replace("24", "36"), True),  # 13 words behind the number are the same
        (" ".join(LONG.split()[:13]), True),
        (" ".join(LONG.split()[:12]), False),  # shorter than a run, and not a whole problem
        ("$2 + 3$: what is it, and why would anybody ask such a thing on a day like this?", False),
        ("what is  2 + 3", True),
        ("what is $2 + 3$?", True),
        ("What is 2 - 3?", False),
        ("What is 2 + 30?", False),
        ("?", False),
    ],
)
def test_an_overlap_is_13_words_in_a_row_or_a_whole_short_problem(
    text: str, found: bool, gsm8k: str
) -> None:
    overlap = EvaluationSets({"gsm8k": gsm8k}).find(text)
    assert (overlap is not None) == found
    if overlap is not None:
        assert overlap.name == "gsm8k" and overlap.place.startswith(gsm8k)
        assert overlap.words in " ".join(words_of(text))


WORDS = st.lists(st.sampled_from(["ab", "cd", "ef", "gh", "ij", "kl", "mn"]), min_size=1, max_size=30)


@settings(max_examples=60, deadline=None)
@given(held=WORDS, asked=WORDS)
def test_an_overlap_is_found_if_and_only_if_there_is_one(
    tmp_path_factory: pytest.TempPathFactory, held: list[str], asked: list[str]
) -> None:
    sets = EvaluationSets(
        {"set": written(tmp_path_factory.mktemp("set") / "a.jsonl", {"problem": " ".join(held)})}
    )

    def runs(words: list[str]) -> set[tuple[str, ...]]:
        return {tuple(words[n : n + WORDS_IN_A_ROW]) for n in range(len(words) - WORDS_IN_A_ROW + 1)}

    both_long = min(len(held), len(asked)) >= WORDS_IN_A_ROW
    expected = bool(runs(held) & runs(asked)) if both_long else held == asked
    assert (sets.find(" ".join(asked)) is not None) == expected


@pytest.mark.parametrize(
    "row",
    [
        {"id": "b-1", "problem": LONG, "steps": ["a"], "label": -1},
        {"question": LONG, "answer": "#### 1"},
        {"Body": " ".join(LONG.split()[:14]) + ".", "Question": " ".join(LONG.split()[14:]), "Answer": 1},
        {"prompt": LONG, "completions": ["a"], "labels": [True]},
    ],
)
def test_evaluation_sets_are_read_as_they_are(row: dict[str, Any], tmp_path: Path) -> None:
    path = written(tmp_path / "set.jsonl", row)
    assert EvaluationSets({"set": path}).find(LONG) is not None


def test_an_evaluation_set_without_problems_is_a_mistake(tmp_path: Path) -> None:
    path = written(tmp_path / "set.jsonl", {"question": LONG}, {"text_of_it": LONG})
    with pytest.raises(DataError, match=f"{path}:2: field 'problem' is missing"):
        EvaluationSets({"set": path})
    with pytest.raises(DataError, match="no such file"):
        decontaminate([problem(LONG)], {"set": str(tmp_path / "nowhere.jsonl")})


@pytest.mark.parametrize("rows", [[], [{"problem": "?"}, {"problem": "..."}]], ids=["empty", "no words"])
def test_an_evaluation_set_that_nothing_can_be_compared_with_is_a_mistake(
    rows: list[dict[str, Any]], gsm8k: str, tmp_path: Path
) -> None:
    path = written(tmp_path / "empty.jsonl", *rows)
    with pytest.raises(DataError, match=f"the evaluation set 'bench': {path}: no rows"):
        decontaminate([problem(LONG)], {"gsm8k": gsm8k, "bench": path})
    options = ProblemsConfig(source=gsm8k, decontaminate={"bench": path})
    with pytest.raises(DataError, match="the evaluation set 'bench'"):
        load_problems(options)


def test_rows_are_counted_by_reason_and_set_with_examples(gsm8k: str, tmp_path: Path) -> None:
    svamp = written(tmp_path / "svamp.jsonl", {"problem": "One plus one?"})
    given = [
        problem(LONG, "a"), problem("Something else?", "b"), problem("one plus one", "c"),
        problem("something else", "d"), problem("So be it", "e"),
    ]  # fmt: skip
    rows = decontaminate(given, {"gsm8k": gsm8k, "svamp": svamp}, near_duplicates=0.8)
    assert [row.id for row in rows] == ["b", "e"]
    assert (rows.kept, dict(rows.left_out)) == (2, {"contaminated": 2, "near_duplicate": 1})
    assert rows.summary() == (
        "left out, contaminated: 2 (gsm8k 1, svamp 1)\n"
        f"    a: also in gsm8k, {gsm8k}:1: '{' '.join(words_of(LONG)[:13])}'\n"
        f"    c: also in svamp, {svamp}:1: 'one plus one'\n"
        "left out, near_duplicate: 1\n"
        "    d: nearly the same as row 2\n"
    )


def test_solutions_of_one_problem_are_not_each_others_duplicates(gsm8k: str) -> None:
    def solution(name: str, *steps: str, text: str = "Who won?") -> LabelledSolution:
        return LabelledSolution(id=name, problem=text, steps=steps, labels=(None,) * len(steps))

    given = [
        solution("a", "The first of them won by far, since nobody else ran."),
        solution("b", "It was a draw, as the judges said at the end."),
        solution("c", "It was a draw, as the judges said at the end."),
        solution("d", "Any.", text=LONG),
    ]
    assert [row.id for row in decontaminate(given, {"gsm8k": gsm8k}, near_duplicates=0.8)] == ["a", "b"]

    def chat(name: str, text: str) -> TrainingSample:
        turns = (ChatMessage(role="user", content=text), ChatMessage(role="assistant", content="Yes"))
        return TrainingSample(id=name, solution_id=name, problem_id=name, conversations=turns)

    asked = [chat("a", "Who won?"), chat("b", f"Question: {LONG}\n\nStep 1: 24.")]
    assert [row.id for row in decontaminate(asked, {"gsm8k": gsm8k})] == ["a"]


# ---------------------------------------------------------------- near duplicates


def numbered(count: int, start: int = 0) -> Iterator[str]:
    return (f"w{number}" for number in range(start, start + count))


@pytest.mark.parametrize(("changed", "found"), [(1, True), (100, False)])
def test_near_duplicates_share_most_of_their_runs(changed: int, found: bool) -> None:
    near = NearDuplicates(0.8)
    words = list(numbered(200))
    assert near.add(" ".join(words), 1) is None
    assert (near.add(" ".join([*words[changed:], *numbered(changed, 1000)]), 2) == 1) == found


def test_what_is_left_out_is_not_compared_with() -> None:
    """Else a long row of small changes would lead away from every text that is kept."""
    near = NearDuplicates(0.8)
    words = list(numbered(400))
    texts = [" ".join(words[n : n + 200]) for n in range(200)]
    kept = [text for number, text in enumerate(texts, 1) if near.add(text, number) is None]
    assert len(kept) > 3
    assert NearDuplicates(0.8).add("", 1) is None and NearDuplicates(0.8).add(" . ", 1) is None


@settings(max_examples=30, deadline=None)
@given(values=st.lists(st.integers(0, 2**64 - 1), max_size=3000))
def test_a_hash_keeps_its_first_number(values: list[int]) -> None:
    table, first = FirstSeen(), dict[int, int]()
    for number, value in enumerate(values):
        table.remember(value, number)
        first.setdefault(value or 1, number)
    assert [table.number(value) for value in values] == [first[value or 1] for value in values]
    assert len(table) == len(first)


def test_near_duplicates_need_their_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "datasketch" else real(name, *more)
    )
    options = ProblemsConfig(source=written(tmp_path / "a.jsonl", {"problem": "x"}), near_duplicates=0.8)
    with pytest.raises(MissingExtraError, match="datasketch"):
        iterate_problems(options)


# ---------------------------------------------------------------- problems of a run


def test_problems_are_left_out_or_say_why(gsm8k: str, tmp_path: Path) -> None:
    texts = ["Who?", LONG, "who", "What is 2+3?", SHORT]
    source = written(tmp_path / "all.jsonl", *({"id": str(n), "problem": t} for n, t in enumerate(texts)))
    options = ProblemsConfig(source=source, decontaminate={"gsm8k": gsm8k}, near_duplicates=0.9)
    assert [row.id for row in load_problems(options)] == ["0", "3"]
    marked = list(screened_problems(options))
    assert [row.left_out and row.left_out[0] for row in marked] == [
        None, "contaminated", "near_duplicate", None, "contaminated",
    ]  # fmt: skip
    assert list(screened_problems(options)) == marked
    assert [row.id for row in load_problems(options.model_copy(update={"limit": 3}))] == ["0"]
