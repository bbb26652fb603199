"""What a stage makes of a batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic

from genprm.records.base import RowT
from genprm.records.solutions import Dropped


@dataclass(frozen=True, slots=True)
class StageOutput(Generic[RowT]):
    """What a stage made of a batch of items: rows for the next stage, and every row it dropped.

    Items lost to an engine or sandbox fault that may pass (`retryable`) do not belong here: a stage
    raises for them where nothing of the batch could be done, so that a later run tries again.
    """

    rows: tuple[RowT, ...]
    dropped: tuple[Dropped, ...] = ()
