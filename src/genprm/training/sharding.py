"""Models that are spread over several processes: what can be, and how the whole is put together for saving.

Under `accelerate launch` with FSDP2 every process holds a slice of each weight. One process alone can then read nothing
of the model: its slices are collected by all of them together.
"""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import Any, Literal

from genprm.config.models import TrainConfig
from genprm.errors import TrainingError
from genprm.training.models import Loaded
from genprm.training.processes import asks_for, is_first_process, refusal

Layout = Literal["whole", "FSDP with FULL_STATE_DICT", "FSDP with SHARDED_STATE_DICT"]
"""How the weights lie in a checkpoint."""

_FSDP_NAME = "pytorch_model_fsdp"
"""Begins the names under which accelerate saves weights under FSDP: a file `.bin`, or a folder with a number."""

_FSDP2 = "shard with FSDP2: 'accelerate launch --use_fsdp --fsdp_version 2', or a config of recipes/train/accelerate"


def require_shardable(options: TrainConfig) -> None:
    """Raise if the launcher asks for a kind of sharding that a job cannot have.

    Raises:
        TrainingError: DeepSpeed, version 1 of FSDP, or a quantised base under FSDP; in the first process.
        ReportedElsewhere: the same, in the others.
    """
    if asks_for("DEEPSPEED"):
        raise refusal("genprm does not train under DeepSpeed", hint=_FSDP2)
    if not asks_for("FSDP"):
        return
    if os.environ.get("FSDP_VERSION", "1") != "2":  # accelerate's default is 1
        raise refusal("genprm does not train under version 1 of FSDP", hint=_FSDP2)
    if options.lora_4bit:
        raise refusal(
            "train.lora_4bit and FSDP exclude each other: a base of four bits cannot be sharded",
            hint="set train.lora_4bit=false, or start with 'accelerate launch --multi_gpu', where each process holds "
            "the whole base",
        )


def add_in_float32(accelerator: Any, model: Any) -> None:
    """Let FSDP compute in bfloat16, and neither hand out losses nor add up gradients in it, as accelerate would.

    Gradients stay in bfloat16 if the output layer is sharded by itself, as under adapters: its weight is read without a
    call of the layer, and PyTorch 2.13 fails to look for gradients of another type there. accelerate shards it together
    with the last norm, if that is a child of the model that yields hidden states, or with embeddings that it is tied to.
    """
    plugin = getattr(accelerator.state, "fsdp_plugin", None)
    if plugin is None or plugin.mixed_precision_policy is None:
        return
    import torch
    from torch.distributed.fsdp import MixedPrecisionPolicy

    tied = model.get_input_embeddings().weight is model.get_output_embeddings().weight
    together = tied or any("Norm" in type(child).__name__ for child in model.base_model.children())
    plugin.mixed_precision_policy = MixedPrecisionPolicy(
        param_dtype=torch.bfloat16, reduce_dtype=torch.float32 if together else None
    )


def whole_model(trainer: Any, loaded: Loaded) -> Any:
    """What a trainer trained, as it is without sharding. Every process must call this.

    Sharded weights are collected in the main memory of the first process, in the types in which they were trained; that
    takes as much of it as the model has bytes. The other processes get None then.

    Returns:
        The model, wrapped by peft if it has adapters.
    """
    from accelerate.utils import DistributedType

    accelerator = trainer.accelerator
    if accelerator.distributed_type != DistributedType.FSDP:
        return accelerator.unwrap_model(trainer.model)
    weights = accelerator.get_state_dict(trainer.model)
    if not is_first_process():
        return None
    return _rebuilt(accelerator.unwrap_model(trainer.model), weights, loaded)


def _rebuilt(sharded: Any, weights: dict[str, Any], loaded: Loaded) -> Any:
    """A model of the same kind that holds the weights themselves, and not copies of them."""
    import torch
    from transformers import AutoModelForCausalLM

    base = sharded if loaded.adapters is None else sharded.get_base_model()
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(copy.deepcopy(base.config))
        model.generation_config = copy.deepcopy(base.generation_config)
        if loaded.adapters is not None:
            from peft import get_peft_model

            model = get_peft_model(model, loaded.adapters)
    model.load_state_dict(weights, assign=True)
    (model if loaded.adapters is None else model.get_base_model()).tie_weights()
    return model.eval()


def layout_of(trainer: Any) -> Layout:
    """How a trainer saves weights in its checkpoints."""
    plugin = getattr(trainer.accelerator.state, "fsdp_plugin", None)
    if plugin is None:
        return "whole"
    if "FULL_STATE_DICT" in str(plugin.state_dict_type):
        return "FSDP with FULL_STATE_DICT"
    return "FSDP with SHARDED_STATE_DICT"


def require_same_layout(checkpoint: Path, wanted: Layout) -> None:
    """Raise unless a trainer that saves weights in the layout `wanted` can resume from a checkpoint.

    Raises:
        TrainingError: this process does not see the checkpoint, or its weights were sharded otherwise.
    """
    if not checkpoint.is_dir():
        raise TrainingError(
            f"the checkpoint {checkpoint} is on another machine",
            hint="resuming on several machines takes an output folder on a file system that all of them share",
        )
    names = {path.name: path.is_dir() for path in checkpoint.iterdir() if path.name.startswith(_FSDP_NAME)}
    found: Layout = "whole"
    if names:
        found = "FSDP with SHARDED_STATE_DICT" if any(names.values()) else "FSDP with FULL_STATE_DICT"
    if found != wanted:
        raise TrainingError(
            f"the checkpoint {checkpoint} was saved {_said(found)}, and this job would resume it {_said(wanted)}",
            hint="start it as before, with any number of processes, or remove the folder to train anew",
        )


def _said(layout: Layout) -> str:
    return "without sharding" if layout == "whole" else f"under {layout}"
