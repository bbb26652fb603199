"""Files and standard input as lines of bytes, with gzip and Zstandard taken off.

The first bytes say whether something is compressed, not the name.
"""

from __future__ import annotations

import gzip
import io
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

from genprm.sources.row import cannot_be_read

STANDARD_INPUT = "standard input"
_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"


@contextmanager
def opened(file: Path | None) -> Iterator[IO[bytes]]:
    """What a file holds, or what standard input does if the file is None; read one after the other.

    Raises:
        DataError: it cannot be read, or its compressed data are damaged; while lines are read, too.
    """
    name = STANDARD_INPUT if file is None else file
    try:
        if file is None:
            yield _plain(_with_peek(sys.stdin.buffer))
        else:
            with file.open("rb") as raw:
                yield _plain(raw)
    except (OSError, EOFError, zlib.error) as error:
        raise cannot_be_read(name, error) from error


def _with_peek(raw: IO[bytes]) -> io.BufferedReader:
    return raw if isinstance(raw, io.BufferedReader) else io.BufferedReader(cast("io.RawIOBase", raw))


def _plain(raw: io.BufferedReader) -> IO[bytes]:
    start = raw.peek(4)
    if start.startswith(_GZIP):
        return cast("IO[bytes]", gzip.GzipFile(fileobj=raw))
    if start.startswith(_ZSTD):
        return io.BufferedReader(_Zstandard(raw))
    return raw


class _Zstandard(io.RawIOBase):
    """What a Zstandard stream holds. pyarrow, which is there for Parquet, has the decoder."""

    def __init__(self, raw: IO[bytes]) -> None:
        import pyarrow as pa

        super().__init__()
        self._stream: Any = pa.CompressedInputStream(pa.PythonFile(raw, mode="r"), "zstd")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        target = memoryview(buffer).cast("B")
        found: bytes = self._stream.read(len(target))
        target[: len(found)] = found
        return len(found)
