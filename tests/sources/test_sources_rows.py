"""Files are read by what they hold, and what cannot be read is one error that names the place."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genprm.errors import DataError
from genprm.sources import Row, read_rows
from genprm.sources.unique import HashSet

ONE, TWO = {"problem": "α?", "n": 1}, {"problem": "β?", "n": 2}
FORMS = {
    "lines": '{"problem": "α?", "n": 1}\n{"problem": "β?", "n": 2}\n',
    "blank lines": '\n{"problem": "α?", "n": 1}\n\n \t\n{"problem": "β?", "n": 2}',
    "windows lines": '{"problem": "α?", "n": 1}\r\n{"problem": "β?", "n": 2}\r\n',
    "array": '[{"problem": "α?", "n": 1}, {"problem": "β?", "n": 2}]',
    "pretty array": json.dumps([ONE, TWO], indent=2),
    "pretty objects": json.dumps(ONE, indent=2) + "\n" + json.dumps(TWO, indent=2) + "\n",
}


def values(path: Path) -> list[Any]:
    return [dict(row.values) for row in read_rows(path)]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("suffix", ["jsonl", "json", "ndjson"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_every_form_of_json_under_every_suffix(tmp_path: Path, form: str, suffix: str, mark: bytes) -> None:
    file = tmp_path / f"rows.{suffix}"
    file.write_bytes(mark + FORMS[form].encode())
    assert values(file) == [ONE, TWO]


@pytest.mark.parametrize("form", FORMS)
def test_every_form_on_standard_input(monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(FORMS[form].encode())))
    assert [row.values for row in read_rows("-")] == [ONE, TWO]


def test_a_single_object_over_several_lines_is_one_row(tmp_path: Path) -> None:
    file = tmp_path / "row.json"
    file.write_text(json.dumps(ONE, indent=4))
    (row,) = read_rows(file)
    assert (row.place, row.values) == (f"{file}:1", ONE)


def test_objects_over_several_lines_have_the_places_of_their_first_lines(tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    file.write_text("\n" + json.dumps(ONE, indent=2) + "\n\n" + json.dumps(TWO, indent=2))
    assert [row.place for row in read_rows(file)] == [f"{file}:2", f"{file}:7"]


def test_parquet_is_known_by_its_content(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = tmp_path / "rows.jsonl"
    pq.write_table(pa.Table.from_pylist([ONE, TWO]), file)
    assert values(file) == [ONE, TWO]
    cut = tmp_path / "cut.parquet"
    cut.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(DataError, match="not a readable Parquet file"):
        values(cut)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ('{"a": 1}\n{"a": oops}\n', "rows.jsonl:2: .* at character 7"),
        ('{"a": 1}\n{"a": 2', "rows.jsonl:2: .* at character 8"),
        ('{"a": 1}\n{"a":\n', "rows.jsonl:2: .* at character 6"),
        ('{"a": "open\n{"a": 2}\n', "rows.jsonl:1: .* at character 7"),
        ('{"a": 1}\n\n\n[oops\n', "rows.jsonl:4: .* at character 2"),
        ('{"a": 1} {"a": 2}\n', "rows.jsonl:1: .* at character 10"),
        ('[\n{"a": 1},\n\n{"a" 2}]', "rows.jsonl:4: .* at character 6"),
        ('[{"a": 1}]\n\n{"a": 2}\n', "rows.jsonl:3: .* at character 1"),
        ('{\n "a": 1\n}\n{\n "a" 2}', "rows.jsonl:5: .* at character 6"),
        ('{"a": 1}\n[1]\n', "rows.jsonl:2: a JSON object is needed, not an array"),
        ("1\n", "rows.jsonl:1: a JSON object is needed, not a number"),
        ("[null]", "rows.jsonl row 1: a JSON object is needed, not null"),
        ("[" * 100_000, "rows.jsonl:1: not valid JSON"),
    ],
)
def test_errors_name_line_and_character(tmp_path: Path, text: str, place: str) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(text)
    with pytest.raises(DataError, match=place) as error:
        values(file)
    assert error.value.hint and "\n" not in error.value.message


def test_text_that_is_not_utf8_is_on_the_line_that_is_named(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_bytes(b'{"a": "x"}\n' * 4000 + b'{"a": "\xc3\xa4\xff"}\n')
    with pytest.raises(DataError, match=r"rows.jsonl:4001: not UTF-8 text at character 9"):
        values(file)
    file.write_text("[]", encoding="utf-16")
    with pytest.raises(DataError, match="not UTF-8"):
        values(file)


def test_what_cannot_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path, words in [
        (tmp_path / "none.jsonl", "no such file"),
        (tmp_path / "none" / "x.jsonl", "no such file"),
        (tmp_path, "is a folder"),
        (tmp_path / ("x" * 300), "cannot be read"),
        (Path("a\0b.jsonl"), "cannot be read"),
        (Path("\udcff.jsonl"), "the name is not UTF-8 text"),
    ]:
        with pytest.raises(DataError, match=words):
            read_rows(path)

    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    file = tmp_path / "rows.jsonl"
    file.write_text("{}\n")
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(DataError, match=r"rows.jsonl: cannot be read: Permission denied$"):
        values(file)


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_file_without_permission(tmp_path: Path) -> None:
    for name in ("rows.jsonl", "rows.parquet"):
        file = tmp_path / name
        file.write_text("{}\n")
        file.chmod(0)
        with pytest.raises(DataError, match="Permission denied"):
            values(file)


def test_a_disk_that_fails_while_it_is_read(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.symlink_to("/proc/self/mem")
    with pytest.raises(DataError, match="cannot be read"):
        values(file)


def test_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "rows.jsonl").write_text('{"n": 1}\n')
    (row,) = read_rows("~/rows.jsonl")
    assert row.place == f"{tmp_path}/rows.jsonl:1"


def test_a_pipe_is_read_once(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=(FORMS["lines"],))
    writer.start()
    assert [row.values["n"] for row in read_rows(pipe)] == [1, 2]
    writer.join()


@given(content=st.binary(max_size=200) | st.text('[]{}":, \n1a\ufeff', max_size=40).map(str.encode))
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


_words = st.text(max_size=4)
_scalars = st.none() | st.booleans() | st.integers() | _words
_fields = st.dictionaries(_words, _scalars | st.lists(_scalars, max_size=2), min_size=1, max_size=3)


@given(rows=st.lists(_fields, min_size=1, max_size=4), indent=st.sampled_from([None, 0, 2]))
def test_written_rows_are_read_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]], indent: int | None
) -> None:
    file = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    file.write_text("\n".join(json.dumps(row, indent=indent) for row in rows))
    assert values(file) == rows
    file.write_text(json.dumps(rows, indent=indent))
    assert values(file) == rows


@pytest.mark.parametrize(
    ("value", "answer"),
    [
        (7, "7"),
        (7.0, "7"),
        (-0.0, "0"),
        (1.5, "1.5"),
        (1e22, "1" + "0" * 22),
        (1e-7, "0.0000001"),
        (10**400, "1" + "0" * 400),
        (" 1/2 ", "1/2"),
    ],
)
def test_numbers_as_answers_are_in_plain_notation(value: Any, answer: str) -> None:
    assert Row("x:1", {"answer": value}).answer("answer") == answer


@pytest.mark.parametrize("value", [None, True, "", " ", float("nan"), float("inf"), [1], {}])
def test_what_is_no_answer(value: Any) -> None:
    with pytest.raises(DataError, match="x:1: field 'answer' holds no text"):
        Row("x:1", {"answer": value}).answer("answer")


@given(st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 5).map(lambda n: n << 40), max_size=3000))
def test_the_set_of_hashes_is_a_set(hashes: list[int]) -> None:
    found, known = HashSet(), set[int]()
    for value in hashes:
        assert found.add(value) is ((value or 1) not in known)
        known.add(value or 1)
    assert len(found) == len(known)


def test_the_set_of_hashes_grows() -> None:
    found = HashSet()
    assert all(found.add(value << 20) for value in range(1, 5000))
    assert not any(found.add(value << 20) for value in range(1, 5000))


def test_importing_the_package_loads_nothing_heavy() -> None:
    heavy = ["pyarrow", "datasets", "sympy", "numpy", "torch"]
    code = f"import sys, genprm.sources; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
