"""Loading and saving a token-classification model of two classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from genprm.config import PrmConfig
from genprm.errors import GenPRMError, MissingExtraError, TrainingError
from genprm.text.step_tokens import KEY, StepLayout
from genprm.training.causal import require_causal
from genprm.training.finite import require_finite_base, require_finite_result
from genprm.training.models import (
    LOADING,
    pretrained,
    require_embeddings,
    require_fit,
    require_rank,
    unreadable,
)
from genprm.training.prm.data import NAMES


def load_classifier(
    source: str, options: PrmConfig, layout: StepLayout, tokenizer: Any, seed: int, *, half: bool
) -> tuple[Any, Any]:
    """The model with a head of two classes (a new one unless it has such), and the element type to save it in.

    What is trained is in float32, the optimizer's precision.

    Args:
        source: the folder or hub id of `options.model`.
        half: whether the frozen base of LoRA adapters is in bfloat16.

    Raises:
        TrainingError: no readable model, one whose embeddings are smaller than the tokenizer, one with weights that are
            no numbers, one that is not causal, a head whose classes are named otherwise, or adapters of a higher rank
            than the model's weights can have.
    """
    import torch
    from transformers import AutoConfig, AutoModelForTokenClassification, set_seed

    set_seed(seed)  # of the head's first weights
    try:
        config = pretrained(AutoConfig, source)
        _require_classes(config, options.model)
        config.num_labels = len(NAMES)
        config.id2label = dict(NAMES)
        config.label2id = {name: number for number, name in NAMES.items()}
        config.classifier_dropout = 0.0
        setattr(config, KEY, layout.facts())
        model, found = pretrained(
            AutoModelForTokenClassification, source, config=config, dtype="auto", **LOADING
        )
        require_fit(found, options.model, new=("score.", "classifier."))
    except GenPRMError:
        raise
    except Exception as error:  # whatever damaged or contradictory files make the libraries raise
        raise unreadable("model", source, error) from error
    dtype = model.dtype
    require_finite_base(model, options.model)
    require_embeddings(model, tokenizer, options.model)
    require_rank(model, options.lora_rank)
    model.config.use_cache = False
    model = model.to(torch.bfloat16 if half and options.lora_rank else torch.float32)
    require_causal(model, options.model)
    if options.lora_rank:
        model = _with_lora(model, options)
    if options.gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
        if options.lora_rank:  # the frozen embeddings' output has no gradient of its own
            model.enable_input_require_grads()
    return model, dtype


def _require_classes(config: Any, name: str) -> None:
    """Raise if a model has a head of two classes that are not `NAMES`: its weights would stay, under other names.

    Classes without names of their own are taken as these. A head of another number of classes becomes a new one.

    Raises:
        TrainingError: naming the classes.
    """
    has_head = any("ForTokenClassification" in one for one in config.architectures or ())
    names = {number: str(said).lower() for number, said in (config.id2label or {}).items()}
    unnamed = {number: f"label_{number}" for number in NAMES}
    if has_head and len(names) == len(NAMES) and names not in (NAMES, unnamed):
        theirs = ", ".join(f"{number} is {said}" for number, said in sorted(names.items()))
        raise TrainingError(
            f"the head of '{name}' has other classes: {theirs}; here 0 is wrong and 1 is right",
            hint="if its classes mean the same, name them so in config.json (id2label); else train from the model "
            "without this head, or swap the rows of its weights",
        )


def _with_lora(model: Any, options: PrmConfig) -> Any:
    try:
        from peft import LoraConfig, get_peft_model
    except (ImportError, OSError) as error:
        raise MissingExtraError("peft", "train", "training with LoRA", error) from error
    config = LoraConfig(
        r=options.lora_rank,
        lora_alpha=options.lora_alpha,
        target_modules="all-linear",
        exclude_modules=["score", "classifier"],  # the head is new: it is trained whole
        task_type="TOKEN_CLS",
    )
    adapted = get_peft_model(model, config)
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    return adapted


def save_classifier(model: Any, tokenizer: Any, dtype: Any, folder: Path) -> None:
    """Write model and tokenizer in the Hugging Face format, as safetensors; LoRA adapters are merged."""
    if hasattr(model, "merge_and_unload"):
        model = model.merge_and_unload()
    model.config.use_cache = True
    model = model.to(dtype)
    require_finite_result(model)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
