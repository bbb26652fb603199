"""Every answer that is not 200: what is wrong, in a form that OpenAI's clients read too."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping

from starlette.responses import JSONResponse

from genprm.errors import DataError, GenPRMError, Overloaded
from genprm.serve.wire import Failure, Refusal

_LOG = logging.getLogger(__name__)
_KINDS = ((DataError, "data", 422), (Overloaded, "overloaded", 429))
_TYPES = {401: "authentication_error", 429: "rate_limit_error"}


def refusal(
    status: int,
    kind: str,
    message: str,
    hint: str = "",
    headers: Mapping[str, str] | None = None,
    param: str | None = None,
) -> JSONResponse:
    """An answer that says what is wrong."""
    body = Refusal(error=_failure(status, kind, message, hint, param))
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
        return Refusal(error=_failure(status, "internal", message, ""))
    named = (name for known, name, _ in _KINDS if isinstance(error, known))
    kind = next(named, type(error).__name__)
    return Refusal(error=_failure(status, kind, error.message, error.hint))


def answer_of(error: Exception) -> JSONResponse:
    """The answer that an error becomes; `Retry-After` if the same request may succeed later."""
    headers = {}
    if isinstance(error, GenPRMError) and error.retryable:
        headers["Retry-After"] = str(math.ceil(getattr(error, "retry_after", 1.0)))
    return JSONResponse(failure_of(error).model_dump(), status_of(error), headers)


def _failure(status: int, kind: str, message: str, hint: str, param: str | None = None) -> Failure:
    type_ = _TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    return Failure(message=message, hint=hint, kind=kind, type=type_, code=kind, param=param)
