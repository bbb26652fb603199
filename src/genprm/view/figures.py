"""Values of a report that may be unknown, and how they are written."""

from __future__ import annotations

import math
from dataclasses import dataclass

from genprm.records import Share

NOT_MEASURED = "nothing could be measured"


@dataclass(frozen=True, slots=True)
class Figure:
    """A value to show.

    Attributes:
        value: the number, or None when it is unknown.
        text: the number as it is written, or `unknown`.
        low, high: its 95 % interval; None when it has none.
        reason: why the value or its interval is unknown; empty when nothing is missing.
    """

    value: float | None
    text: str
    low: float | None = None
    high: float | None = None
    reason: str = ""

    @property
    def known(self) -> bool:
        """Whether there is a number."""
        return self.value is not None

    @property
    def interval(self) -> str:
        """The interval as it is written; empty without one."""
        return "" if self.low is None or self.high is None else f"[{self.low:.1f}, {self.high:.1f}]"

    @property
    def full(self) -> str:
        """Value and interval, or `unknown` with the reason, in one line."""
        if not self.known:
            return f"unknown ({self.reason})"
        return f"{self.text} {self.interval}".rstrip()


def figure(value: float | None, reason: str = NOT_MEASURED, *, unit: str = "", digits: int = 1) -> Figure:
    """A figure without an interval; a number that is not finite is unknown."""
    if value is None or not math.isfinite(value):
        return Figure(None, "unknown", reason=reason or NOT_MEASURED)
    text = f"{value:,}" if isinstance(value, int) else f"{value:,.{digits}f}"
    return Figure(float(value), text + unit)


def percent(share: Share) -> Figure:
    """A share with its interval."""
    if share.value is None:
        return Figure(None, "unknown", reason=share.reason or NOT_MEASURED)
    return Figure(share.value, f"{share.value:.1f} %", share.low, share.high, share.reason or "")
