"""Rows of one shard as bytes, in JSON lines or Parquet, and back."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from typing import Any, Literal, TypeVar, get_origin

from pydantic import BaseModel

from genprm.store.files import encode_jsonl

RecordT = TypeVar("RecordT", bound=BaseModel)
Format = Literal["jsonl", "parquet"]


def encode_rows(rows: Sequence[BaseModel], format: Format) -> bytes:
    """Rows as the bytes of one file. Free-form mappings become JSON text in Parquet."""
    if format == "jsonl":
        return encode_jsonl(rows)
    import pyarrow as pa
    import pyarrow.parquet as pq

    free_form = _free_form_fields(type(rows[0])) if rows else set()
    dumped = [_with_json_text(row.model_dump(mode="json"), free_form) for row in rows]
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(dumped), buffer, compression="zstd")
    return buffer.getvalue()


def decode_rows(data: bytes, row_type: type[RecordT], format: Format) -> list[RecordT]:
    """The inverse of `encode_rows`."""
    if format == "jsonl":
        return [row_type.model_validate_json(line) for line in data.splitlines() if line]
    import pyarrow.parquet as pq

    free_form = _free_form_fields(row_type)
    rows: list[dict[str, Any]] = pq.read_table(io.BytesIO(data)).to_pylist()
    for row in rows:
        for name in free_form & row.keys():
            row[name] = json.loads(row[name])
    return [row_type.model_validate_json(json.dumps(row)) for row in rows]


def _free_form_fields(row_type: type[BaseModel]) -> set[str]:
    return {name for name, field in row_type.model_fields.items() if get_origin(field.annotation) is dict}


def _with_json_text(row: dict[str, Any], free_form: set[str]) -> dict[str, Any]:
    return {name: json.dumps(value) if name in free_form else value for name, value in row.items()}
