"""Loading and saving what is trained: model, tokenizer, LoRA adapters."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genprm.config.models import TrainConfig
from genprm.errors import ConfigError, MissingExtraError, TrainingError

PURPOSE = "training"
_HUB_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model ready for training.

    Attributes:
        model: a causal language model, wrapped by peft where LoRA is used.
        dtype: the element type that the files had; saved files get it back.
        positions: the longest input that the model can take; None where it does not say.
    """

    model: Any
    tokenizer: Any
    dtype: Any
    positions: int | None


def require_extra() -> None:
    """Import what training needs.

    Raises:
        MissingExtraError: torch, transformers or accelerate is not installed.
    """
    for module in ("torch", "transformers", "accelerate"):
        try:
            __import__(module)
        except (ImportError, OSError) as error:
            raise MissingExtraError(module, "train", PURPOSE, error) from error


def check_hub_model(name: str) -> None:
    """Raise unless a hub id is on this machine, or the hub knows it. One question of a few seconds, nothing is loaded.

    Raises:
        ConfigError: there is no such model, or the hub cannot be reached.
    """
    from huggingface_hub import HfApi, try_to_load_from_cache

    try:
        if isinstance(try_to_load_from_cache(name, "config.json"), str):
            return
        HfApi().model_info(name, timeout=_HUB_SECONDS)
    except (
        Exception
    ) as error:  # the package's errors are those of its HTTP client, which changes between versions
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ConfigError(
            f"train.model: '{name}' is no folder, is not on this machine, and the hub does not give it: {reason}",
            hint=f"Check the id and the network, run 'hf download {name}' first, or give a folder.",
        ) from error


def load_tokenizer(name: str) -> Any:
    """The tokenizer of a model folder or hub id.

    Raises:
        TrainingError: there is none to be read.
    """
    from transformers import AutoTokenizer

    if not name:
        raise TrainingError(
            "no model to train is set", hint="set train.model to a model folder or a hub id"
        )
    try:
        return AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise _unreadable("tokenizer", name, error) from error


def load_model(options: TrainConfig, tokenizer: Any, seed: int) -> Loaded:
    """The model in float32 (the optimizer's precision), with LoRA adapters where asked for.

    Args:
        seed: of the adapters' first weights.

    Raises:
        TrainingError: no readable model, or one whose embeddings are smaller than the tokenizer.
    """
    import torch
    from transformers import AutoModelForCausalLM, set_seed

    try:
        model = AutoModelForCausalLM.from_pretrained(options.model, dtype="auto")
    except (OSError, ValueError) as error:
        raise _unreadable("model", options.model, error) from error
    dtype = model.dtype
    rows = model.get_input_embeddings().weight.shape[0]
    if len(tokenizer) > rows:
        raise TrainingError(
            f"the tokenizer of {options.model} has {len(tokenizer)} tokens, its model embeds {rows}",
            hint="the tokenizer and the model do not belong together",
        )
    model.config.use_cache = False
    positions = getattr(model.config, "max_position_embeddings", None)
    set_seed(seed)
    model = _with_lora(model, options) if options.lora_rank else model.to(torch.float32)
    if options.gradient_checkpointing:
        # The old name of the method goes away with transformers 6, the new one came with a later 5.
        enable = (
            getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
        )
        enable({"use_reentrant": False})
    return Loaded(model, tokenizer, dtype, positions)


def _with_lora(model: Any, options: TrainConfig) -> Any:
    try:
        from peft import LoraConfig, get_peft_model
    except (ImportError, OSError) as error:
        raise MissingExtraError("peft", "train", "training with LoRA", error) from error
    config = LoraConfig(
        r=options.lora_rank,
        lora_alpha=options.lora_alpha,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    return get_peft_model(model, config)


def save_final(loaded: Loaded, folder: Path) -> None:
    """Write model and tokenizer in the Hugging Face format; adapters are merged, and kept in `adapter/`."""
    model = loaded.model
    if hasattr(model, "merge_and_unload"):
        model.save_pretrained(folder / "adapter")
        model = model.merge_and_unload()
    model.config.use_cache = True
    model.to(loaded.dtype).save_pretrained(folder)
    loaded.tokenizer.save_pretrained(folder)


def _unreadable(what: str, name: str, error: Exception) -> TrainingError:
    folder = Path(name)
    if folder.is_dir():
        hint = f"the folder holds no {what} that transformers can load: {str(error).splitlines()[0]}"
    elif folder.is_absolute() or name.startswith("."):
        hint = "there is no such folder"
    else:
        hint = "give a folder with a saved model, or the id of a model that this machine can download"
    return TrainingError(f"cannot load the {what} of '{name}'", hint=hint)
