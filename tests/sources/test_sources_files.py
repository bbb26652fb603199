"""Data files as people and tools write them: marks, pretty printing, numbers, halves of characters, CSV, compression."""

from __future__ import annotations

import csv
import gzip
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genprm.config.models import ProblemsConfig
from genprm.errors import DataError
from genprm.evals.processbench import load_processbench
from genprm.records import Problem
from genprm.sources import load_problems, load_solutions, read_rows
from genprm.sources.hub import _parts

ROW = {"problem": "1+1?", "steps": ["1+1=2."], "answer": "2"}
MARK = b"\xef\xbb\xbf"


def zstd(data: bytes) -> bytes:
    import pyarrow as pa

    out = pa.BufferOutputStream()
    with pa.CompressedOutputStream(out, "zstd") as stream:
        stream.write(data)
    return bytes(out.getvalue())


PACKERS: dict[str, Callable[[bytes], bytes]] = {"": bytes, ".gz": gzip.compress, ".zst": zstd}


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def values(path: Path | str) -> list[dict[str, Any]]:
    return [dict(row.values) for row in read_rows(path)]


def from_standard_input(monkeypatch: pytest.MonkeyPatch, data: bytes) -> list[dict[str, Any]]:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    return values("-")


def test_columns_of_parquet_that_nobody_reads_hinder_nobody(tmp_path: Path) -> None:
    """A date that Python has not, and times to the nanosecond, which pyarrow makes with pandas alone."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    dates = pa.array([2**31 - 1], pa.int32()).cast(pa.date32())
    times = pa.array([1], pa.int64()).cast(pa.timestamp("ns"))
    table = pa.table({"problem": ["P?"], "answer": ["1"], "on": dates, "at": times})
    pq.write_table(table, tmp_path / "rows.parquet")
    (problem,) = load_problems(tmp_path / "rows.parquet")
    assert (problem.text, problem.answer) == ("P?", "1")


def test_text_of_parquet_that_is_no_unicode_is_an_error_with_its_file(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    broken = pa.Array.from_buffers(
        pa.string(), 1, [None, pa.py_buffer(b"\0\0\0\0\1\0\0\0"), pa.py_buffer(b"\xe9")]
    )
    pq.write_table(pa.table({"problem": broken, "answer": ["1"]}), tmp_path / "rows.parquet")
    with pytest.raises(DataError, match=r"rows\.parquet: not a readable Parquet file"):
        load_problems(tmp_path / "rows.parquet")


@pytest.mark.parametrize("packed", PACKERS)
@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json", "rows.csv", "rows.tsv"])
def test_a_byte_order_mark_is_no_part_of_any_file(tmp_path: Path, name: str, packed: str) -> None:
    text = json.dumps(ROW) + "\r\n"
    if name.endswith("sv"):
        text = "problem,answer\r\n1+1?,2\r\n".replace(",", "\t" if name.endswith("tsv") else ",")
    data = PACKERS[packed](MARK + text.encode())
    (problem,) = load_problems(write(tmp_path / (name + packed), data))
    assert (problem.text, problem.answer) == ("1+1?", "2")


@pytest.mark.parametrize("packed", PACKERS)
def test_standard_input_takes_marks_lists_and_compressed_text(
    monkeypatch: pytest.MonkeyPatch, packed: str
) -> None:
    for text in (
        json.dumps(ROW),
        json.dumps(ROW, indent=2),
        json.dumps([ROW]),
        json.dumps([ROW], indent=1),
    ):
        for mark in (b"", MARK):
            assert from_standard_input(monkeypatch, PACKERS[packed](mark + text.encode())) == [ROW]


def test_a_pretty_printed_object_is_one_item(tmp_path: Path) -> None:
    text = '{\n  "problem": "1+1?",\n  "steps": ["1+1=2."]\n}'
    for name in ("row.json", "row.jsonl", "row.ndjson"):
        ((problem, solution),) = load_solutions(write(tmp_path / name, text.encode()))
        assert (problem.text, solution.steps) == ("1+1?", ("1+1=2.",))


@pytest.mark.parametrize(
    ("written", "reference"),
    [
        ("0.00001", "0.00001"),
        ("1e-05", "0.00001"),
        ("1E3", "1000"),
        ("0.10", "0.10"),
        ("2.50", "2.50"),
        ("51.0", "51"),
        ("-0.0", "0"),
        ("0.1234567890123456789", "0.1234567890123456789"),
        ("12345678901234567890.5", "12345678901234567890.5"),
        ("1e400", "1" + "0" * 400),
        ("7" * 5000 + ".0", "7" * 5000),
        ("1e999999999", "1e999999999"),
        ("1e99999999999999999999", "1e99999999999999999999"),
    ],
)
def test_numbers_are_references_as_they_are_written(tmp_path: Path, written: str, reference: str) -> None:
    line = f'{{"problem": "p", "answer": {written}}}'
    for name, text in {"a.jsonl": line, "b.json": f"[{line}]", "c.jsonl": line.replace(",", ",\n")}.items():
        (problem,) = load_problems(write(tmp_path / name, text.encode()))
        assert problem.answer == reference


@given(st.decimals(allow_nan=False, allow_infinity=False, places=8, min_value=-(10**6), max_value=10**6))
def test_a_number_loses_no_digit(tmp_path_factory: pytest.TempPathFactory, number: Any) -> None:
    file = tmp_path_factory.mktemp("number") / "rows.jsonl"
    (problem,) = load_problems(write(file, f'{{"problem": "p", "answer": {number:f}}}'.encode()))
    assert problem.answer == (str(int(number)) if number == int(number) else f"{number:f}")


@pytest.mark.parametrize("kind", ["float", "double", "decimal128(6, 2)"])
def test_numbers_of_parquet_have_their_own_digits(tmp_path: Path, kind: str) -> None:
    import decimal

    import pyarrow as pa
    import pyarrow.parquet as pq

    types = {"float": pa.float32(), "double": pa.float64(), "decimal128(6, 2)": pa.decimal128(6, 2)}
    found = [decimal.Decimal("0.10"), None] if kind.startswith("decimal") else [0.1, None]
    table = pa.table({"problem": ["p", "q"], "answer": pa.array(found, types[kind])})
    pq.write_table(table, tmp_path / "rows.parquet")
    first, second = load_problems(tmp_path / "rows.parquet")
    assert (first.answer, second.answer) == ("0.10" if kind.startswith("decimal") else "0.1", None)


HALF = '{"problem": "a \\ud83d b", "answer": "1", "steps": ["one"]}'


@pytest.mark.parametrize(
    "line",
    [
        HALF,
        HALF.replace("problem", "question"),
        '{"problem": "p", "answer": "\\udc00"}',
        '{"id": "\\ud800", "problem": "p"}',
    ],
)
def test_half_a_surrogate_pair_is_one_clear_error(tmp_path: Path, line: str) -> None:
    with pytest.raises(
        DataError, match=r"rows.jsonl:1: field '.*' holds half of a surrogate pair"
    ) as error:
        load_problems(write(tmp_path / "rows.jsonl", line.encode()))
    assert error.value.hint
    whole = line.replace("\\ud83d", "\\ud83d\\ude00").replace("\\udc00", "x").replace("\\ud800", "x")
    assert load_problems(write(tmp_path / "rows.jsonl", whole.encode()))


@pytest.mark.parametrize("packed", PACKERS)
def test_solutions_in_csv(tmp_path: Path, packed: str) -> None:
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer)
    steps = json.dumps(["Step 1: 2, 3", 'Step 2: "5"'])
    writer.writerows([["id", "problem", "steps", "label"], ["a", "two\nlines", steps, "-1"]])
    file = write(tmp_path / f"math.csv{packed}", PACKERS[packed](buffer.getvalue().encode()))
    (item,) = load_processbench(file)
    assert (item.id, item.problem, item.label) == ("a", "two\nlines", -1)
    assert item.steps == ("Step 1: 2, 3", 'Step 2: "5"')


def test_an_empty_cell_is_a_missing_value(tmp_path: Path) -> None:
    problems = load_problems(write(tmp_path / "p.tsv", b"id\tproblem\tanswer\n\tp\t\n\nb\tq\t[1, 2]\n"))
    assert [problem.answer for problem in problems] == [None, "[1, 2]"]
    assert problems[0].id and problems[1].id == "b"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("problem,answer\np,1,2\n", ":2: the row has 3 cells, the header 2"),
        ("problem,answer\np\n", ":2: the row has 1 cell, the header 2"),
        ("problem,problem\np,q\n", ":1: two columns are called 'problem'"),
        ("problem,,answer\np,q,r\n", ":1: column 2 has no name"),
        ('problem\n"a"b\n', ":2: not valid CSV"),
        ('problem\np\n"open\n\n', "not valid CSV"),
        ("query,answer\np,1\n", ":2: field 'problem' is missing"),
        ("problem\np\n\xff\n", ":3: not UTF-8 text at character 1"),
    ],
)
def test_errors_of_csv_name_the_line(tmp_path: Path, text: str, says: str) -> None:
    file = write(tmp_path / "rows.csv", text.encode("latin-1"))
    with pytest.raises(DataError) as error:
        load_problems(file)
    assert says in error.value.message and str(file) in error.value.message
    assert error.value.hint and "\n" not in error.value.message


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        ("rows.csv", "problem;solution\np;s, t\n", "';'"),
        ("rows.csv", "problem\tsolution\np\ts\n", "a tab"),
        ("rows.csv", "problem|solution\np|s\n", "'|'"),
        ("rows.tsv", "problem,solution\np,s\n", "','"),
    ],
)
def test_another_separator_is_named(tmp_path: Path, name: str, text: str, found: str) -> None:
    file = write(tmp_path / name, text.encode())
    for load in (load_problems, load_solutions):
        with pytest.raises(DataError, match=r":1: the header is a single column") as error:
            load(file)
        assert f"the separator seems to be {found};" in error.value.hint


@pytest.mark.parametrize("text", ["problem\np\n" + "x" * 140_000 + "\n", 'problem\np\n"q' + "\nx" * 70_000])
def test_a_cell_of_csv_that_is_too_long_is_said(tmp_path: Path, text: str) -> None:
    file = write(tmp_path / "rows.csv", text.encode())
    with pytest.raises(
        DataError, match=r"rows.csv:3: a cell of this row has more than 131,072 characters"
    ) as caught:
        list(read_rows(file))
    assert "JSONL" in caught.value.hint


def test_rows_of_csv_have_the_places_of_their_first_lines(tmp_path: Path) -> None:
    file = write(tmp_path / "rows.csv", b'problem\np\n"two\nlines"\n\nlast\n')
    assert [row.place for row in read_rows(file)] == [f"{file}:{line}" for line in (2, 3, 6)]


_cells = st.text(max_size=6).filter(lambda text: "\0" not in text and not text.startswith("\ufeff"))


@given(rows=st.lists(st.tuples(_cells, _cells), min_size=1, max_size=4), tabs=st.booleans())
def test_written_cells_are_read_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]], tabs: bool
) -> None:
    file = tmp_path_factory.mktemp("cells") / ("rows.tsv" if tabs else "rows.csv")
    with file.open("w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out, delimiter="\t" if tabs else ",", quoting=csv.QUOTE_ALL)
        writer.writerows([("a", "b"), *rows])
    assert values(file) == [{"a": one or None, "b": two or None} for one, two in rows]


@pytest.mark.parametrize(
    ("packed", "harm"),
    # A changed bit is found by a checksum; Zstandard frames have one only if whoever wrote them asked for it.
    [(".gz", "cut"), (".gz", "bit"), (".gz", "magic"), (".zst", "cut"), (".zst", "magic")],
)
def test_damaged_compressed_data_are_one_clear_error(tmp_path: Path, packed: str, harm: str) -> None:
    text = "".join(json.dumps({"problem": f"problem {i} {i * i}"}) + "\n" for i in range(500))
    data = bytearray(PACKERS[packed](text.encode()))
    if harm == "cut":
        del data[len(data) // 2 :]
    elif harm == "bit":
        for place in range(len(data) // 2, len(data) // 2 + 8):
            data[place] ^= 0xFF
    else:
        del data[:4]
    with pytest.raises(DataError, match=r"rows\.jsonl\."):
        values(write(tmp_path / f"rows.jsonl{packed}", bytes(data)))


@pytest.mark.parametrize("packed", [".gz", ".zst"])
def test_compressed_text_in_several_parts_is_one_text(tmp_path: Path, packed: str) -> None:
    """As `cat a.gz b.gz` writes it; whatever the name says."""
    data = b"".join(PACKERS[packed](json.dumps({"n": i}).encode() + b"\n") for i in range(3))
    assert values(write(tmp_path / "rows.jsonl", data)) == [{"n": 0}, {"n": 1}, {"n": 2}]


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("openai/gsm8k", ("openai/gsm8k", None, None)),
        ("openai/gsm8k:socratic", ("openai/gsm8k", None, "socratic")),
        ("openai/gsm8k@e53f048", ("openai/gsm8k", "e53f048", None)),
        ("openai/gsm8k@refs/pr/3:main", ("openai/gsm8k", "refs/pr/3", "main")),
    ],
)
def test_a_hub_id_with_a_revision(name: str, parts: tuple[str, str | None, str | None]) -> None:
    assert _parts(name) == parts


def test_a_revision_is_passed_to_the_hub_and_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    asked: dict[str, Any] = {}

    def load_dataset(name: str, config: str | None, **options: Any) -> list[dict[str, Any]]:
        asked.update(options, name=name, config=config)
        return [{"question": "How many?", "answer": "#### 4"}]

    def asked_hub(_: Any, name: str, *, revision: str, timeout: float) -> None:
        assert (name, revision) == ("openai/gsm8k", "e53f048")

    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", asked_hub)
    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    source = "hub:openai/gsm8k@e53f048"
    (problem,) = load_problems(ProblemsConfig(source=source, preset="gsm8k", split="test"))
    assert asked == {"name": "openai/gsm8k", "config": "main", "split": "test", "revision": "e53f048"}
    assert problem == Problem(id=problem.id, text="How many?", answer="4", source=source)


def test_a_folder_may_have_an_at_sign_in_its_name(tmp_path: Path) -> None:
    folder = tmp_path / "set@2"
    folder.mkdir()
    assert _parts(f"{folder}:default") == (str(folder), None, "default")


@pytest.mark.parametrize(
    ("text", "says", "hint"),
    [
        ("version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 12\n", "Git LFS", "git lfs pull"),
        ("<!DOCTYPE html>\n<html><body>rows.jsonl</body></html>\n", "web page", "raw file"),
        ("\ufeff  <html>", "web page", "raw file"),
    ],
)
@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json", "rows.csv", "rows.jsonl.gz"])
def test_what_stands_in_place_of_the_data_is_named(
    tmp_path: Path, name: str, text: str, says: str, hint: str
) -> None:
    with pytest.raises(DataError, match=says) as error:
        load_problems(write(tmp_path / name, text.encode()))
    assert hint in error.value.hint


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ('{"problem": "p"}\n{"problem": "p", "answer": "1", "answer": "2"}\n', "rows.jsonl:2"),
        ('[\n{"problem": "p", "answer": "1", "answer": "2"}\n]', "rows.jsonl"),
        ('{"problem": "p", "notes": {"a": 1, "a": 1}}', "rows.jsonl:1"),
    ],
)
def test_a_key_that_stands_twice_loses_no_value_in_silence(tmp_path: Path, text: str, place: str) -> None:
    with pytest.raises(DataError, match="stands twice") as error:
        load_problems(write(tmp_path / "rows.jsonl", text.encode()))
    assert f"{place}: " in error.value.message


def test_integers_of_any_length_are_references(tmp_path: Path) -> None:
    digits = "-" + "9" * 6000
    (problem,) = load_problems(
        write(tmp_path / "rows.jsonl", f'{{"problem": "p", "answer": {digits}}}'.encode())
    )
    assert problem.answer == digits


def test_nesting_without_end_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nested too deeply"):
        load_problems(write(tmp_path / "rows.json", b"[" * 100_000))
