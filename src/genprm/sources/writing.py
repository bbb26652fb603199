"""Rows in the layouts that other programs read, as JSON lines or Parquet.

| layout | of | fields |
|---|---|---|
| `genprm` | labelled solutions, chats | those of the record; `import` reads them back, each once |
| `genprm` | problems | `id`, `problem`, `answer` |
| `stepwise` | labelled solutions | `prompt`, `completions`, `labels` |
| `conversations` | chats | `conversations`: role and content, as in GenPRM-MATH-Data |
| `messages` | chats | `messages`: role and content, as chat trainers read them |
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from pydantic import BaseModel

from genprm.errors import ConfigError, DataError
from genprm.records import LabelledSolution, Problem, TrainingSample
from genprm.text.counts import counted

Writable = LabelledSolution | Problem | TrainingSample
_BATCH = 1024
_SUFFIXES = (".jsonl", ".parquet")


@dataclass(frozen=True, slots=True)
class Written:
    """What was written.

    Attributes:
        rows: rows in the file.
        left_out: rows that have nothing to write in this layout.
        shortened: rows of which only the beginning could be written.
    """

    rows: int
    left_out: int = 0
    shortened: int = 0


def write_layout(rows: Iterable[Writable], path: str | Path, layout: str = "genprm") -> Written:
    """Write rows to a file, one after the other; the file appears when all are written.

    The layout `stepwise` has no word for an unknown label. A solution is written up to its first unknown step; one that
    begins with such a step is left out.

    Args:
        path: `.jsonl` or `.parquet`.
        layout: `genprm`, `stepwise`, `conversations` or `messages`.

    Raises:
        ConfigError: an unknown layout, a layout that the rows do not have, or another suffix.
        DataError: no row is left, or the file cannot be written.
    """
    target = Path(path)
    if target.suffix not in _SUFFIXES:
        raise ConfigError(f"{target}: unknown kind of file", hint=f"Use one of {', '.join(_SUFFIXES)}.")
    if layout not in _LAYOUTS:
        raise ConfigError(f"there is no layout '{layout}'", hint=f"Known: {', '.join(_LAYOUTS)}.")
    counts = {"rows": 0, "left_out": 0, "shortened": 0}

    def values() -> Iterator[dict[str, Any]]:
        for row in rows:
            found = _LAYOUTS[layout](row)
            if found is None:
                counts["left_out"] += 1
                continue
            if layout == "stepwise":
                counts["shortened"] += len(found["labels"]) < len(row.labels)  # type: ignore[union-attr]
            counts["rows"] += 1
            yield found

    with _appearing_whole(target) as file:
        (_write_parquet if target.suffix == ".parquet" else _write_jsonl)(values(), file)
        if not counts["rows"] and not counts["left_out"]:
            raise DataError(f"{target}: no row is left to write", hint="No file was written.")
        if not counts["rows"]:
            raise DataError(
                f"nothing to write in the layout '{layout}': {counted(counts['left_out'], 'row')} left out",
                hint="A solution needs a label for its first step.",
            )
    return Written(**counts)


def write_lines(rows: Iterable[BaseModel], path: str | Path) -> None:
    """Write records as JSON lines, one after the other; the file appears when all are written.

    Raises:
        DataError: the file cannot be written.
    """
    with _appearing_whole(Path(path)) as file:
        for row in rows:
            file.write(row.model_dump_json().encode() + b"\n")


@contextmanager
def _appearing_whole(target: Path) -> Iterator[IO[bytes]]:
    """A file to write that takes its name when the context ends, unless that ends with an error."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".tmp")
        temporary = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                yield file
            temporary.chmod(0o644)
            temporary.replace(target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise DataError(f"{target}: cannot be written: {error.strerror or error}") from error


def _record(row: Writable) -> dict[str, Any]:
    if isinstance(row, Problem):
        return {"id": row.id, "problem": row.text, "answer": row.answer}
    return row.model_dump(mode="json")


def _stepwise(row: Writable) -> dict[str, Any] | None:
    if not isinstance(row, LabelledSolution):
        raise ConfigError("the layout 'stepwise' is for labelled solutions", hint="Chats have 'messages'.")
    known = row.labels.index(None) if None in row.labels else len(row.labels)
    if not known:
        return None
    return {
        "prompt": row.problem,
        "completions": list(row.steps[:known]),
        "labels": list(row.labels[:known]),
    }


def _chat(column: str) -> Callable[[Writable], dict[str, Any]]:
    def values(row: Writable) -> dict[str, Any]:
        if not isinstance(row, TrainingSample):
            raise ConfigError(
                f"the layout '{column}' is for chats", hint="Labelled solutions have 'stepwise'."
            )
        return {column: [{"role": m.role, "content": m.content} for m in row.conversations]}

    return values


_LAYOUTS: dict[str, Callable[[Any], dict[str, Any] | None]] = {
    "genprm": _record,
    "stepwise": _stepwise,
    "conversations": _chat("conversations"),
    "messages": _chat("messages"),
}


def _write_jsonl(rows: Iterator[dict[str, Any]], file: Any) -> None:
    for row in rows:
        file.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")


def _write_parquet(rows: Iterator[dict[str, Any]], file: Any) -> None:
    """In batches of one schema: that of the first, whose columns are those of all rows."""
    import itertools

    import pyarrow as pa
    import pyarrow.parquet as pq

    batch = list(itertools.islice(rows, _BATCH))
    if not batch:
        return
    schema = _schema(batch)
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        while batch:
            writer.write_table(pa.Table.from_pylist(batch, schema=schema))
            batch = list(itertools.islice(rows, _BATCH))


def _schema(batch: list[dict[str, Any]]) -> Any:
    """The columns' types. A column of which the batch knows no value has the type of what later rows may have there."""
    import pyarrow as pa

    schema = pa.Table.from_pylist(batch).schema
    for place, field in enumerate(schema):
        if field.name == "labels":
            schema = schema.set(place, pa.field("labels", pa.list_(pa.bool_())))
        elif pa.types.is_null(field.type):
            schema = schema.set(place, pa.field(field.name, pa.string()))
    return schema
