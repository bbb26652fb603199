"""What a server's refusal means: an HTTP status, or an error object in an answer, as a typed error."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

from genprm.errors import ContextOverflow, EngineError, EngineRequestError, EngineTimeout, EngineUnavailable

EXCERPT = 300
OVERFLOW_HINT = (
    "shorten the prompt, lower max_tokens of the section that asked (such as verify.max_tokens), "
    "or serve the model with a longer context"
)
_OVERFLOW = re.compile(
    r"exceed_context_size|context_length_exceeded|maximum (model|context) length|context (size|window|length)"
    r"|too many tokens|longer than the (max|model|context)|max_model_len|tokens.{0,40}must be <=",
    re.IGNORECASE,
)
# An error object without a code: what its type or its message says.
_PASSING = re.compile(
    r"overload|rate.?limit|unavailable|time.?out|timed out|internal|server.?error|try again|upstream|loading",
    re.IGNORECASE,
)
_BUSY = frozenset({425, 429, 502, 503, 504, 529})
_PROXYS = frozenset({502, 504})


class EngineOverloaded(EngineUnavailable):
    """The server asked to come back later; `retry_after` is its wish in seconds, None without one.

    `behind` says that a proxy said so, which does not know how far the server behind it came.
    """

    def __init__(
        self, message: str, *, hint: str = "", retry_after: float | None = None, behind: bool = False
    ) -> None:
        super().__init__(message, hint=hint)
        self.retry_after = retry_after
        self.behind = behind


class AccessRefused(EngineRequestError):
    """The server wants a key, or another one."""


class AnswerWithheld(EngineRequestError):
    """The server wrote an answer, and a filter keeps it back."""


def status_error(
    shown: str, status: int, text: str, headers: Mapping[str, str] | None = None
) -> EngineError:
    """The typed error for an HTTP status of 300 or more.

    Args:
        shown: the server's URL.
        text: the body, without secrets.
        headers: of the answer.
    """
    headers = headers or {}
    excerpt = message(text)
    if status < 400:
        return EngineRequestError(
            f"{shown} redirects to {headers.get('Location', 'another address')} (HTTP {status})",
            hint="give the address itself as base_urls",
        )
    if status in _BUSY:
        return EngineOverloaded(
            f"{shown} is overloaded or not ready (HTTP {status}): {excerpt}",
            hint="lower max_concurrency, or wait until the server has loaded its model",
            retry_after=_retry_after(headers.get("Retry-After")),
            behind=status in _PROXYS,
        )
    if status in {401, 403}:
        return AccessRefused(
            f"{shown} refused access (HTTP {status})",
            hint="set the API key's environment variable (OPENAI_API_KEY, or what api_key_env names)",
        )
    if status == 408:
        return EngineTimeout(f"{shown} gave up waiting (HTTP 408): {excerpt}")
    if status >= 500 and status != 501 and not _OVERFLOW.search(text):
        return EngineUnavailable(f"{shown} failed (HTTP {status}): {excerpt}", hint="see the server's log")
    hint = "check the base URL and the model's name" if status == 404 else ""
    return _rejection(f"{shown} rejected the request (HTTP {status})", text, hint)


def _rejection(what: str, text: str, hint: str = "") -> EngineRequestError:
    """A lasting error; `what` stands before what the server says."""
    kind, advice = (
        (ContextOverflow, OVERFLOW_HINT) if _OVERFLOW.search(text) else (EngineRequestError, hint)
    )
    return kind(f"{what}: {message(text)}", hint=advice)


def stated(answer: Any) -> Any:
    """The error that an answer states, at its top, as the answer itself, or in its first choice; None without one."""
    if not isinstance(answer, dict):
        return None
    if answer.get("object") == "error":
        return answer
    choices = answer.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    return answer.get("error") or (first.get("error") if isinstance(first, dict) else None) or None


def stated_error(shown: str, error: Any, text: str) -> EngineError:
    """The typed error for an error that an answer with HTTP 200 states: by its code if it has one.

    Args:
        error: what is stated.
        text: the body, without secrets.
    """
    code = error.get("code") if isinstance(error, dict) else None
    if isinstance(code, str) and code.isascii() and code.isdigit():
        code = int(code[:9])
    if isinstance(code, int) and 400 <= code < 600:
        return status_error(shown, code, text)
    if _PASSING.search(text) and not _OVERFLOW.search(text):
        return EngineUnavailable(f"{shown} failed: {message(text)}", hint="see the server's log")
    return _rejection(f"{shown} rejected the request", text)


def message(text: str) -> str:
    """What a server's error body says: its error's `message` and `type`, or its beginning."""
    said: Any = text
    try:
        error = stated(json.loads(text)) or text
        said = error
        if isinstance(error, dict) and isinstance(error.get("message"), str):
            said = f"{error['message']} ({error['type']})" if error.get("type") else error["message"]
    except (ValueError, RecursionError):
        pass
    if not isinstance(said, str):
        said = text
    # Half a surrogate pair, which JSON can escape, could neither be printed nor written to a file.
    return " ".join(said[: 10 * EXCERPT].encode("utf-8", "replace").decode().split())[:EXCERPT]


def _retry_after(value: str | None) -> float | None:
    """`Retry-After` in seconds, given as a number or as a date."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - time.time()
        except (ValueError, OverflowError):
            return None
    return None if math.isnan(seconds) else max(0.0, seconds)
