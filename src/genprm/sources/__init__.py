"""Problems and solutions from files, data hubs and registered sources, one row at a time.

Files: JSON lines, JSON (an array of objects, or objects one after the other), CSV and TSV with a header, all of them
also compressed by gzip or Zstandard, and Parquet. `-` is JSON on standard input, `hub:ID`, `hub:ID@REVISION` or
either with `:CONFIG` a data set of a hub, and any other name without a suffix a source that a plugin registers, for
example `arithmetic`. A row that cannot be used is a `DataError` that names
its place. Memory stays flat however many rows there are, except for a JSON array, which is one document.
"""

from genprm.sources.chats import iterate_chats
from genprm.sources.importing import iterate_rows
from genprm.sources.labelled import iterate_labelled
from genprm.sources.presets import PRESETS
from genprm.sources.problems import iterate_problems, load_problems
from genprm.sources.registry import register_source
from genprm.sources.row import Row
from genprm.sources.rows import read_rows
from genprm.sources.solutions import iterate_solutions, load_solutions
from genprm.sources.writing import write_layout

__all__ = [
    "PRESETS",
    "Row",
    "iterate_chats",
    "iterate_labelled",
    "iterate_problems",
    "iterate_rows",
    "iterate_solutions",
    "load_problems",
    "load_solutions",
    "read_rows",
    "register_source",
    "write_layout",
]
