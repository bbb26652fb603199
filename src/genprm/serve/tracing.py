"""OpenTelemetry spans, if `opentelemetry-api` is installed (extra `otel`); otherwise nothing happens here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any


@contextmanager
def span(
    name: str, parent: Mapping[str, str] | None = None, **attributes: str | int | float
) -> Iterator[Any]:
    """A span around a block; spans inside of it, and of tasks begun there, are its children.

    Args:
        parent: the headers of the request that the span answers; `traceparent` among them names its parent.
        attributes: `genprm.` is put before their names.

    Yields:
        the span; None without OpenTelemetry.
    """
    api = _api()
    if api is None:
        yield None
        return
    trace, propagate = api
    context = propagate.extract(parent) if parent is not None else None
    stated = {f"genprm.{key}": value for key, value in attributes.items()}
    tracer = trace.get_tracer("genprm")
    with tracer.start_as_current_span(name, context=context, attributes=stated) as begun:
        yield begun


@cache
def _api() -> tuple[Any, Any] | None:
    try:
        from opentelemetry import propagate, trace
    except ImportError:
        return None
    return trace, propagate
