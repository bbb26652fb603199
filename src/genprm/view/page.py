"""Rendering and writing the page."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from importlib.resources import files
from pathlib import Path

import yaml
from jinja2 import Environment, FunctionLoader, StrictUndefined, Template

from genprm.records import Report, Verification
from genprm.store import write_atomic
from genprm.view.examples import example_view
from genprm.view.highlight import highlight_python
from genprm.view.sections import build_sections, facts, headline


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
    config = report.provenance.config
    return _template().render(
        report=report,
        headline=headline(report),
        sections=build_sections(report),
        examples=[example_view(row, number) for number, row in enumerate(examples, start=1)],
        facts=facts(report),
        config=yaml.safe_dump(config, sort_keys=False, allow_unicode=True) if config else "",
        style=_asset("style.css"),
    )


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
