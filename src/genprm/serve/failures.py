"""Every answer that is not 200: what is wrong, in a form that OpenAI's clients read too."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Any

from starlette.responses import JSONResponse

from genprm.errors import DataError, GenPRMError, Overloaded
from genprm.serve.wire import Refusal, failure

_LOG = logging.getLogger(__name__)
_KINDS = ((DataError, "data", 422), (Overloaded, "overloaded", 429))
REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": Refusal, "description": description}
    for status, description in {
        400: "the request cannot be read",
        401: "no valid API key",
        408: "the body did not arrive in time",
        413: "the body is too large",
        422: "the request cannot be used, or there is no answer to it",
        429: "too much to do, or more than the key may use; see Retry-After",
        500: "a bug; the server's log has it",
        503: "a fault that may pass; see Retry-After",
    }.items()
}
"""What may come in place of any answer, for the OpenAPI document."""


def refusal(
    status: int,
    kind: str,
    message: str,
    hint: str = "",
    headers: Mapping[str, str] | None = None,
    param: str | None = None,
) -> JSONResponse:
    """An answer that says what is wrong."""
    body = Refusal(error=failure(status, kind, message, hint, param))
    return JSONResponse(body.model_dump(), status, headers)


def status_of(error: Exception) -> int:
    """The HTTP status of an error."""
    for known, _, status in _KINDS:
        if isinstance(error, known):
            return status
    return 503 if isinstance(error, GenPRMError) and error.retryable else 500


def failure_of(error: Exception) -> Refusal:
    """An error in words; a bug's own words go to the log, and only there."""
    status = status_of(error)
    if not isinstance(error, GenPRMError):
        _LOG.error("an unexpected error", exc_info=error)
        message = "an unexpected error; the server's log has it"
        return Refusal(error=failure(status, "internal", message, ""))
    named = (name for known, name, _ in _KINDS if isinstance(error, known))
    kind = next(named, type(error).__name__)
    return Refusal(error=failure(status, kind, error.message, error.hint))


def answer_of(error: Exception) -> JSONResponse:
    """The answer that an error becomes; `Retry-After` if the same request may succeed later."""
    headers = {}
    if isinstance(error, GenPRMError) and error.retryable:
        headers["Retry-After"] = str(math.ceil(getattr(error, "retry_after", 1.0)))
    return JSONResponse(failure_of(error).model_dump(), status_of(error), headers)
