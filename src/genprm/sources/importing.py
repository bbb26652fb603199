"""Files of labelled solutions or chats, whichever they hold."""

from __future__ import annotations

from pathlib import Path

from genprm.errors import ConfigError
from genprm.records import LabelledSolution, TrainingSample
from genprm.sources import chats, labelled
from genprm.sources.counted import CountedRows, Unusable
from genprm.sources.row import Row
from genprm.sources.rows import rows_of

CHATS = "chats"
LAYOUTS = ("auto", CHATS, *labelled.LAYOUTS)


def iterate_rows(
    path: str | Path, split: str = "train", *, layout: str = "auto", repeats: bool = False
) -> CountedRows[LabelledSolution | TrainingSample]:
    """Rows of a file, of standard input (`-`) or of a hub data set (`hub:ID`); one kind of them.

    Args:
        split: of a hub data set.
        layout: `chats`, a layout of `iterate_labelled`, or `auto`, which goes by each row's fields; a row of another kind
            than the first one is left out.
        repeats: labelled solutions that repeat an earlier one are kept; else they are left out.

    Raises:
        ConfigError: an unknown layout.
        DataError: there is nothing to read; while iterating, a source that cannot be read or that has no usable row.
    """
    if layout not in LAYOUTS:
        raise ConfigError(f"there is no layout '{layout}'", hint=f"Known: {', '.join(LAYOUTS)}.")
    source = str(path)
    kinds: set[type] = set()

    def read(row: Row) -> LabelledSolution | TrainingSample:
        found: LabelledSolution | TrainingSample
        if layout == CHATS or (layout == "auto" and chats.COLUMNS & row.values.keys()):
            found = chats.read_chat(row)
        else:
            found = labelled.read_labelled(row, source, layout)
        if not kinds:
            kinds.add(type(found))
        if type(found) not in kinds:
            raise Unusable("another_kind", f"a {type(found).__name__} among rows of another kind")
        return found

    rows = rows_of(source, split)
    if repeats:
        return CountedRows(source, rows, read)
    return CountedRows(source, rows, read, labelled.content_of, labelled.OwnIds())
