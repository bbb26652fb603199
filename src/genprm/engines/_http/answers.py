"""Answers of OpenAI-compatible servers and of llama.cpp's own endpoint, read into one form.

Servers differ in words and in care. What says how the text ended must be understood, or the answer is an error; a
log-probability that cannot be read is unknown (NaN), and spoils nothing but itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from genprm.engines._http.failures import AnswerWithheld
from genprm.engines._http.logprobs import RawTokens, whole
from genprm.errors import EngineProtocolError, EngineUnavailable

Finish = Literal["stop", "string", "eos", "length"]

_FINISH: dict[str, Finish] = {
    "stop": "stop",
    "stop_sequence": "string",
    "stop_string": "string",
    "word": "string",
    "eos": "eos",
    "eos_token": "eos",
    "end_turn": "eos",
    "end_of_turn": "eos",
    "complete": "eos",
    "length": "length",
    "limit": "length",
    "max_tokens": "length",
    "max_length": "length",
    "max_new_tokens": "length",
    "model_length": "length",
}
_WITHHELD = frozenset({"content_filter", "safety", "refusal", "blocked", "recitation"})
_BROKEN = frozenset({"error", "abort", "aborted", "cancelled", "timeout"})
_TOOLS = frozenset({"tool_calls", "tool_use", "function_call"})
_REASONING = ("reasoning_content", "reasoning")
# No answer has more tokens than this; a larger number is no count.
_MOST_TOKENS = 1 << 32


class Counts(NamedTuple):
    """Tokens, as the server counts them: of the prompt, of those the ones in its cache, and of the completion.

    None where it does not count: no prompt has 0 tokens, and no text.
    """

    prompt: int | None
    cached: int
    completion: int | None

    @property
    def complete(self) -> bool:
        """Whether the server counted all that it was asked and all that it wrote."""
        return self.prompt is not None and self.completion is not None


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server said.

    Attributes:
        finish: `string` for a stop string, `eos` for the end of the turn, `stop` for one of these (servers differ
            in whether they say which), or `length`; None if the server does not say, and nothing else tells.
        matched: the stop string, if the server names it.
        names_stops: whether a missing `matched` means that no stop string matched.
        logprobs: of each token; None without any.
        told: tokens of the text as far as they are known: there are at least so many.
        length: tokens of the text, estimated where they are not known.
    """

    text: str
    finish: Finish | None
    matched: str | None
    names_stops: bool
    logprobs: RawTokens | None
    counts: Counts
    told: int = 0
    length: int = 0


def read_llama(data: dict[str, Any], *, alternatives: int) -> Answer:
    """An answer of llama.cpp's `/completion`, with so many alternatives per token at most."""
    text, kind = data.get("content"), data.get("stop_type")
    if not isinstance(text, str) or kind not in ("eos", "word", "limit"):
        raise EngineProtocolError(
            f"llama.cpp answered without a content or a known stop_type ({_shown(kind)})", retryable=True
        )
    counts = _counts(
        text,
        prompt=data.get("tokens_evaluated"),
        cached=_table(data.get("timings")).get("cache_n"),
        completion=data.get("tokens_predicted"),
    )
    finish = _FINISH[kind]
    matched = data.get("stopping_word")
    named = isinstance(matched, str) and bool(matched) and finish == "string"
    return Answer(
        whole(text),
        finish,
        matched if named else None,
        True,
        _tokens(data.get("completion_probabilities"), alternatives),
        counts,
    )


def read_openai(
    shown: str, data: dict[str, Any], *, names_stops: bool, most: int, continued: bool, alternatives: int
) -> Answer:
    """An answer of `/v1/completions` or `/v1/chat/completions`.

    Args:
        shown: the server's URL, for messages.
        names_stops: whether this server names the stop string that matched.
        most: tokens that were asked for; says what a missing finish reason means.
        continued: whether the text has to continue a prefix exactly.
        alternatives: per token at most; 0 if none were asked for.
    """
    choices = data.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise EngineProtocolError(f"{shown} answered without choices", retryable=True)
    choice = choices[0]
    word = _word(shown, choice)
    text = whole(_text(shown, choice, continued))
    usage = _table(data.get("usage"))
    counts = _counts(
        text,
        prompt=usage.get("prompt_tokens"),
        cached=_table(usage.get("prompt_tokens_details")).get("cached_tokens"),
        completion=usage.get("completion_tokens"),
    )
    logprobs = _tokens(choice.get("logprobs"), alternatives)
    finish = _FINISH[word] if word is not None else _unstated(counts, logprobs, most)
    matched = choice.get("stop_reason")
    matched = choice.get("matched_stop") if matched is None else matched
    return Answer(
        text,
        finish,
        matched if isinstance(matched, str) and finish != "length" else None,
        # A number is the id of the end token that ended the turn.
        names_stops or isinstance(matched, int),
        logprobs,
        counts,
    )


def _tokens(table: Any, most: int) -> RawTokens | None:
    return RawTokens(table, most) if table and most else None


def _unstated(counts: Counts, logprobs: RawTokens | None, most: int) -> Finish | None:
    """How an answer ended whose server does not say so: the number of its tokens tells whether it was cut."""
    made = counts.completion
    if made is None and logprobs is not None:
        made = logprobs.count or None
    if made is None:
        return None
    return "length" if made >= most else "stop"


def end_unstated(shown: str) -> EngineProtocolError:
    """The error for an answer of which nobody can say whether it was cut."""
    return EngineProtocolError(
        f"{shown} states neither why its answer ended (finish_reason) nor how many tokens it has (usage)",
        hint="a text that was cut could not be told from a whole one: use a server that states either",
    )


def _word(shown: str, choice: dict[str, Any]) -> str | None:
    """A finish reason that is known, None where there is none."""
    reason = choice.get("finish_reason")
    if reason is None:
        return None
    word = reason.lower() if isinstance(reason, str) else ""
    if word in _BROKEN:
        raise EngineUnavailable(f"{shown} broke the request off ({word})", hint="see the server's log")
    if word in _WITHHELD:
        raise AnswerWithheld(f"{shown} withheld the answer ({word})", hint="switch its filter off")
    if word in _TOOLS:
        raise EngineProtocolError(
            f"{shown} took the text for a call of a tool",
            hint="start the server without a parser of tool calls",
        )
    if word not in _FINISH:
        raise EngineProtocolError(f"{shown} answered with an unknown finish_reason {_shown(reason)}")
    return word


def _text(shown: str, choice: dict[str, Any], continued: bool) -> str:
    message = choice.get("message")
    text = message.get("content") if isinstance(message, dict) else choice.get("text")
    if isinstance(text, list):  # in parts
        text = "".join(str(part.get("text", "")) for part in text if isinstance(part, dict))
    split = ""
    if isinstance(message, dict):
        split = next((key for key in _REASONING if isinstance(message.get(key), str) and message[key]), "")
        text = "" if text is None else text
    if split and (continued or not text):
        raise EngineProtocolError(
            f"{shown} split the model's text off into '{split}'",
            hint="start the server without a reasoning parser (vLLM, SGLang: no --reasoning-parser; llama.cpp: "
            "--reasoning-format none)",
        )
    if not isinstance(text, str):
        raise EngineProtocolError(f"{shown} answered with a choice without text", retryable=True)
    return text


def _counts(text: str, *, prompt: Any, cached: Any, completion: Any) -> Counts:
    made = _count(completion)
    return Counts(_count(prompt) or None, _count(cached) or 0, None if text and not made else made)


def _table(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _count(value: Any) -> int | None:
    return value if type(value) is int and 0 <= value < _MOST_TOKENS else None


def _shown(value: Any) -> str:
    return repr(value)[:50] if isinstance(value, str | int | None) else type(value).__name__
