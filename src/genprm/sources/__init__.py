"""Load problems and solutions from files and data hubs; every bad row is an error that names its place.

Files: `.jsonl` (one object a line), `.json` (an array of objects, or one object a line), `.parquet`,
and `-` for JSON lines on standard input. Hub data sets: `hub:ID`, or `hub:ID:CONFIG`.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genprm.config.models import ProblemsConfig
from genprm.domains.math import canonical, extract_answer
from genprm.errors import ConfigError, DataError, MissingExtraError
from genprm.records import Problem, Solution
from genprm.text.steps import split_steps

HUB_PREFIX = "hub:"
_ID_COLUMNS = ("id", "ID", "problem_id", "unique_id")
_TEXT_COLUMNS = ("problem", "question", "text")


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a source.

    Attributes:
        place: where it stands, for messages: `file.jsonl:12` (a line, from 1), or `file.json row 3`.
        values: its fields.
    """

    place: str
    values: Mapping[str, Any]

    def text(self, column: str) -> str:
        """A field that must hold text that is not blank."""
        value = self._get(column)
        if not isinstance(value, str) or not value.strip():
            raise DataError(f"{self.place}: field '{column}' holds no text ({_shown(value)})")
        return value

    def answer(self, column: str) -> str:
        """A field that must hold text or a number; a number becomes its plain notation (51.0 is `51`)."""
        value = self._get(column)
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            return canonical(repr(value)) if isinstance(value, int) or value.is_integer() else repr(value)
        return self.text(column).strip()

    def first(self, columns: Iterable[str]) -> str | None:
        """The first of these columns that the row has."""
        return next((name for name in columns if self.values.get(name) is not None), None)

    def _get(self, column: str) -> Any:
        if column not in self.values:
            raise DataError(
                f"{self.place}: field '{column}' is missing",
                hint=f"the row has {', '.join(sorted(self.values)) or 'no fields'}; "
                "name the right column with problems.columns, or choose another problems.preset",
            )
        return self.values[column]


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


def read_rows(path: str | Path) -> Iterator[Row]:
    """The rows of a file, one after the other. Raises `DataError` at the first that cannot be read."""
    if str(path) in {"-", "/dev/stdin"}:
        yield from _json_lines(sys.stdin, "standard input")
        return
    file = Path(path)
    if not file.is_file():
        raise DataError(f"{file}: no such file", hint="give a .jsonl, .json or .parquet file, or hub:ID")
    if file.suffix == ".parquet":
        yield from _parquet_rows(file)
    elif file.suffix == ".json" and _starts_with_bracket(file):
        yield from _array_rows(file)
    elif file.suffix in {".jsonl", ".json", ".ndjson"}:
        with file.open(encoding="utf-8") as lines:
            yield from _json_lines(lines, str(file))
    else:
        raise DataError(
            f"{file}: unknown kind of file '{file.suffix}'", hint="use .jsonl, .json or .parquet"
        )


def _json_lines(lines: Iterable[str], name: str) -> Iterator[Row]:
    number = 0
    try:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield _object(_decode(line, f"{name}:{number}"), f"{name}:{number}")
    except UnicodeDecodeError as error:
        raise DataError(f"{name}:{number + 1}: not UTF-8 text ({error.reason})") from error


def _decode(text: str, place: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        what = (
            f"{error.msg} at character {error.colno}" if isinstance(error, json.JSONDecodeError) else error
        )
        raise DataError(
            f"{place}: not valid JSON: {what}", hint="each line must be one JSON object"
        ) from error


def _object(value: Any, place: str) -> Row:
    if not isinstance(value, dict):
        raise DataError(f"{place}: a JSON object is needed, not {type(value).__name__}")
    return Row(place, value)


def _starts_with_bracket(file: Path) -> bool:
    with file.open("rb") as handle:
        return handle.read(1024).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"[")


def _array_rows(file: Path) -> Iterator[Row]:
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise DataError(f"{file}:{error.lineno}: not valid JSON: {error.msg}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: not UTF-8 text ({error.reason})") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file}: not valid JSON: {error}") from error
    for number, value in enumerate(values, start=1):
        place = f"{file} row {number}"
        yield _object(value, place)


def _parquet_rows(file: Path) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(file) as parquet:
            number = 0
            for batch in parquet.iter_batches():
                for values in batch.to_pylist():
                    number += 1
                    yield Row(f"{file} row {number}", values)
    except pa.ArrowException as error:
        raise DataError(f"{file}: not a readable Parquet file: {error}") from error


def _hub_rows(name: str, split: str, default_config: str | None) -> Iterator[Row]:
    """Rows of a hub data set, or of a local folder that the `datasets` package can load."""
    try:
        import datasets
    except ImportError as error:
        raise MissingExtraError("datasets", "hub", f"loading the data set {name}") from error
    identifier, _, config = name.partition(":")
    place = f"{HUB_PREFIX}{identifier} ({split})"
    try:
        loaded = datasets.load_dataset(identifier, config or default_config, split=split)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise DataError(
            f"{place}: cannot be loaded: {(str(error) or type(error).__name__).splitlines()[0]}",
            hint="check the id, the split and the network; a configuration is given as hub:ID:CONFIG",
        ) from error
    for number, values in enumerate(loaded, start=1):
        yield Row(f"{place} row {number}", values)


def _rows(source: str, split: str, hub_config: str | None = None) -> Iterator[Row]:
    if source.startswith(HUB_PREFIX):
        return _hub_rows(source.removeprefix(HUB_PREFIX), split, hub_config)
    return read_rows(source)


def _plain_text(row: Row) -> str:
    return row.text(row.first(_TEXT_COLUMNS) or _TEXT_COLUMNS[0])


def _plain_answer(row: Row) -> str | None:
    return row.answer("answer") if row.values.get("answer") is not None else None


def _gsm8k_answer(row: Row, column: str = "answer") -> str:
    text = row.answer(column)
    if "####" not in text:
        raise DataError(
            f"{row.place}: field '{column}' has no '#### ANSWER' at its end",
            hint="use problems.preset=plain where the field is the answer itself",
        )
    found = text.rsplit("####", 1)[1].strip()
    if not found:
        raise DataError(f"{row.place}: field '{column}' has nothing after '####'")
    return canonical(found)


def _math_answer(row: Row) -> str:
    if row.values.get("answer") is not None:
        return row.answer("answer")
    return _boxed(row, "solution")


def _boxed(row: Row, column: str) -> str:
    found = extract_answer(row.text(column))
    if found is None:
        raise DataError(f"{row.place}: field '{column}' states no answer (no \\boxed{{...}})")
    return found


def _svamp_text(row: Row) -> str:
    body, question = row.text("Body").strip(), row.text("Question").strip()
    if body[-1] in ".!?":
        return f"{body} {question}"
    # The data set ends such bodies in the middle of a sentence that the question goes on with.
    return f"{body}, {question[0].lower()}{question[1:]}"


@dataclass(frozen=True, slots=True)
class Preset:
    """How rows of a known data set become problems.

    Attributes:
        text: reads the problem's text.
        answer: reads the reference answer.
        answer_from: reads the answer out of another column, where `problems.columns` names one.
        hub_config: the configuration to load from a hub where none is given.
    """

    text: Callable[[Row], str]
    answer: Callable[[Row], str | None]
    answer_from: Callable[[Row, str], str]
    hub_config: str | None = None


PRESETS: dict[str, Preset] = {
    "plain": Preset(_plain_text, _plain_answer, Row.answer),
    "gsm8k": Preset(lambda row: row.text("question"), _gsm8k_answer, _gsm8k_answer, hub_config="main"),
    "math": Preset(lambda row: row.text("problem"), _math_answer, Row.answer),
    "svamp": Preset(_svamp_text, lambda row: row.answer("Answer"), Row.answer),
}


def load_problems(options: ProblemsConfig) -> list[Problem]:
    """The problems of a file or a hub data set, in its order, at most `options.limit`.

    A problem's id is the row's own, or a hash of its text and answer. Raises `ConfigError` for an
    unknown preset or column role, and `DataError` for a row that cannot be used, two rows with the
    same id, or a source without rows.
    """
    preset = _preset(options)
    rows = _rows(options.source, options.split, preset.hub_config)
    problems: list[Problem] = []
    places: dict[str, str] = {}
    for row in itertools.islice(rows, options.limit):
        problem = _problem(row, preset, options)
        _claim(places, problem.id, row.place)
        problems.append(problem)
    if not problems:
        raise DataError(f"{options.source}: no rows")
    return problems


def _preset(options: ProblemsConfig) -> Preset:
    if options.preset not in PRESETS:
        raise ConfigError(
            f"problems.preset: unknown preset '{options.preset}'", hint=f"use one of {', '.join(PRESETS)}"
        )
    unknown = set(options.columns) - {"id", "text", "answer"}
    if unknown:
        raise ConfigError(
            f"problems.columns: unknown role '{sorted(unknown)[0]}'",
            hint="the roles are id, text and answer, for example {text: question}",
        )
    return PRESETS[options.preset]


def _problem(row: Row, preset: Preset, options: ProblemsConfig) -> Problem:
    columns = options.columns
    text = row.text(columns["text"]) if "text" in columns else preset.text(row)
    answer = preset.answer_from(row, columns["answer"]) if "answer" in columns else preset.answer(row)
    identifier = _identifier(row, columns.get("id")) or _content_id(text, answer)
    return Problem(id=identifier, text=text.strip(), answer=answer, source=options.source)


def _identifier(row: Row, column: str | None) -> str | None:
    found = column or row.first(_ID_COLUMNS)
    return None if found is None else row.answer(found)


def _content_id(*parts: str | None) -> str:
    joined = "\0".join(part or "" for part in parts)
    return hashlib.sha256(joined.encode()).hexdigest()[:16]


def _claim(places: dict[str, str], identifier: str, place: str) -> None:
    if identifier in places:
        raise DataError(
            f"{place}: the id '{identifier}' was already used at {places[identifier]}",
            hint="ids must be unique; a row without one gets it from its content: remove repeated rows",
        )
    places[identifier] = place


def load_solutions(path: str | Path, split: str = "train") -> list[tuple[Problem, Solution]]:
    """Solutions to verify, each with its problem, from a file or a hub data set's split.

    A row has the problem's text (`problem`, `question` or `text`) and either `steps` (a list of
    paragraphs) or `solution` (a text that is split into steps); `id` and `answer` (the reference) are
    optional. ProcessBench rows fit; their annotations go to the problem's metadata.
    """
    found: list[tuple[Problem, Solution]] = []
    places: dict[str, str] = {}
    for row in _rows(str(path), split):
        text, steps = _plain_text(row), _steps(row)
        identifier = _identifier(row, None) or _content_id(text, *steps)
        _claim(places, identifier, row.place)
        notes = ("label", "final_answer_correct", "generator")
        problem = Problem(
            id=identifier,
            text=text.strip(),
            answer=_plain_answer(row),
            source=str(path),
            metadata={name: row.values[name] for name in notes if name in row.values},
        )
        answer = extract_answer("\n\n".join(steps))
        solution = Solution(id=identifier, problem_id=identifier, steps=steps, answer=answer)
        found.append((problem, solution))
    if not found:
        raise DataError(f"{path}: no rows")
    return found


def _steps(row: Row) -> tuple[str, ...]:
    if row.values.get("steps") is None:
        if row.values.get("solution") is None:
            raise DataError(
                f"{row.place}: neither 'steps' nor 'solution' is there",
                hint="give steps as a list of paragraphs, or the solution as one text",
            )
        return tuple(split_steps(row.text("solution")))
    steps = row.values["steps"]
    if not isinstance(steps, list) or not steps:
        raise DataError(f"{row.place}: field 'steps' must be a list of paragraphs that is not empty")
    for number, step in enumerate(steps, start=1):
        if not isinstance(step, str) or not step.strip():
            raise DataError(f"{row.place}: field 'steps', paragraph {number}: no text ({_shown(step)})")
    return tuple(steps)
