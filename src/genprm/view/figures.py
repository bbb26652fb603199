"""Values of a report that may be unknown, and how they are written."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MISSING = "not in this report"
NOT_MEASURED = "nothing could be measured"


@dataclass(frozen=True, slots=True)
class Figure:
    """A value to show.

    Attributes:
        value: the number, or None where it is unknown.
        text: the number as it is written, or `unknown`.
        reason: why it is unknown; empty where it is known.
    """

    value: float | None
    text: str
    reason: str = ""

    @property
    def known(self) -> bool:
        """Whether there is a number."""
        return self.value is not None


def lookup(report: Mapping[str, Any], *path: str) -> tuple[Any, str]:
    """The value at a path of keys and, where it is None or absent, the reason.

    Reasons stand in the report itself, under `unknown`, by the dotted path.
    """
    value: Any = report
    for key in path:
        if not isinstance(value, Mapping) or key not in value:
            return None, _reason(report, path, MISSING)
        value = value[key]
    return value, _reason(report, path, NOT_MEASURED) if value is None else ""


def _reason(report: Mapping[str, Any], path: tuple[str, ...], otherwise: str) -> str:
    reasons = report.get("unknown")
    return str(reasons.get(".".join(path), otherwise)) if isinstance(reasons, Mapping) else otherwise


def figure(value: Any, reason: str = NOT_MEASURED, *, unit: str = "", digits: int = 1) -> Figure:
    """A figure from any JSON value; what is no finite number is unknown."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return Figure(None, "unknown", reason or NOT_MEASURED)
    text = f"{value:,}" if isinstance(value, int) else f"{value:,.{digits}f}"
    return Figure(float(value), text + unit)


def percent(report: Mapping[str, Any], *path: str) -> Figure:
    """The percentage at a path."""
    value, reason = lookup(report, *path)
    return figure(float(value) if isinstance(value, int) else value, reason, unit=" %")


def count(report: Mapping[str, Any], *path: str) -> Figure:
    """The whole number at a path."""
    value, reason = lookup(report, *path)
    return figure(value, reason, digits=0)


def listed(report: Mapping[str, Any], *path: str) -> list[Figure]:
    """The list of percentages at a path; one unknown figure where there is no list."""
    values, reason = lookup(report, *path)
    if not isinstance(values, list | tuple):
        return [figure(None, reason)]
    return [figure(float(v) if isinstance(v, int) else v, unit=" %") for v in values]
