"""Rows of a hub data set, or of a local folder that the `datasets` package can load."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from genprm.errors import DataError, MissingExtraError
from genprm.sources.row import HUB_PREFIX, Row


def hub_rows(name: str, split: str, default_config: str | None) -> Iterator[Row]:
    """The rows of `ID` or `ID:CONFIG`, which the package keeps in files, not in memory.

    Raises:
        MissingExtraError: the `datasets` package is not installed.
        DataError: the data set cannot be loaded.
    """
    try:
        import datasets
    except ImportError as error:
        raise MissingExtraError("datasets", "hub", f"loading the data set {name}") from error
    identifier, _, config = name.partition(":")
    place = f"{HUB_PREFIX}{identifier} ({split})"
    if identifier.startswith("~"):
        identifier = str(Path(identifier).expanduser())
    try:
        loaded = datasets.load_dataset(identifier, config or default_config, split=split)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise DataError(
            f"{place}: cannot be loaded: {(str(error) or type(error).__name__).splitlines()[0]}",
            hint="check the id, the split and the network; a configuration is given as hub:ID:CONFIG",
        ) from error
    for number, values in enumerate(loaded, start=1):
        yield Row(f"{place} row {number}", values)
