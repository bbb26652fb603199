"""JSON as servers write it: mostly as the standard says, sometimes with NaN and half surrogate pairs."""

from __future__ import annotations

import json
from typing import Any

import msgspec

_NOTHING = msgspec.Raw(b"null")


class Unread:
    """The log-probabilities of an answer, read when they are asked for: most never are."""

    def __init__(self, raw: msgspec.Raw) -> None:
        self._raw = raw

    def read(self) -> Any:
        """The value, alternatives in it left for `read_late`; None if it is none: only where it ends was found before."""
        try:
            found = _decode_tokens(self._raw)
        except (msgspec.MsgspecError, UnicodeError):
            return read_late(self._raw)
        if found.content is not None:
            return [msgspec.structs.asdict(one) for one in found.content]
        return {
            "tokens": found.tokens,
            "token_logprobs": found.token_logprobs,
            "top_logprobs": found.top_logprobs,
        }


class _Token(msgspec.Struct):
    """One token of the format with objects."""

    token: Any = None
    logprob: Any = None
    top_logprobs: msgspec.Raw = _NOTHING


class _Tokens(msgspec.Struct):
    """The log-probabilities of either format."""

    tokens: Any = None
    token_logprobs: Any = None
    top_logprobs: list[msgspec.Raw] | None = None
    content: list[_Token] | None = None


class _Choice(msgspec.Struct):
    """What is read of a choice."""

    text: Any = None
    message: Any = None
    finish_reason: Any = None
    stop_reason: Any = None
    matched_stop: Any = None
    error: Any = None
    logprobs: msgspec.Raw = _NOTHING


class _Answer(msgspec.Struct):
    """What is read of an answer of OpenAI's endpoints."""

    choices: list[_Choice]
    usage: Any = None
    error: Any = None
    object: Any = None


_decode = msgspec.json.Decoder().decode
_decode_answer = msgspec.json.Decoder(_Answer).decode
_decode_tokens = msgspec.json.Decoder(_Tokens).decode
_encode = msgspec.json.Encoder().encode


def loads(data: bytes | msgspec.Raw) -> Any:
    """The value of a text in JSON. Several times as fast as Python's own reader for what the standard allows.

    Raises:
        ValueError, RecursionError: no JSON, or nested too deeply.
    """
    try:
        return _decode(data)
    except (msgspec.MsgspecError, UnicodeError):
        return json.loads(bytes(data))


def read_late(value: Any) -> Any:
    """What `Unread.read` left unread, read; None if it cannot be. Any other value as it is."""
    if not isinstance(value, msgspec.Raw):
        return value
    try:
        return loads(value)
    except (ValueError, RecursionError):
        return None


def loads_answer(data: bytes) -> Any:
    """The same for an answer with choices, of which only what is needed is read; `logprobs` are `Unread` or None.

    Raises:
        ValueError, RecursionError: no JSON, or nested too deeply.
    """
    try:
        answer = _decode_answer(data)
    except (msgspec.MsgspecError, UnicodeError):
        return loads(data)
    choices = [_fields(choice) for choice in answer.choices]
    return {"choices": choices, "usage": answer.usage, "error": answer.error, "object": answer.object}


def _fields(choice: _Choice) -> dict[str, Any]:
    found = msgspec.structs.asdict(choice)
    raw = found["logprobs"]
    found["logprobs"] = None if _is_null(raw) else Unread(raw)
    return found


def _is_null(raw: msgspec.Raw) -> bool:
    """Whether a value is null; a long one is not copied to find out."""
    return memoryview(raw).nbytes == len(b"null") and bytes(raw) == b"null"


def dumps(value: Any) -> bytes:
    """A value in JSON."""
    try:
        return _encode(value)
    except UnicodeError:  # half a surrogate pair, which has no UTF-8
        return json.dumps(value).encode()
