"""Answers of OpenAI-compatible servers and of llama.cpp's own endpoint, read into one form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from genprm.engines._common.tokens import RawToken, best_first
from genprm.errors import EngineProtocolError, EngineRequestError, EngineUnavailable
from genprm.records import Usage


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server said.

    Attributes:
        finish: `stop` (a stop string or the end of the turn: servers differ), `eos`, or `length`.
        matched: the stop string, if the server names it.
        names_stops: whether a missing `matched` means that no stop string matched.
        tokens: (text, log-probability, alternatives) of each token.
    """

    text: str
    finish: str
    matched: str | None
    names_stops: bool
    tokens: tuple[RawToken, ...]
    usage: Usage


def read_llama(data: dict[str, Any]) -> Answer:
    """An answer of llama.cpp's `/completion`."""
    text, kind = data.get("content"), data.get("stop_type")
    if not isinstance(text, str) or kind not in {"eos", "word", "limit"}:
        raise EngineProtocolError(
            f"llama.cpp answered without a content or a known stop_type ({kind!r})", retryable=True
        )
    timings = _table(data.get("timings"))
    usage = Usage(
        requests=1,
        prompt_tokens=_count(data.get("tokens_evaluated")),
        cached_tokens=_count(timings.get("cache_n")),
        completion_tokens=_count(data.get("tokens_predicted")),
    )
    finish = {"eos": "eos", "word": "stop", "limit": "length"}[kind]
    matched = data.get("stopping_word") or None
    tokens = _content_tokens(data.get("completion_probabilities"))
    return Answer(_whole(text), finish, matched if finish == "stop" else None, True, tokens, usage)


def read_openai(data: dict[str, Any], names_stops: bool) -> Answer:
    """An answer of `/v1/completions` or `/v1/chat/completions`."""
    choices = data.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise EngineProtocolError("the answer has no choices", retryable=True)
    choice = choices[0]
    message = choice.get("message")
    text = message.get("content") if isinstance(message, dict) else choice.get("text")
    if text is None and isinstance(message, dict):
        text = ""
    if not isinstance(text, str):
        raise EngineProtocolError("the answer's first choice has no text")
    finish = choice.get("finish_reason")
    if finish == "abort":
        raise EngineUnavailable("the server aborted the request")
    if finish == "content_filter":
        raise EngineRequestError("the server's content filter withheld the answer")
    if finish not in {"stop", "length"}:
        raise EngineProtocolError(f"unknown finish_reason {finish!r}")
    matched = choice.get("stop_reason", choice.get("matched_stop"))
    usage = _table(data.get("usage"))
    return Answer(
        _whole(text),
        finish,
        matched if isinstance(matched, str) else None,
        # A number is the id of the end token that ended the turn.
        names_stops or isinstance(matched, int),
        _openai_tokens(choice.get("logprobs")),
        Usage(
            requests=1,
            prompt_tokens=_count(usage.get("prompt_tokens")),
            cached_tokens=_count(_table(usage.get("prompt_tokens_details")).get("cached_tokens")),
            completion_tokens=_count(usage.get("completion_tokens")),
        ),
    )


def _openai_tokens(logprobs: Any) -> tuple[RawToken, ...]:
    """Both formats: `content` with one object per token, or the legacy parallel lists."""
    table = _table(logprobs)
    if table.get("content") is not None:
        return _content_tokens(table["content"])
    names, values = table.get("tokens"), table.get("token_logprobs")
    if not isinstance(names, list) or not isinstance(values, list) or len(names) != len(values):
        return ()
    tops = table.get("top_logprobs")
    if not isinstance(tops, list) or len(tops) != len(names):
        tops = [None] * len(names)
    return tuple(
        (
            _whole(str(name)),
            _number(value),
            best_first((str(k), _number(v)) for k, v in _table(top).items()),
        )
        for name, value, top in zip(names, values, tops, strict=True)
    )


def _content_tokens(entries: Any) -> tuple[RawToken, ...]:
    if not isinstance(entries, list):
        return ()
    found = []
    for entry in entries:
        if not isinstance(entry, dict) or not isinstance(entry.get("token"), str):
            raise EngineProtocolError("a log-probability entry has no token")
        top = entry.get("top_logprobs") or []
        pairs = [(str(_table(one).get("token", "")), _number(_table(one).get("logprob"))) for one in top]
        found.append((_whole(entry["token"]), _number(entry.get("logprob")), best_first(pairs)))
    return tuple(found)


def _whole(text: str) -> str:
    """The text with U+FFFD for half a surrogate pair, which JSON can escape and no file can hold."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _table(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _count(value: Any) -> int:
    return value if isinstance(value, int) and value >= 0 else 0


def _number(value: Any) -> float:
    if isinstance(value, (int, float)):
        return float(value)
    raise EngineProtocolError(f"a log-probability is {value!r}, not a number")
