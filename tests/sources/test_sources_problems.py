"""Problems load from every kind of file, and every bad row is one error that names its place."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genprm.config.models import ProblemsConfig
from genprm.errors import ConfigError, DataError, MissingExtraError
from genprm.sources import load_problems, load_solutions, read_rows

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
ROWS: list[dict[str, Any]] = [
    {"id": "a", "problem": "What is 1 + 1?", "answer": "2"},
    {"id": "b", "problem": "What is 6 / 4?", "answer": 1.5},
    {"id": "c", "problem": "What is 3 + 4?", "answer": 7.0},
]


def _jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def _array(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    return path


def _parquet(path: Path, rows: list[dict[str, Any]]) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    text = [{**row, "answer": str(row["answer"])} for row in rows]
    pq.write_table(pa.Table.from_pylist(text), path)
    return path


def options(path: Path, preset: str = "plain", **more: Any) -> ProblemsConfig:
    return ProblemsConfig(source=str(path), preset=preset, **more)


@pytest.mark.parametrize(
    ("write", "name"),
    [(_jsonl, "p.jsonl"), (_jsonl, "p.json"), (_array, "p.json"), (_parquet, "p.parquet")],
)
def test_every_kind_of_file(tmp_path: Path, write: Callable[..., Path], name: str) -> None:
    problems = load_problems(options(write(tmp_path / name, ROWS)))
    assert [problem.id for problem in problems] == ["a", "b", "c"]
    assert [problem.text for problem in problems] == [row["problem"] for row in ROWS]
    expected = ["2", "1.5", "7.0"] if name.endswith("parquet") else ["2", "1.5", "7"]
    assert [problem.answer for problem in problems] == expected


def test_limit_reads_no_further(tmp_path: Path) -> None:
    file = _jsonl(tmp_path / "p.jsonl", ROWS)
    file.write_text(file.read_text(encoding="utf-8") + "broken\n", encoding="utf-8")
    assert len(load_problems(options(file, limit=3))) == 3


def test_ids_come_from_the_content_where_there_are_none(tmp_path: Path) -> None:
    rows = [{"question": "One?", "answer": "1"}, {"question": "Two?", "answer": "2"}]
    first = load_problems(options(_jsonl(tmp_path / "p.jsonl", rows)))
    again = load_problems(options(_jsonl(tmp_path / "q.jsonl", rows[::-1])))
    assert {problem.id for problem in first} == {problem.id for problem in again}
    assert len({problem.id for problem in first}) == 2


def test_columns_can_be_named(tmp_path: Path) -> None:
    file = _jsonl(tmp_path / "p.jsonl", [{"uid": 7, "q": "One?", "solution": "so \\boxed{1}", "gold": 1}])
    columns = {"id": "uid", "text": "q", "answer": "gold"}
    for preset in ("plain", "math", "svamp"):
        (problem,) = load_problems(options(file, preset, columns=columns))
        assert (problem.id, problem.text, problem.answer) == ("7", "One?", "1")


def test_presets(tmp_path: Path) -> None:
    gsm8k = [{"question": "How many?", "answer": "2+2=<<2+2=4>>4\n#### 1,004"}]
    assert load_problems(options(_jsonl(tmp_path / "g.jsonl", gsm8k), "gsm8k"))[0].answer == "1004"
    math = [
        {"problem": "x?", "solution": "Thus $x=\\boxed{\\frac{1}{2}}$."},
        {"problem": "y?", "solution": "", "answer": "2"},
    ]
    assert [p.answer for p in load_problems(options(_jsonl(tmp_path / "m.jsonl", math), "math"))] == [
        "\\frac{1}{2}",
        "2",
    ]
    svamp = [{"ID": "s", "Body": "If Al has 2", "Question": "How many?", "Answer": 2.0}]
    (problem,) = load_problems(options(_jsonl(tmp_path / "s.jsonl", svamp), "svamp"))
    assert (problem.id, problem.text, problem.answer) == ("s", "If Al has 2, how many?", "2")


def test_a_problem_may_have_no_answer(tmp_path: Path) -> None:
    (problem,) = load_problems(options(_jsonl(tmp_path / "p.jsonl", [{"text": "Why?"}])))
    assert problem.answer is None


BAD: list[tuple[str, str, dict[str, Any], list[str]]] = [
    ("p.jsonl", '{"problem": "x", "answer": "1"}\n{broken\n', {}, ["p.jsonl:2", "JSON"]),
    ("p.jsonl", '["x"]\n', {}, ["p.jsonl:1", "object"]),
    ("p.jsonl", '{"problem": "x"}\n\n{"problem": "  "}\n', {}, ["p.jsonl:3", "'problem'"]),
    ("p.jsonl", '{"task": "x", "answer": "1"}\n', {}, ["p.jsonl:1", "'problem'", "missing"]),
    ("p.jsonl", '{"problem": 5, "answer": "1"}\n', {}, ["p.jsonl:1", "'problem'", "5"]),
    ("p.jsonl", '{"problem": "x", "answer": [1]}\n', {}, ["p.jsonl:1", "'answer'"]),
    ("p.jsonl", '{"problem": "x", "answer": true}\n', {}, ["p.jsonl:1", "'answer'"]),
    ("p.jsonl", '{"problem": "x", "answer": NaN}\n', {}, ["p.jsonl:1", "'answer'"]),
    ("p.jsonl", '{"problem": "x"}\n', {"columns": {"answer": "gold"}}, ["p.jsonl:1", "'gold'", "missing"]),
    (
        "p.jsonl",
        '{"id": 1, "problem": "x"}\n{"id": 1, "problem": "y"}\n',
        {},
        ["p.jsonl:2", "'1'", "p.jsonl:1"],
    ),
    ("p.jsonl", '{"problem": "x"}\n{"problem": "x"}\n', {}, ["p.jsonl:2", "p.jsonl:1"]),
    (
        "p.jsonl",
        '{"question": "x", "answer": "12"}\n',
        {"preset": "gsm8k"},
        ["p.jsonl:1", "'answer'", "####"],
    ),
    ("p.jsonl", '{"question": "x", "answer": "####"}\n', {"preset": "gsm8k"}, ["p.jsonl:1", "'answer'"]),
    ("p.jsonl", '{"problem": "x", "solution": "none"}\n', {"preset": "math"}, ["p.jsonl:1", "'solution'"]),
    ("p.jsonl", '{"Body": "x", "Answer": 1}\n', {"preset": "svamp"}, ["p.jsonl:1", "'Question'"]),
    ("p.jsonl", "\n", {}, ["p.jsonl", "no rows"]),
    ("p.json", '[{"problem": "x"}, 3]', {}, ["p.json row 2", "object"]),
    ("p.json", '[{"problem": "x"},\n', {}, ["p.json:2", "JSON"]),
    ("p.csv", "problem,answer\n", {}, ["p.csv", ".csv"]),
    ("p.parquet", "not parquet", {}, ["p.parquet", "Parquet"]),
]


@pytest.mark.parametrize(("name", "content", "more", "words"), BAD)
def test_bad_rows(tmp_path: Path, name: str, content: str, more: dict[str, Any], words: list[str]) -> None:
    file = tmp_path / name
    file.write_text(content, encoding="utf-8")
    with pytest.raises(DataError) as error:
        load_problems(options(file, **more))
    assert all(word in error.value.message for word in words), error.value.message
    assert "\n" not in error.value.message


def test_text_that_is_not_utf8(tmp_path: Path) -> None:
    file = tmp_path / "p.jsonl"
    file.write_bytes(b'{"problem": "x"}\n{"problem": "\xff"}\n')
    with pytest.raises(DataError, match="UTF-8"):
        load_problems(options(file))


def test_missing_file_and_unknown_names(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        load_problems(options(tmp_path / "none.jsonl"))
    file = _jsonl(tmp_path / "p.jsonl", ROWS)
    with pytest.raises(ConfigError, match="gsm8") as error:
        load_problems(options(file, "gsm8"))
    assert "gsm8k" in error.value.hint
    with pytest.raises(ConfigError, match="'question'"):
        load_problems(options(file, columns={"question": "q"}))


def test_hub_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtraError) as error:
        load_problems(ProblemsConfig(source="hub:openai/gsm8k", preset="gsm8k"))
    assert "genprm[hub]" in error.value.hint


def test_hub_reads_what_the_datasets_package_can_load(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("datasets")
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "set"
    folder.mkdir()
    _jsonl(folder / "train.jsonl", [{"question": "How many?", "answer": "#### 4"}])
    source = f"hub:{folder}:default"
    (problem,) = load_problems(ProblemsConfig(source=source, preset="gsm8k"))
    assert problem.answer == "4"
    with pytest.raises(DataError, match="cannot be loaded"):
        load_problems(ProblemsConfig(source=source, preset="gsm8k", split="nowhere"))


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
        ({"problem": "P?", "solution": " "}, "'solution'"),
        ({"steps": ["one"]}, "'problem'"),
    ],
)
def test_bad_solutions(tmp_path: Path, row: dict[str, Any], word: str) -> None:
    with pytest.raises(DataError, match=word) as error:
        load_solutions(_jsonl(tmp_path / "s.jsonl", [row]))
    assert "s.jsonl:1" in error.value.message


@given(content=st.binary(max_size=200))
def test_arbitrary_bytes_give_rows_or_a_data_error(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    folder = tmp_path_factory.mktemp("bytes")
    for name in ("x.jsonl", "x.json"):
        (folder / name).write_bytes(content)
        try:
            assert all(isinstance(row.values, dict) for row in read_rows(folder / name))
        except DataError as error:
            assert name in error.message


@pytest.mark.parametrize(
    ("file", "preset", "count"),
    [
        ("gsm8k/train.jsonl", "gsm8k", 7473),
        ("gsm8k/test.jsonl", "gsm8k", 1319),
        ("svamp/SVAMP.json", "svamp", 1000),
    ],
)
def test_real_files(file: str, preset: str, count: int) -> None:
    if not (DATA / file).exists():
        pytest.skip("the shared data is not here")
    problems = load_problems(options(DATA / file, preset))
    assert len(problems) == count
    assert all(
        problem.answer and problem.answer.lstrip("-").replace(".", "").isdigit() for problem in problems
    )
