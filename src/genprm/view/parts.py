"""What a page is made of, and the names and phrases that several parts share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from genprm.records import LabelMethod, LocalisationFigures, Mode
from genprm.view.figures import Figure

MODE_NAMES: dict[Mode, str] = {
    "direct": "direct (no rationale)",
    "cot": "CoT",
    "code": "code",
    "code+execution": "code + run",
    "cot+code": "CoT + code",
    "cot+code+execution": "CoT + code + run",
}
METHOD_NAMES: dict[LabelMethod, str] = {
    "hard": "hard (MC > 0)",
    "difference": "difference",
    "ratio": "ratio (RPE)",
    "posterior": "posterior of the ratio",
}


@dataclass(frozen=True, slots=True)
class Table:
    """A table; the first column names the rows. `says` is what it shows, in a sentence."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[tuple[str, Sequence[Figure]]]
    says: str


@dataclass(frozen=True, slots=True)
class Section:
    """A titled part of the page."""

    id: str
    title: str
    lead: str
    charts: Sequence[Markup]
    tables: Sequence[Table]


@dataclass(frozen=True, slots=True)
class Tile:
    """A figure in the page's head, next to what it is to be compared with."""

    title: str
    value: Figure
    beside: Sequence[tuple[str, Figure]]


def main_votes(figures: Mapping[str, LocalisationFigures]) -> str:
    """The key of a verifier's own votes, such as `maj@8`; the first key when there is none."""
    return next((key for key in figures if key.startswith("maj@")), next(iter(figures)))


def votes_name(key: str) -> str:
    """A key of votes as it is written."""
    return key.capitalize().replace("_", "-")


def amount(total: int, noun: str) -> str:
    """A number of things, in words."""
    return f"{total:,} {noun}{'' if total == 1 else 's'}"
