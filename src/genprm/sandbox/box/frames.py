"""Frames between host and supervisor, and the one message that untrusted code can forge.

A frame is two big-endian 32-bit lengths, a JSON object and a binary body. Both lengths are capped
before anything is allocated.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from typing import Any

_LENGTHS = struct.Struct(">II")
MAX_HEADER = 64 * 1024
MAX_BODY = 64 * 1024 * 1024
MAX_CODE = 120_000
MAX_OUTCOME = 16 * 1024
MAX_MESSAGE = 4000
MAX_TYPE = 200


class FrameError(Exception):
    """Bytes that are not a frame or not an outcome."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One message: an object of plain JSON values and a body."""

    header: dict[str, Any]
    body: bytes = b""


def encode(header: dict[str, Any], body: bytes = b"") -> bytes:
    """A frame's bytes; raises `FrameError` for one that the other side would refuse."""
    head = json.dumps(header).encode()
    if len(head) > MAX_HEADER or len(body) > MAX_BODY:
        raise FrameError("frame too large")
    return _LENGTHS.pack(len(head), len(body)) + head + body


class Decoder:
    """Cuts a stream of bytes into frames, however it arrives."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that `data` completes; raises `FrameError` at the first byte that fits no frame."""
        self._buffer += data
        frames = []
        while (frame := self._next()) is not None:
            frames.append(frame)
        return frames

    def _next(self) -> Frame | None:
        if len(self._buffer) < _LENGTHS.size:
            return None
        head_length, body_length = _LENGTHS.unpack_from(self._buffer)
        if head_length > MAX_HEADER or body_length > MAX_BODY:
            raise FrameError("a length is over its cap")
        end = _LENGTHS.size + head_length
        if len(self._buffer) < end + body_length:
            return None
        header = _json_object(bytes(self._buffer[_LENGTHS.size : end]))
        body = bytes(self._buffer[end : end + body_length])
        del self._buffer[: end + body_length]
        return Frame(header, body)


def _json_object(data: bytes) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise FrameError("not JSON") from error
    if not isinstance(value, dict):
        raise FrameError("not an object")
    return value


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a snapshot process says about the snippet it ran. Believed only as far as it harms no one else.

    Attributes:
        status: `ok`, `error` or `timeout`.
        error_type, error_message: of the exception, cut to `MAX_TYPE` and `MAX_MESSAGE` characters.
        peak_kb: peak resident memory in KiB; None where it was not told.
    """

    status: str
    error_type: str | None = None
    error_message: str | None = None
    peak_kb: int | None = None


def encode_outcome(outcome: Outcome) -> bytes:
    """The outcome as one datagram of at most `MAX_OUTCOME` bytes."""
    kind = None if outcome.error_type is None else outcome.error_type[:MAX_TYPE]
    message = None if outcome.error_message is None else outcome.error_message[:MAX_MESSAGE]
    fields = [outcome.status, kind, message, outcome.peak_kb]
    # Pure ASCII in the worst case six bytes a character, which would not fit: shorten until it does.
    while len(data := json.dumps(fields, ensure_ascii=False).encode("utf-8", "replace")) > MAX_OUTCOME:
        fields[2] = str(fields[2])[: len(str(fields[2])) // 2]
    return data


def decode_outcome(data: bytes) -> Outcome:
    """Read a datagram that untrusted code may have written; raises `FrameError`, nothing else."""
    if len(data) > MAX_OUTCOME:
        raise FrameError("outcome too long")
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise FrameError("not JSON") from error
    if not isinstance(fields, list) or len(fields) != 4:
        raise FrameError("not four fields")
    status, kind, message, peak = fields
    if status not in ("ok", "error", "timeout"):
        raise FrameError("unknown status")
    if not (_text(kind, MAX_TYPE) and _text(message, MAX_MESSAGE)):
        raise FrameError("not a text, or too long")
    if (status == "error") != (kind is not None):
        raise FrameError("an error has a type, nothing else has")
    if peak is not None and (type(peak) is not int or not 0 <= peak < 1 << 40):
        raise FrameError("memory peak out of range")
    return Outcome(status, _printable(kind), _printable(message), peak)


def _printable(value: str | None) -> str | None:
    return None if value is None else value.encode("utf-8", "replace").decode()


def _text(value: object, cap: int) -> bool:
    return value is None or (isinstance(value, str) and len(value) <= cap)
