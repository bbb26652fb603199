"""The processes that train together: started by `accelerate launch` or `torchrun`, or one alone."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Literal, TypeVar, cast

from genprm.errors import GenPRMError, TrainingError

Value = TypeVar("Value")
_PATIENCE = timedelta(hours=6)
"""How long processes wait for one of them, such as for the first one that saves a large model."""


def process_count() -> int:
    """How many processes `accelerate launch` or `torchrun` started, which number them; 1 without such a launcher."""
    return max(1, int(os.environ.get("WORLD_SIZE", "1"))) if "LOCAL_RANK" in os.environ else 1


def is_first_process() -> bool:
    """Whether this process claims folders, reports and saves. Without a launcher the only one does."""
    return process_count() == 1 or int(os.environ.get("RANK", "0")) == 0


def asks_for(sharding: Literal["FSDP", "DEEPSPEED"]) -> bool:
    """Whether `accelerate launch` was given this kind of sharding."""
    return os.environ.get(f"ACCELERATE_USE_{sharding}", "").lower() == "true"


def join_processes() -> None:
    """Connect with the other processes."""
    import torch
    from accelerate import PartialState

    PartialState(cpu=not torch.cuda.is_available(), timeout=_PATIENCE)


class ReportedElsewhere(TrainingError):
    """Another process raises the error that this one has to stop for."""


def refusal(message: str, hint: str) -> TrainingError:
    """The error for what all processes see alike: the first one reports it."""
    kind = TrainingError if is_first_process() else ReportedElsewhere
    return kind(message, hint=hint)


def require_one_process(what: str) -> None:
    """Raise if several processes, or one with sharding, were started for a job that one does.

    Args:
        what: is trained; begins the message.

    Raises:
        TrainingError: in the first process.
        ReportedElsewhere: in the others.
    """
    if process_count() > 1 or asks_for("FSDP") or asks_for("DEEPSPEED"):
        raise refusal(
            f"{what} is trained in one process, without sharding",
            hint="start it without torchrun or accelerate launch",
        )


def from_first(work: Callable[[], Value]) -> Value:
    """What the first process gets by `work`, in every process; the others wait for it.

    Raises:
        GenPRMError: raised by `work`.
        ReportedElsewhere: the same, in the other processes.
    """
    if process_count() == 1:
        return work()
    from accelerate.utils import broadcast_object_list

    said: list[Any] = [None, None]
    failure: GenPRMError | None = None
    if is_first_process():
        try:
            said[0] = work()
        except GenPRMError as error:
            failure = error
            said[1] = (error.message, error.hint)
    broadcast_object_list(said)
    _stop_for(failure, said[1])
    value: Value = said[0]
    return value


def in_each(work: Callable[[], Value]) -> Value:
    """What `work` gives in this process, once it is done in all of them.

    Raises:
        GenPRMError: raised by `work`, in any process; the first process raises it.
        ReportedElsewhere: the same, in the other processes.
    """
    if process_count() == 1:
        return work()
    from accelerate.utils import gather_object

    value: Value | None = None
    failure: GenPRMError | None = None
    try:
        value = work()
    except GenPRMError as error:
        failure = error
    said = gather_object([(failure.message, failure.hint) if failure else None])
    _stop_for(failure if is_first_process() else None, next(filter(None, said), None))
    return cast("Value", value)


def _stop_for(failure: GenPRMError | None, said: tuple[str, str] | None) -> None:
    if failure is not None:
        raise failure
    if said is not None:
        raise refusal(*said)
