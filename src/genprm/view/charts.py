"""Charts as inline SVG. Colours come from the page's style, so that they follow its theme.

Whiskers are 95 % intervals. Series differ by dash as well as by colour, and every chart stands beside a table.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.resources import files

from markupsafe import Markup, escape

from genprm.view.figures import Figure

WIDTH = 680
_DASHES = {1: "", 2: "7 4", 3: "11 4 2 4", 4: "2 5", 5: "1 4", 6: "4 4", 7: "14 3"}
_DODGE = 6.0  # between the marks of two series at one tick, so that their whiskers can be told apart


@dataclass(frozen=True, slots=True)
class Series:
    """A named row of figures. `colour` is a number of the palette, from 1."""

    name: str
    values: Sequence[Figure]
    colour: int


def bars(title: str, groups: Sequence[str], series: Sequence[Series]) -> Markup:
    """Horizontal bars of percentages, one group below the other."""
    left = max(150, 24 + 7 * max((len(name) for name in groups), default=0))
    right, bar, gap = 74, 20, 16
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
            parts.append(_bar(left, y + 2, width, bar - 4, one.colour, f"{name}, {one.name}: {value.full}"))
            if value.low is not None and value.high is not None:
                ends = left + inner * value.low / 100, left + inner * value.high / 100
                parts.append(_whisker(ends, y + bar / 2, upright=False))
                width = max(width, ends[1] - left)
            kind = "value" if value.known else "value unknown"
            parts.append(_text(left + width + 7, y + bar / 2 + 4, value.text, "start", kind))
    return _svg(title, height, parts)


def stacked(title: str, pieces: Sequence[tuple[str, float, int]]) -> Markup:
    """One bar cut into shares: (name, amount, colour)."""
    total = sum(amount for _, amount, _ in pieces)
    parts: list[Markup] = []
    x = 0.0
    for name, amount, colour in pieces:
        width = WIDTH * amount / total if total else 0.0
        label = f"{name}: {amount:,.0f}"
        parts.append(_bar(x, 4, width, 34, colour, label))
        if width > 9 * len(label):
            parts.append(_text(x + width / 2, 26, label, "middle", "inbar"))
        x += width
    return _svg(title, 42, parts)


def lines(title: str, ticks: Sequence[str], series: Sequence[Series], axis: str) -> Markup:
    """Lines of percentages over evenly spaced ticks, each labelled at its end."""
    left, right, top, bottom, height = 52, 140, 14, 48, 330
    inner_w, inner_h = WIDTH - left - right, height - top - bottom
    shown = [end for one in series for f in one.values for end in (f.value, f.low, f.high)]
    low, high = _range([end for end in shown if end is not None])
    inset = _DODGE * (len(series) + 1) / 2
    step = (inner_w - 2 * inset) / max(1, len(ticks) - 1)

    def level(value: float) -> float:
        return top + inner_h * (1 - (value - low) / (high - low))

    parts = [_grid_horizontal(left, inner_w, level, low, high)]
    for index, tick in enumerate(ticks):
        parts.append(_text(left + inset + index * step, height - bottom + 22, tick, "middle", "tick"))
    parts.append(_text(left + inner_w / 2, height - 6, axis, "middle", "axis"))
    ends: list[tuple[float, Series]] = []
    for number, one in enumerate(series):
        start = left + inset + _DODGE * (number - (len(series) - 1) / 2)
        points = [
            _Point(start + index * step, level(f.value), f, tick)
            for index, (f, tick) in enumerate(zip(one.values, ticks, strict=False))
            if f.value is not None
        ]
        parts += [
            _whisker((level(p.figure.high), level(p.figure.low)), p.x, upright=True, colour=one.colour)
            for p in points
            if p.figure.low is not None and p.figure.high is not None
        ]
        parts.append(_line(one, points))
        if points:
            ends.append((points[-1].y, one))
    for y, one in _spread(ends):
        parts.append(_text(left + inner_w + 14, y + 4, one.name, "start", f"end c{one.colour}"))
    return _svg(title, height, parts)


def standalone(chart: Markup) -> str:
    """A chart as a file of its own, with the style of the pages."""
    css = (files("genprm.view") / "style.css").read_text(encoding="utf-8")
    head = Markup('<svg xmlns="http://www.w3.org/2000/svg" width="{}"').format(WIDTH)
    whole = str(chart).replace("<svg", head, 1).replace(">", Markup("><style>{}</style>").format(css), 1)
    return f"{whole}\n"


def _range(values: Sequence[float]) -> tuple[int, int]:
    """A range of whole grid lines that holds all values, at least twenty points wide."""
    if not values:
        return 0, 100
    for size in (10, 20):
        low, high = math.floor(min(values) / size) * size, math.ceil(max(values) / size) * size
        if high - low <= 60:
            break
    if high - low < 20:
        low, high = max(0, low - 10), min(100, high + 10)
    return low, high


def _spread(ends: Sequence[tuple[float, Series]], gap: float = 17.0) -> list[tuple[float, Series]]:
    """Move labels apart so that none covers another, keeping their order and their middle."""
    ordered = sorted(ends, key=lambda end: end[0])
    placed: list[float] = []
    for y, _ in ordered:
        placed.append(y if not placed else max(y, placed[-1] + gap))
    shift = sum(p - y for p, (y, _) in zip(placed, ordered, strict=True)) / max(1, len(ordered))
    return [(p - shift, one) for p, (_, one) in zip(placed, ordered, strict=True)]


@dataclass(frozen=True, slots=True)
class _Point:
    """A known figure where it is drawn."""

    x: float
    y: float
    figure: Figure
    tick: str


def _line(one: Series, points: Sequence[_Point]) -> Markup:
    path = " ".join(f"{point.x:.1f},{point.y:.1f}" for point in points)
    line = Markup('<polyline class="line s{}" points="{}" stroke-dasharray="{}"/>')
    dot = Markup('<circle class="dot f{}" cx="{:.1f}" cy="{:.1f}" r="4"><title>{}</title></circle>')
    parts = [line.format(one.colour, path, _DASHES.get(one.colour, ""))]
    for point in points:
        tip = f"{one.name} at {point.tick}: {point.figure.full}"
        parts.append(dot.format(one.colour, point.x, point.y, tip))
    return Markup("").join(parts)


def _whisker(ends: tuple[float, float], at: float, *, upright: bool, colour: int | None = None) -> Markup:
    """A line between the ends of an interval, with a cap at either."""
    first, last = ends
    cap = 3.0
    if upright:
        path = f"M{at:.1f} {first:.1f}V{last:.1f}"
        caps = "".join(f"M{at - cap:.1f} {end:.1f}h{2 * cap:.1f}" for end in ends)
    else:
        path = f"M{first:.1f} {at:.1f}H{last:.1f}"
        caps = "".join(f"M{end:.1f} {at - cap:.1f}v{2 * cap:.1f}" for end in ends)
    kind = "" if colour is None else f" s{colour}"
    return Markup('<path class="whisker{}" d="{}"/>').format(kind, path + caps)


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


def _grid_horizontal(
    left: float, inner: float, level: Callable[[float], float], low: int, high: int
) -> Markup:
    parts = []
    for value in range(low, high + 1, 10 if high - low <= 60 else 20):
        y = level(value)
        parts.append(
            Markup('<line class="grid" x1="{}" x2="{}" y1="{y:.1f}" y2="{y:.1f}"/>').format(
                left, left + inner, y=y
            )
        )
        parts.append(_text(left - 10, y + 4, f"{value} %", "end", "tick"))
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
