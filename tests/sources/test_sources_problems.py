"""Problems load from every kind of file, and every bad row is one error that names its place."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from genprm.config.models import ProblemsConfig
from genprm.errors import ConfigError, DataError, MissingExtraError
from genprm.records import Problem
from genprm.sources import iterate_problems, load_problems, load_solutions, register_source
from genprm.sources.registry import SOURCES
from no_network import cut_off

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
    ("p.jsonl", '["x"]\n', {}, ["p.jsonl row 1", "object"]),
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
    ("p.json", '[{"problem": "x"},\n', {}, ["p.json:1", "JSON", "character 19"]),
    ("p.csv", "problem,answer\n", {}, ["p.csv", "no rows"]),
    ("p.xls", "problem,answer\n", {}, ["p.xls", "'.xls'"]),
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


def test_missing_file_and_unknown_names(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        load_problems(options(tmp_path / "none.jsonl"))
    file = _jsonl(tmp_path / "p.jsonl", ROWS)
    with pytest.raises(ConfigError, match="gsm8") as error:
        load_problems(options(file, "gsm8"))
    assert error.value.hint == "did you mean 'gsm8k'?"
    with pytest.raises(ConfigError, match="'question'"):
        load_problems(options(file, columns={"question": "q"}))


@pytest.mark.parametrize("columns", [{}, {"answer": "answer"}])
def test_a_whole_solution_is_no_plain_reference(tmp_path: Path, columns: dict[str, str]) -> None:
    rows = [{"question": "How many?", "answer": "2 + 2 = <<2+2=4>>4\n#### 4"}]
    file = _jsonl(tmp_path / "g.jsonl", rows)
    with pytest.raises(DataError, match=r"g\.jsonl:1: field 'answer' is a whole solution") as error:
        load_problems(options(file, columns=columns))
    assert "--preset gsm8k" in error.value.hint
    assert load_problems(file, preset="gsm8k")[0].answer == "4"
    kept = _jsonl(tmp_path / "p.jsonl", [{"question": "How many?", "answer": "the mark ####"}])
    assert load_problems(kept)[0].answer == "the mark ####"


def test_a_solution_to_verify_may_come_with_gsm8ks_reference(tmp_path: Path) -> None:
    row = {"question": "How many?", "solution": "It is 4.", "answer": "2 + 2 = 4\n#### 4"}
    ((problem, _),) = load_solutions(_jsonl(tmp_path / "s.jsonl", [row]))
    assert problem.answer == "4"


def test_a_hub_without_a_network_is_one_quick_message(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets = pytest.importorskip("datasets")
    before = datasets.config.HF_HUB_OFFLINE
    cut_off(monkeypatch)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    with pytest.raises(DataError, match=r"org/none \(train\): .* the hub cannot be reached") as error:
        load_problems("hub:org/none")
    assert "network" in error.value.hint
    assert "etry" not in capfd.readouterr().err
    assert datasets.config.HF_HUB_OFFLINE is before


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


def test_the_flat_call(tmp_path: Path) -> None:
    file = _jsonl(tmp_path / "g.jsonl", [{"question": "How many?", "answer": "#### 4"}])
    assert load_problems(file, preset="gsm8k") == load_problems(options(file, "gsm8k"))
    rows = _jsonl(tmp_path / "p.jsonl", ROWS)
    assert [problem.id for problem in load_problems(str(rows), limit=2)] == ["a", "b"]
    (problem,) = load_problems(rows, columns={"id": "problem", "answer": "id"}, limit=1)
    assert (problem.id, problem.answer) == ("What is 1 + 1?", "a")
    with pytest.raises(ConfigError, match="'limit' cannot be 0"):
        load_problems(rows, limit=0)
    with pytest.raises(TypeError, match="limit"):
        load_problems(options(rows), limit=2)


def test_no_source_is_a_mistake_in_the_config() -> None:
    with pytest.raises(ConfigError, match="no problems are named") as error:
        iterate_problems(ProblemsConfig())
    assert "problems.source" in error.value.hint and "arithmetic" in error.value.hint


def test_mistakes_are_raised_before_the_first_row_is_wanted(tmp_path: Path) -> None:
    file = _jsonl(tmp_path / "p.jsonl", ROWS)
    for wrong in (options(tmp_path / "none.jsonl"), options(tmp_path), options(file, "gsm8")):
        with pytest.raises((ConfigError, DataError)):
            iterate_problems(wrong)


def test_rows_are_read_as_they_are_wanted(tmp_path: Path) -> None:
    file = _jsonl(tmp_path / "p.jsonl", ROWS[:2])
    file.write_text(file.read_text(encoding="utf-8") + "broken\n", encoding="utf-8")
    problems = iterate_problems(options(file))
    assert [next(problems).id, next(problems).id] == ["a", "b"]
    with pytest.raises(DataError, match=r"p\.jsonl:3"):
        next(problems)


@pytest.mark.parametrize("write", [_jsonl, _parquet])
def test_memory_does_not_grow_with_the_rows(tmp_path: Path, write: Callable[..., Path]) -> None:
    """Per row only the hash of its id is kept, in at most 32 bytes."""
    import tracemalloc

    def peak(count: int) -> int:
        rows = [{"id": f"row {n}", "problem": f"{n}? " + "x" * 500, "answer": str(n)} for n in range(count)]
        file = write(tmp_path / f"{count}.{'parquet' if write is _parquet else 'jsonl'}", rows)
        del rows
        tracemalloc.start()
        assert sum(1 for _ in iterate_problems(options(file))) == count
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(10)  # what is imported on the way does not count
    assert peak(20_000) - peak(2_000) < 18_000 * 48


def test_two_rows_with_one_id_among_many(tmp_path: Path) -> None:
    rows = [{"id": n, "problem": f"{n}?"} for n in range(5000)]
    rows.append({"id": 1234, "problem": "again"})
    with pytest.raises(DataError) as error:
        load_problems(_jsonl(tmp_path / "p.jsonl", rows))
    assert error.value.message.startswith(f"{tmp_path}/p.jsonl:5001: the id '1234'")
    assert error.value.message.endswith(f"{tmp_path}/p.jsonl:1235")


def test_ids_that_only_share_a_hash_are_two_ids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("genprm.sources.unique.hash_of", lambda identifier: 5)
    file = _jsonl(tmp_path / "p.jsonl", ROWS)
    assert [problem.id for problem in load_problems(file)] == ["a", "b", "c"]
    with pytest.raises(DataError, match=r"p\.jsonl:4.*'b'.*p\.jsonl:2"):
        load_problems(_jsonl(tmp_path / "p.jsonl", [*ROWS, ROWS[1]]))


def test_standard_input_cannot_be_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def give(*rows: dict[str, Any]) -> None:
        text = "".join(json.dumps(row) + "\n" for row in rows)
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))

    give(*ROWS)
    assert [problem.id for problem in load_problems("-")] == ["a", "b", "c"]
    give(*ROWS, ROWS[0])
    with pytest.raises(DataError, match=r"^standard input:4: the id 'a' was already used"):
        load_problems("-")


def counted(options: ProblemsConfig, seed: int) -> Iterator[Problem]:
    for number in range(options.limit or 5):
        yield Problem(id=f"{seed}/{number % 4}", text=f"{options.split} {number}?")


def test_registered_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("genprm.sources.registry.SOURCES", dict(SOURCES))
    register_source("counted", f"{__name__}:counted")
    problems = list(iterate_problems(ProblemsConfig(source="counted", split="eval", limit=2), seed=7))
    assert [(problem.id, problem.text) for problem in problems] == [("7/0", "eval 0?"), ("7/1", "eval 1?")]
    with pytest.raises(DataError, match=r"(?m)counted problem 5: the id '0/0' .* counted problem 1$"):
        load_problems("counted")
    register_source("gone", "genprm.nowhere:source")
    with pytest.raises(ConfigError, match=r"genprm\.nowhere:source"):
        load_problems("gone")
    for name in ("", "-", "a/b", "hub:x", "p.jsonl", "~x"):
        with pytest.raises(ValueError, match="cannot be called"):
            register_source(name, f"{__name__}:counted")


def halves(options: ProblemsConfig, seed: int) -> Iterator[Problem]:
    yield Problem(id="a", text="fine", answer="\ud800")


def test_a_registered_source_may_not_give_half_a_surrogate_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SOURCES, "halves", f"{__name__}:halves")
    with pytest.raises(DataError, match="halves problem 1: the answer holds half of a surrogate pair"):
        load_problems(ProblemsConfig(source="halves"))


def test_the_built_in_world_is_a_source() -> None:
    problems = load_problems("arithmetic", limit=3, seed=1)
    assert len({problem.id for problem in problems}) == 3
    assert problems == load_problems("arithmetic", limit=3, seed=1)
    with pytest.raises(DataError) as error:
        load_problems("arithmetics")
    assert "did you mean 'arithmetic'?" in error.value.hint
