"""Every command line of pages, recipes, deployments, and of the program's own hints is one that the program takes."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer.main
from doc_pages import ROOT, blocks, prose_with_code

from genprm.cli.main import app

ALWAYS = {"--help"}
FOLDERS = ("docs", "recipes", "deploy", "src/genprm")
PAGES = sorted(
    path
    for path in (*ROOT.glob("*.md"), *(path for name in FOLDERS for path in (ROOT / name).rglob("*")))
    if path.is_file() and path.suffix in (".md", ".sh", ".yaml", ".py", "") and path.name != "CHANGELOG.md"
)
OPTIONS = {
    name: ALWAYS.union(*(option.opts + option.secondary_opts for option in command.params))
    for name, command in typer.main.get_command(app).commands.items()  # type: ignore[attr-defined]
}
_CALL = r"(?<![\w./-])(['`]?)genprm (?!genprm)([a-z][a-z-]*)\b"
_CALLED = re.compile(_CALL + r"([^\n|;&>]*)")
_QUOTED = re.compile(_CALL + r"([^\n|;&>'\"`]*)")


def code_of(page: Path) -> Iterator[str]:
    """What a page shows as code, a command that is continued on further lines as one; all of a file that is no page."""
    text = page.read_text().replace("\\\n", " ")
    if page.suffix != ".md":
        yield text
        return
    yield from (block.content for block in blocks(text) if block.language not in ("python", "text"))
    rest = prose_with_code(text)
    yield from (line for line in rest.splitlines() if line.startswith("    "))
    yield from (found.replace("\n", " ") for found in re.findall(r"`([^`]+)`", rest))


def wrong_in(code: str, *, prose: bool = False) -> list[str]:
    """Commands that do not exist, and options that their command does not take.

    Args:
        prose: the code has sentences too, in which `genprm` may be followed by any word unless it is quoted.
    """
    wrong = []
    for quote, name, rest in (_QUOTED if prose else _CALLED).findall(code):
        if name not in OPTIONS:
            wrong += [f"genprm {name}"] if quote or not prose else []
            continue
        flags = {
            word.partition("=")[0].rstrip(").,:") for word in _words(rest) if re.match(r"--?[A-Za-z]", word)
        }
        wrong += [f"genprm {name} {flag}" for flag in sorted(flags - OPTIONS[name])]
    return wrong


def _words(rest: str) -> list[str]:
    try:
        return shlex.split(rest, comments=True)
    except ValueError:  # a quotation that ends on another line
        return rest.split()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_on_pages_exist(page: Path) -> None:
    assert not [one for code in code_of(page) for one in wrong_in(code, prose=page.suffix != ".md")]


def test_what_does_not_exist_is_found() -> None:
    assert wrong_in("genprm show RUN --dropped") == ["genprm show --dropped"]
    assert wrong_in("genprm shows RUN") == ["genprm shows"]
    assert wrong_in("genprm dropped RUN problems --json | head -c 9 # --no") == []
    assert wrong_in("the library genprm is; genprm run c.yaml -x=1", prose=True) == ["genprm run -x"]
    assert wrong_in("hint=\"look: 'genprm shows RUN' or 'genprm show -x'\"", prose=True) == [
        "genprm shows",
        "genprm show -x",
    ]
    assert {"--dry-run", "-o", "--run-dir"} <= OPTIONS["run"]
