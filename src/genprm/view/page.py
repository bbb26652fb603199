"""Rendering and writing the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FunctionLoader, StrictUndefined, Template

from genprm.records import Report, Verification
from genprm.store import write_atomic
from genprm.view.examples import ExampleView, example_view
from genprm.view.highlight import highlight_python
from genprm.view.parts import Section, Tile
from genprm.view.sections import build_sections, facts, headline


@dataclass(frozen=True, slots=True)
class Page:
    """What a page shows.

    Attributes:
        kind: the word beside the library's name.
        notes: what to know before reading a figure.
        headline: the comparisons that matter most.
        facts: where the figures come from: (name, value).
        config: the resolved config, if there is one.
    """

    title: str
    kind: str
    notes: Sequence[str]
    sections: Sequence[Section]
    facts: Sequence[tuple[str, str]]
    headline: Sequence[Tile] = ()
    examples: Sequence[ExampleView] = ()
    config: Mapping[str, Any] | None = None


def write_report(report: Report, examples: Sequence[Verification], path: str | Path) -> None:
    """Write the page atomically.

    Args:
        report: of any kind; the sections that it has are shown.
        examples: verified solutions to read, with their votes.

    Raises:
        StoreError: the file cannot be written.
    """
    write_atomic(Path(path), render_report(report, examples).encode("utf-8", "replace"))


def render_report(report: Report, examples: Sequence[Verification] = ()) -> str:
    """The page as text. Everything that comes from outside, model output above all, is escaped."""
    return render_page(
        Page(
            title=report.title,
            kind=report.kind,
            notes=report.notes,
            headline=headline(report),
            sections=build_sections(report),
            examples=[example_view(row, number) for number, row in enumerate(examples, start=1)],
            facts=facts(report),
            config=report.provenance.config,
        )
    )


def render_page(page: Page) -> str:
    """Any page of figures as text, in the form of a report's."""
    config = yaml.safe_dump(page.config, sort_keys=False, allow_unicode=True) if page.config else ""
    return _template().render(page=page, config=config, style=_asset("style.css"))


@lru_cache(maxsize=1)
def _template() -> Template:
    environment = Environment(
        loader=FunctionLoader(_asset),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["python"] = highlight_python
    return environment.get_template("page.html.j2")


def _asset(name: str) -> str:
    return (files("genprm.view") / name).read_text(encoding="utf-8")
