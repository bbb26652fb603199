"""Whether a model is causal: what it makes of a token must depend on the tokens before it alone.

A verifier continues a text, and the reward of a step may not change with the steps behind it. Encoders such as BERT see
both sides: trained here, they would learn from what they are to predict. Configs do not say it in one way for all
architectures, so a forward pass of a few tokens finds it out.
"""

from __future__ import annotations

from typing import Any

from genprm.engines._common.model_files import positions_of
from genprm.errors import TrainingError

_TOKENS = 8
_ROUNDING = {True: 1e-4, False: 5e-3}
"""Largest change by rounding, as a share of the largest output: of a model in float32, and of one in another type."""


def require_causal(model: Any, name: str) -> None:
    """Raise if an output of a model changes with a token behind it. One that cannot run where it was loaded passes.

    Args:
        model: with `logits` for each token; just loaded, not in training mode.
        name: of its folder or its id.

    Raises:
        TrainingError: it does.
    """
    import torch

    rows = model.get_input_embeddings().weight.shape[0]
    places = min(_TOKENS, positions_of(model.config) or _TOKENS)
    ids = (torch.arange(places) % rows).repeat(2, 1)
    ids[1, -1] = (ids[1, -1] + 1) % rows
    try:
        with torch.no_grad():  # and no inference mode: tensors that a model keeps must be fit for training
            logits = model(input_ids=ids.to(model.device)).logits[:, :-1].float()
    except Exception:  # kernels that only the GPU has where it will be trained, or too little memory
        return  # nothing is known of it, and training itself says what fails
    if not logits.numel():
        return
    change, largest = (logits[0] - logits[1]).abs().max(), logits.abs().max()
    if change > _ROUNDING[model.dtype == torch.float32] * largest:
        raise TrainingError(
            f"'{name}' is no causal model: what it says at a token changes with the tokens behind it",
            hint="begin with a model that reads from left to right, such as Llama, Qwen2 or GPT-2, and not with an "
            "encoder, such as BERT or T5: a step's verdict may not depend on later steps",
        )
