"""Which problems stand in evaluation sets, too: 13 words in a row, or the whole text of a shorter problem.

A word is what stands between blanks, in lower case, without punctuation around it; compatibility forms are unified
(NFKC). So `$x + 1$.` and `x + 1` read alike, while `2 + 3` and `2 - 3` do not.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from genprm.errors import DataError
from genprm.sources.presets import problem_text
from genprm.sources.rows import rows_of

WORDS_IN_A_ROW = 13
_EDGES = ".,;:!?\"'`´‘’“”„()[]$\\"


def words_of(text: str) -> list[str]:
    """The words of a text, as texts are compared here."""
    plain = unicodedata.normalize("NFKC", text).casefold()
    return [word for part in plain.split() if (word := part.strip(_EDGES))]


@dataclass(frozen=True, slots=True)
class Overlap:
    """What a text has in common with a problem of an evaluation set.

    Attributes:
        name: of the evaluation set.
        place: of its problem, `file.jsonl:12` for example.
        words: those in common, the first run of them.
    """

    name: str
    place: str
    words: str

    def __str__(self) -> str:
        return f"{self.name}, {self.place}: '{self.words}'"


class EvaluationSets:
    """The problems of evaluation sets, ready to be compared with. Memory grows with the sets, about 0.1 KB per word.

    Args:
        sets: by name, a file or `hub:ID` (split `test`) in any layout whose rows hold a problem's text.

    Raises:
        DataError: a set cannot be read or has no rows with words, or a row of it holds no problem.
        MissingExtraError: a hub is named, and the `datasets` package is not installed.
    """

    def __init__(self, sets: Mapping[str, str]) -> None:
        self._places: list[tuple[str, str]] = []
        self._runs: dict[int, int] = {}
        self._whole: dict[int, int] = {}
        for name, source in sets.items():
            compared = False
            for row in rows_of(source, "test"):
                words = words_of(problem_text(row))
                compared = compared or bool(words)
                known = self._whole if len(words) < WORDS_IN_A_ROW else self._runs
                for run in _runs(words):
                    known.setdefault(_key(run), len(self._places))
                self._places.append((name, row.place))
            if not compared:
                raise DataError(
                    f"the evaluation set '{name}': {source}: no rows",
                    hint="nothing could be compared with it; give the file that holds its problems",
                )

    def find(self, text: str) -> Overlap | None:
        """The first overlap of a problem's text; None if it has none."""
        words = words_of(text)
        known = self._whole if len(words) < WORDS_IN_A_ROW else self._runs
        for run in _runs(words):
            number = known.get(_key(run))
            if number is not None:
                return Overlap(*self._places[number], run)
        return None


def _runs(words: list[str]) -> Iterator[str]:
    """Every run of 13 words, or all words if there are fewer; nothing of no words."""
    if words:
        for start in range(max(1, len(words) - WORDS_IN_A_ROW + 1)):
            yield " ".join(words[start : start + WORDS_IN_A_ROW])


def _key(run: str) -> int:
    return int.from_bytes(hashlib.blake2b(run.encode("utf-8", "replace"), digest_size=8).digest(), "big")
