"""Rows of a hub data set, or of a local folder that the `datasets` package can load."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from genprm.errors import DataError, MissingExtraError
from genprm.hub import hub_refusal
from genprm.sources.row import HUB_PREFIX, Row

_HINT = "check the id, the revision, the split and the network; they are given as hub:ID@REVISION:CONFIG"


def hub_rows(name: str, split: str, default_config: str | None) -> Iterator[Row]:
    """The rows of `ID`, `ID@REVISION` or either with `:CONFIG`, which the package keeps in files, not in memory.

    Raises:
        MissingExtraError: the `datasets` package is not installed.
        DataError: the data set cannot be loaded.
    """
    try:
        import datasets
    except (ImportError, OSError) as error:
        raise MissingExtraError("datasets", "hub", f"loading the data set {name}", error) from error
    identifier, revision, config = _parts(name)
    place = f"{HUB_PREFIX}{name.partition(':')[0]} ({split})"
    refused = hub_refusal("dataset", identifier, revision) if _is_id(identifier) else None
    if refused is not None and refused.reached:
        raise DataError(f"{place}: {refused.reason}", hint=_HINT)
    try:
        with _from_the_cache(datasets) if refused is not None else nullcontext():
            loaded = datasets.load_dataset(
                identifier, config or default_config, split=split, revision=revision
            )
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        if refused is not None:
            raise DataError(
                f"{place}: it is not on this machine, and {refused.reason}",
                hint="check the network, or give a file or a folder",
            ) from error
        raise DataError(
            f"{place}: cannot be loaded: {(str(error) or type(error).__name__).splitlines()[0]}", hint=_HINT
        ) from error
    for number, values in enumerate(loaded, start=1):
        yield Row(f"{place} row {number}", values)


def _is_id(identifier: str) -> bool:
    """Whether it names a data set of the hub, not a folder or a bucket."""
    return not Path(identifier).is_dir() and identifier.count("/") <= 1


@contextmanager
def _from_the_cache(datasets: Any) -> Iterator[None]:
    """Keep the package from asking the hub, which it does for half a minute before it looks into its cache."""
    before = datasets.config.HF_HUB_OFFLINE
    datasets.config.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        datasets.config.HF_HUB_OFFLINE = before


def _parts(name: str) -> tuple[str, str | None, str | None]:
    """Id or folder, revision and configuration of `ID@REVISION:CONFIG`; a folder may have an `@` in its name."""
    identifier, _, config = name.partition(":")
    folder = Path(identifier).expanduser()
    if folder.is_dir():
        return str(folder), None, config or None
    identifier, _, revision = identifier.partition("@")
    return identifier, revision or None, config or None
