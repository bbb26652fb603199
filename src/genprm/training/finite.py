"""Losses and weights that are no numbers. When they appear says what helps."""

from __future__ import annotations

import math
from typing import Any

from genprm.errors import TrainingError


def require_finite_loss(loss: float, step: int, section: str = "") -> None:
    """Raise if the loss of an optimizer step is no number.

    Args:
        step: from 1. Its loss is that of the weights before the step's update.
        section: what stands before the names of options, such as `train.`.

    Raises:
        TrainingError: naming the step.
    """
    if math.isfinite(loss):
        return
    if step == 1:
        hint = (
            f"nothing was updated before: the model itself gives no number here. Set {section}precision=float32, or "
            "begin with another model"
        )
    else:
        hint = f"lower {section}learning_rate, or raise {section}warmup_ratio"
    raise TrainingError(f"the loss is not finite at step {step}", hint=hint)


def require_finite_base(model: Any, name: str) -> None:
    """Raise if a model that was just loaded holds weights that are no numbers.

    Args:
        name: of its folder or its id.

    Raises:
        TrainingError: naming how many, and the first tensor that holds one.
    """
    found = _not_finite(model)
    if found:
        raise TrainingError(
            f"'{name}' holds weights that are not finite: {found}",
            hint="its files are damaged, or its own training diverged: fetch it again, or begin with another model",
        )


def require_finite_result(model: Any) -> None:
    """Raise if a model that is about to be saved holds weights that are no numbers in the type of its files.

    Raises:
        TrainingError: naming how many, and the first tensor that holds one.
    """
    found = _not_finite(model)
    if found:
        raise TrainingError(
            f"weights are not finite after training: {found}; not saved",
            hint="lower learning_rate, or raise warmup_ratio; a model in float16 holds no number above 65,504",
        )


def _not_finite(model: Any) -> str:
    bad = {
        name: count
        for name, tensor in model.named_parameters()
        if (count := int((~tensor.detach().isfinite()).sum()))
    }
    return f"{sum(bad.values()):,}, the first in {next(iter(bad))}" if bad else ""
