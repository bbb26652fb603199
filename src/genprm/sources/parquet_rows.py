"""Rows of a Parquet file, read in batches."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from genprm.errors import DataError
from genprm.sources.row import Row

_BATCH = 1024


def parquet_rows(file: Path) -> Iterator[Row]:
    """The rows of a Parquet file; a batch of them is in memory at once."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        with pq.ParquetFile(file) as parquet:
            for batch in parquet.iter_batches(batch_size=_BATCH):
                for values in _in_short(batch).to_pylist():
                    number += 1
                    yield Row(f"{file} row {number}", values)
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        after = f" after row {number}" if number else ""
        raise DataError(f"{file}: not a readable Parquet file{after}: {reason}") from error


def _in_short(batch: Any) -> Any:
    """The batch with 32-bit numbers by their own digits: 0.1, which in 64 bits is 0.10000000149011612.

    Times become text: not each of them is one in Python, and nobody reads them.
    """
    import pyarrow as pa

    for index, field in enumerate(batch.schema):
        if field.type == pa.float32():
            digits = batch.column(index).cast(pa.string()).cast(pa.float64())
            batch = batch.set_column(index, field.name, digits)
        elif pa.types.is_temporal(field.type):
            batch = batch.set_column(index, field.name, batch.column(index).cast(pa.string()))
    return batch
