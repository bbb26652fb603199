"""Links of the documentation lead somewhere, and its tables agree with the tree."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from doc_pages import ROOT, anchors, links

from genprm.config import RunConfig, load_config

PAGES = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "recipes/**/*.md")
    for path in ROOT.glob(pattern)
    if not any(part.startswith(".") for part in path.relative_to(ROOT).parts)
)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    wrong = []
    for target in links(page.read_text()):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        if not path.exists() or (anchor and anchor not in anchors(path)):
            wrong.append(target)
    assert not wrong


CONFIGS = [
    (f"{page.relative_to(ROOT)}, block {number}", found)
    for page in PAGES
    for number, block in enumerate(
        re.findall(r"^```yaml\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE), 1
    )
    if "extends" not in (found := yaml.safe_load(block))  # a prompt profile
]


@pytest.mark.parametrize("found", [found for _, found in CONFIGS], ids=[name for name, _ in CONFIGS])
def test_configs_on_pages_are_configs(found: dict[str, object]) -> None:
    """A block of YAML that a reader copies has keys that exist, with values that they take."""
    assert load_config(None, model=RunConfig, base=found).model_fields_set == set(found)


def test_the_site_has_every_page() -> None:
    """A page that is not in the navigation is found by nobody."""
    site = yaml.safe_load((ROOT / "mkdocs.yml").read_text().replace("!!python/", "#"))

    def paths(nav: object) -> list[str]:
        if isinstance(nav, str):
            return [nav]
        entries = nav if isinstance(nav, list) else list(nav.values())  # type: ignore[attr-defined]
        return [path for entry in entries for path in paths(entry)]

    listed = paths(site["nav"])
    assert sorted(listed) == sorted(
        str(path.relative_to(ROOT / "docs")) for path in ROOT.glob("docs/**/*.md")
    )


def test_the_file_map_is_complete() -> None:
    """Each path of the README's file map exists, and each package of the library is in it."""
    text = (ROOT / "README.md").read_text().split("## File map", 1)[1]
    rows = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    paths = [path for row in rows for path in re.findall(r"`([^`]+)`", row)]
    assert paths
    missing = [path for path in paths if not (ROOT / path).exists()]
    packages = {f"src/genprm/{path.parent.name}/" for path in (ROOT / "src/genprm").glob("*/__init__.py")}
    assert not missing
    assert packages <= set(paths)


def test_the_architecture_names_what_exists() -> None:
    text = (ROOT / "docs/architecture.md").read_text()
    named = [line.split("|")[2].strip(" `") for line in text.splitlines() if re.match(r"\| \d+ \| `", line)]
    source = ROOT / "src/genprm"
    assert named
    assert not [
        name for name in named if not (source / name).is_dir() and not (source / f"{name}.py").exists()
    ]


def test_every_decision_is_listed() -> None:
    text = (ROOT / "docs/decisions/README.md").read_text()
    notes = [path.name for path in (ROOT / "docs/decisions").glob("0*.md")]
    assert notes
    assert not [name for name in notes if f"({name})" not in text]


def test_no_merge_left_its_markers() -> None:
    """In a page or a string they are no syntax error, so nothing else finds them."""
    folders = [ROOT / name for name in ("src", "tests", "docs", "recipes", "benchmarks")]
    paths = [
        path for folder in folders for path in folder.rglob("*") if path.suffix in (".py", ".md", ".yaml")
    ]
    marker = re.compile(r"^(<{7}|>{7}) ", re.MULTILINE)
    assert not [path for path in [*paths, *ROOT.glob("*.md")] if marker.search(path.read_text())]
