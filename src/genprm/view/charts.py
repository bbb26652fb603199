"""Charts as inline SVG. Colours come from the page's style, so that they follow its theme.

Series differ by dash and marker as well as by colour, and every chart stands beside a table.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from genprm.view.figures import Figure

WIDTH = 680
_DASHES = {1: "", 2: "7 4", 3: "11 4 2 4", 4: "2 5", 5: "1 4", 6: "4 4"}


@dataclass(frozen=True, slots=True)
class Series:
    """A named row of figures. `colour` is a number of the palette, from 1."""

    name: str
    values: Sequence[Figure]
    colour: int


def bars(title: str, groups: Sequence[str], series: Sequence[Series]) -> Markup:
    """Horizontal bars of percentages, one group below the other."""
    left, right, bar, gap = 150, 74, 20, 16
    inner = WIDTH - left - right
    group = bar * len(series) + gap
    head = 26 if len(series) > 1 else 0
    height = head + group * len(groups) + 30
    parts = [_grid_vertical(left, inner, head, height - 24)]
    if head:
        parts.append(_legend(left, series))
    for row, name in enumerate(groups):
        top = head + row * group + gap / 2
        middle = top + bar * len(series) / 2
        parts.append(_text(left - 12, middle + 4, name, "end", "label"))
        for index, one in enumerate(series):
            value = one.values[row]
            y = top + index * bar
            width = inner * min(100.0, max(0.0, value.value or 0.0)) / 100
            label = f"{value.text}" if value.known else "unknown"
            parts.append(_bar(left, y + 2, width, bar - 4, one.colour, f"{name}, {one.name}: {label}"))
            kind = "value" if value.known else "value unknown"
            parts.append(_text(left + width + 7, y + bar / 2 + 4, label, "start", kind))
    return _svg(title, height, parts)


def stacked(title: str, pieces: Sequence[tuple[str, float, int]]) -> Markup:
    """One bar cut into shares: (name, amount, colour)."""
    total = sum(amount for _, amount, _ in pieces)
    parts: list[Markup] = []
    x = 0.0
    for name, amount, colour in pieces:
        width = WIDTH * amount / total if total else 0.0
        tip = f"{name}: {amount:,.0f}"
        parts.append(_bar(x, 4, width, 34, colour, tip))
        if width > 130:
            parts.append(_text(x + width / 2, 26, f"{name} {amount / total:.0%}", "middle", "inbar"))
        x += width
    return _svg(title, 42, parts)


def lines(title: str, ticks: Sequence[str], series: Sequence[Series], axis: str) -> Markup:
    """Lines of percentages over evenly spaced ticks, each labelled at its end."""
    left, right, top, bottom, height = 52, 140, 14, 48, 330
    inner_w, inner_h = WIDTH - left - right, height - top - bottom
    known = [f.value for one in series for f in one.values if f.value is not None]
    low, high = _range(known)
    step = inner_w / max(1, len(ticks) - 1)

    def place(index: int, value: float) -> tuple[float, float]:
        return left + index * step, top + inner_h * (1 - (value - low) / (high - low))

    parts = [_grid_horizontal(left, inner_w, place, low, high)]
    for index, tick in enumerate(ticks):
        parts.append(_text(left + index * step, height - bottom + 22, tick, "middle", "tick"))
    parts.append(_text(left + inner_w / 2, height - 6, axis, "middle", "axis"))
    ends: list[tuple[float, Series]] = []
    for one in series:
        points = [(*place(i, f.value), f) for i, f in enumerate(one.values) if f.value is not None]
        parts.append(_line(one, points, ticks))
        if points:
            ends.append((points[-1][1], one))
    for y, one in _spread(ends):
        parts.append(_text(left + inner_w + 14, y + 4, one.name, "start", f"end c{one.colour}"))
    return _svg(title, height, parts)


def _range(values: Sequence[float]) -> tuple[float, float]:
    """A range of whole tens that holds all values, at least twenty points wide."""
    if not values:
        return 0.0, 100.0
    low, high = math.floor(min(values) / 10) * 10, math.ceil(max(values) / 10) * 10
    while high - low < 20:
        low, high = max(0, low - 10), min(100, high + 10)
    return float(low), float(high)


def _spread(ends: Sequence[tuple[float, Series]], gap: float = 17.0) -> list[tuple[float, Series]]:
    """Move labels apart so that none covers another, keeping their order and their middle."""
    ordered = sorted(ends, key=lambda end: end[0])
    placed: list[float] = []
    for y, _ in ordered:
        placed.append(y if not placed else max(y, placed[-1] + gap))
    shift = sum(p - y for p, (y, _) in zip(placed, ordered, strict=True)) / max(1, len(ordered))
    return [(p - shift, one) for p, (_, one) in zip(placed, ordered, strict=True)]


def _line(one: Series, points: Sequence[tuple[float, float, Figure]], ticks: Sequence[str]) -> Markup:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in points)
    dash = _DASHES.get(one.colour, "")
    parts = [
        Markup('<polyline class="line s{}" points="{}" stroke-dasharray="{}"/>').format(
            one.colour, path, dash
        )
    ]
    for (x, y, value), tick in zip(points, _known_ticks(one, ticks), strict=True):
        tip = f"{one.name} at {tick}: {value.text}"
        parts.append(
            Markup(
                '<circle class="dot f{}" cx="{:.1f}" cy="{:.1f}" r="4"><title>{}</title></circle>'
            ).format(one.colour, x, y, tip)
        )
    return Markup("").join(parts)


def _known_ticks(one: Series, ticks: Sequence[str]) -> list[str]:
    return [tick for tick, value in zip(ticks, one.values, strict=False) if value.known]


def _legend(left: float, series: Sequence[Series]) -> Markup:
    parts = []
    x = left
    for one in series:
        parts.append(_bar(x, 4, 12, 12, one.colour, one.name))
        parts.append(_text(x + 18, 15, one.name, "start", "label"))
        x += 18 + 8.5 * len(one.name) + 16
    return Markup("").join(parts)


def _grid_vertical(left: float, inner: float, top: float, height: float) -> Markup:
    parts = []
    for share in (0, 25, 50, 75, 100):
        x = left + inner * share / 100
        parts.append(
            Markup('<line class="grid" x1="{0:.1f}" x2="{0:.1f}" y1="{1}" y2="{2}"/>').format(
                x, top, height
            )
        )
        parts.append(_text(x, height + 18, f"{share}", "middle", "tick"))
    return Markup("").join(parts)


def _grid_horizontal(left: float, inner: float, place: object, low: float, high: float) -> Markup:
    assert callable(place)
    parts = []
    size = 10 if high - low <= 60 else 20
    value = low
    while value <= high:
        y = place(0, value)[1]
        parts.append(
            Markup('<line class="grid" x1="{}" x2="{}" y1="{y:.1f}" y2="{y:.1f}"/>').format(
                left, left + inner, y=y
            )
        )
        parts.append(_text(left - 10, y + 4, f"{value:.0f} %", "end", "tick"))
        value += size
    return Markup("").join(parts)


def _bar(x: float, y: float, width: float, height: float, colour: int, tip: str) -> Markup:
    return Markup(
        '<rect class="f{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{}" rx="2"><title>{}</title></rect>'
    ).format(colour, x, y, max(width, 0.0), height, tip)


def _text(x: float, y: float, text: str, anchor: str, kind: str) -> Markup:
    return Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="{}" class="{}">{}</text>').format(
        x, y, anchor, kind, text
    )


def _svg(title: str, height: float, parts: Sequence[Markup]) -> Markup:
    return (
        Markup('<svg class="chart" viewBox="0 0 {} {:.0f}" role="img" aria-label="{}">').format(
            WIDTH, height, escape(title)
        )
        + Markup("").join(parts)
        + Markup("</svg>")
    )
