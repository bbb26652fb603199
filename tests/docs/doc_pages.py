"""What the documentation's pages hold: fenced blocks, what stands above them, links and headings."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

_FENCE = re.compile(r"^(?P<ticks>`{3,})(?P<language>[\w+-]*)\s*$")
_DIRECTIVE = re.compile(r"^<!-- (?P<text>.*?) -->$")
_NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.(?P<decimals>\d+))?(?![\w.]*\w)")


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        line: number of its first line of content, from 1.
        directive: the text of the comment directly above it, empty if there is none.
        shown: the content of the `text` block that follows it, with nothing but blank lines between; None if
            there is none.
    """

    line: int
    language: str
    content: str
    directive: str = ""
    shown: str | None = None


def blocks(text: str) -> list[Block]:
    """The fenced blocks of a page, in order."""
    found: list[Block] = []
    lines = text.splitlines()
    above, between, index = "", "start", 0
    while index < len(lines):
        fence = _FENCE.match(lines[index])
        if fence is None:
            if lines[index].strip():
                above = between = lines[index].strip()
            index += 1
            continue
        end = lines.index(fence["ticks"], index + 1)
        content = "".join(line + "\n" for line in lines[index + 1 : end])
        if fence["language"] == "text" and not between and found:
            found[-1] = Block(**{**vars(found[-1]), "shown": content})
        else:
            directive = _DIRECTIVE.match(above)
            found.append(
                Block(index + 2, fence["language"], content, directive["text"] if directive else "")
            )
        above = between = ""
        index = end + 1
    return found


def prose(text: str) -> str:
    """A page without its fenced blocks and inline code, with as many lines as before."""
    kept, ticks = [], ""
    for line in text.splitlines():
        fence = _FENCE.match(line)
        if ticks:
            ticks = "" if line.strip() == ticks else ticks
            kept.append("")
        elif fence is not None:
            ticks = fence["ticks"]
            kept.append("")
        else:
            kept.append(re.sub(r"`[^`]*`", "", line))
    return "\n".join(kept)


def differences(shown: str, printed: str) -> list[str]:
    """How what a block printed differs from what the page shows; empty if it does not.

    Numbers are compared with as many decimals as the page shows, one unit of the last one apart at most; `...`
    stands for any text on its line, and for any lines if it is alone on one.
    """
    wanted, got = shown.rstrip().splitlines(), printed.rstrip().splitlines()
    found, place = [], 0
    for index, line in enumerate(wanted):
        if line.strip() == "...":
            rest = wanted[index + 1 :]
            tail = got[max(place, len(got) - len(rest)) :] if rest else []
            return found + differences("\n".join(rest), "\n".join(tail))
        if place == len(got):
            return [*found, f"- {line}"]
        if not _same_line(line.rstrip(), got[place].rstrip()):
            found += [f"- {line}", f"+ {got[place]}"]
        place += 1
    return found + [f"+ {line}" for line in got[place:]]


def _same_line(shown: str, printed: str) -> bool:
    numbers: list[re.Match[str]] = []

    def pattern(match: re.Match[str]) -> str:
        numbers.append(match)
        return "\0"

    parts = _NUMBER.sub(pattern, shown).split("\0")
    escaped = [".*".join(re.escape(piece) for piece in part.split("...")) for part in parts]
    match = re.fullmatch(r"(-?\d+(?:\.\d+)?(?:e-?\d+)?)".join(escaped), printed)
    if match is None:
        return False
    pairs = zip(numbers, match.groups(), strict=True)
    return all(_same_number(number, text) for number, text in pairs)


def _same_number(shown: re.Match[str], printed: str) -> bool:
    decimals = shown["decimals"]
    if decimals is None:
        return shown[0] == printed
    unit = 10.0 ** -len(decimals)
    return abs(round(float(printed), len(decimals)) - float(shown[0])) <= unit * 1.001


def slug(heading: str) -> str:
    """The anchor that a heading gets, here and on code hosts."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading.replace("`", ""))
    return re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-")


def anchors(path: Path) -> set[str]:
    """The anchors of a page."""
    lines = prose_with_code(path.read_text()).splitlines()
    return {slug(line.lstrip("#")) for line in lines if re.match(r"#{1,6} ", line)}


def prose_with_code(text: str) -> str:
    """A page without its fenced blocks; inline code stays."""
    kept, ticks = [], ""
    for line in text.splitlines():
        fence = _FENCE.match(line)
        if ticks:
            ticks = "" if line.strip() == ticks else ticks
        elif fence is not None:
            ticks = fence["ticks"]
        else:
            kept.append(line)
    return "\n".join(kept)


def links(text: str) -> list[str]:
    """The targets of a page's links, those of fenced blocks and inline code left out."""
    return re.findall(r"\]\(([^()\s]+)\)", prose(text))
