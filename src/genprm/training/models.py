"""Loading and saving what is trained: model, tokenizer, LoRA adapters."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, cast

from genprm.config.models import TrainConfig
from genprm.engines._common.memory import TOO_LITTLE, TOO_LITTLE_HINT, is_out_of_memory
from genprm.engines._common.model_files import is_clone_without_data, positions_of, reason_of
from genprm.engines._common.quiet import without_length_warning
from genprm.errors import ConfigError, GenPRMError, MissingExtraError, TrainingError
from genprm.hub import Refusal, hub_refusal
from genprm.training.causal import require_causal
from genprm.training.finite import require_finite_base, require_finite_result
from genprm.training.processes import is_first_process

PURPOSE = "training"
LORA = "training with LoRA"
FOUR_BITS = "train.lora_4bit"
Precision = Literal["float32", "mixed", "bfloat16"]
NEEDED = ("torch", "transformers", "accelerate", "datasets", "trl")
LOADING: dict[str, Any] = {"output_loading_info": True, "ignore_mismatched_sizes": True}
"""Arguments of `from_pretrained` with which `require_fit` finds out what does not fit, and names it."""

_UNSUPPORTED = ("Unrecognized configuration class", "does not recognize this architecture")
"""What transformers says of an architecture that it lacks, or has no model with the head that is asked for of."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model ready for training.

    Attributes:
        model: a causal language model.
        dtype: the element type that the files had; saved files get it back.
        positions: the longest input that the model can take; None if it does not say.
        precision: what is computed and kept in which type, see `TrainConfig.precision`.
        cuda: whether a GPU trains.
        adapters: the `LoraConfig` of the adapters to be trained; None for full fine-tuning.
    """

    model: Any
    tokenizer: Any
    dtype: Any
    positions: int | None
    precision: Precision
    cuda: bool
    adapters: Any = None

    @property
    def autocast(self) -> bool:
        """Whether products are computed in bfloat16 on weights of other types."""
        return self.precision == "mixed" or (self.precision == "bfloat16" and self.adapters is not None)


def require_extra() -> None:
    """Import what training needs.

    Raises:
        MissingExtraError: one of the packages of the extra `train` is not installed.
    """
    for module in NEEDED:
        try:
            __import__(module)
        except (ImportError, OSError) as error:
            raise MissingExtraError(module, "train", PURPOSE, error) from error


def require_packages(options: TrainConfig) -> None:
    """Find what training with these options will import, without importing it: cheap enough to ask before a long run.

    Raises:
        MissingExtraError: a package of the extra `train` is not installed, or of `qlora` if these options need it.
        ConfigError: an experiment tracker is not installed.
    """
    needed = [(module, "train", PURPOSE) for module in NEEDED]
    if options.lora_rank:
        needed.append(("peft", "train", LORA))
    if options.lora_4bit:
        needed.append(("bitsandbytes", "qlora", FOUR_BITS))
    for module, extra, purpose in needed:
        if importlib.util.find_spec(module) is None:
            raise MissingExtraError(module, extra, purpose)
    for tracker in options.report_to:
        if importlib.util.find_spec(tracker) is None:
            raise ConfigError(
                f"train.report_to: '{tracker}' is not installed",
                hint=f"pip install {tracker}, or leave it out",
            )


def check_hub_model(name: str) -> None:
    """Raise unless a hub id is on this machine, or the hub knows it. One question of a few seconds, nothing is loaded.

    Raises:
        ConfigError: there is no such model, or the hub cannot be reached.
    """
    from huggingface_hub import try_to_load_from_cache

    try:
        if isinstance(try_to_load_from_cache(name, "config.json"), str):
            return
    except ValueError:  # no id; the hub says why
        pass
    refused = hub_refusal("model", name)
    if refused is not None:
        raise ConfigError(f"train.model: {_nowhere(name, refused)}", hint=_nowhere_hint(name, refused))


def pretrained(factory: Any, name: str, **options: Any) -> Any:
    """`factory.from_pretrained` of a folder, of a model in the hub's cache, or of one that the hub gives.

    The cache comes first, and the hub is asked once before it is used, since without a network the libraries ask it for
    minutes.

    Raises:
        TrainingError: the model is not on this machine, and the hub does not give it.
        OSError, ValueError: what is there cannot be read.
    """
    if Path(name).is_file():
        raise TrainingError(
            f"cannot load '{name}': it is a file",
            hint="give the folder of a model, or the id of one on the hub",
        )
    if Path(name).is_dir() or _is_path(name):
        return factory.from_pretrained(name, **options)
    try:
        return factory.from_pretrained(name, local_files_only=True, **options)
    except (OSError, ValueError) as error:
        if _is_unsupported(error):  # it is here, and the hub has no other one
            raise
        refused = hub_refusal("model", name)
    if refused is not None:
        raise TrainingError(f"cannot load {_nowhere(name, refused)}", hint=_nowhere_hint(name, refused))
    return factory.from_pretrained(name, **options)


def _nowhere(name: str, refused: Refusal) -> str:
    return f"'{name}': it is not a folder, is not on this machine, and {refused.reason}"


def _nowhere_hint(name: str, refused: Refusal) -> str:
    if refused.reached:
        return "Check the id (a private model needs 'hf auth login'), or give a folder."
    return f"Check the network, or give a folder, such as 'hf download {name} --local-dir FOLDER' makes elsewhere."


def _is_path(name: str) -> bool:
    return Path(name).is_absolute() or name.startswith(".")


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
        return without_length_warning(pretrained(AutoTokenizer, name))
    except GenPRMError:
        raise
    except Exception as error:  # whatever damaged or contradictory files make the libraries raise
        raise unreadable("tokenizer", name, error) from error


def load_model(options: TrainConfig, tokenizer: Any) -> Loaded:
    """The model in the precision asked for, and the adapters that it will get.

    Raises:
        MissingExtraError: peft or bitsandbytes is needed and not installed.
        TrainingError: no readable model, one whose embeddings are smaller than the tokenizer, one with weights that are
            no numbers, one that is not causal, or adapters of a higher rank than its weights can have.
    """
    import torch

    cuda = torch.cuda.is_available()
    precision = choose_precision(options.precision, cuda=cuda)
    adapters = _adapters(options) if options.lora_rank else None
    wanted = (
        torch.bfloat16 if precision == "bfloat16" or (adapters and precision == "mixed") else torch.float32
    )
    model, dtype = _load(options, wanted, cuda=cuda)
    if is_first_process():  # of a model that will be sharded, the others hold no weights yet
        require_finite_base(model, options.model)
        require_causal(model, options.model)
    require_embeddings(model, tokenizer, options.model)
    require_rank(model, options.lora_rank)
    return Loaded(model, tokenizer, dtype, positions_of(model.config), precision, cuda, adapters)


def require_embeddings(model: Any, tokenizer: Any, name: str) -> None:
    """Raise if a tokenizer has tokens that its model has no embeddings for.

    Raises:
        TrainingError: naming both numbers.
    """
    rows = model.get_input_embeddings().weight.shape[0]
    if len(tokenizer) > rows:
        raise TrainingError(
            f"the tokenizer of {name} has {len(tokenizer)} tokens, its model embeds {rows}",
            hint="take tokenizer and weights from the same model, or resize the embeddings (resize_token_embeddings)",
        )


def require_rank(model: Any, rank: int) -> None:
    """Raise if adapters are to have a rank above the width of the model, with which they hold more than its weights.

    Raises:
        TrainingError: naming both numbers.
    """
    # Less than the width where embeddings are factorised.
    embedded = model.get_input_embeddings().weight.shape[1]
    width = max(embedded, getattr(model.config.get_text_config(), "hidden_size", 0))
    if rank > width:
        raise TrainingError(
            f"lora_rank={rank} is above the width of the model, {width}",
            hint="choose a rank far below it, such as 16, or 0 to train all weights",
        )


def choose_precision(asked: str, *, cuda: bool) -> Precision:
    """`auto` as what it stands for here: `mixed` on a GPU that computes in bfloat16, else `float32`."""
    import torch

    if asked != "auto":
        return cast("Precision", asked)
    return "mixed" if cuda and torch.cuda.is_bf16_supported() else "float32"


def _load(options: TrainConfig, wanted: Any, *, cuda: bool) -> tuple[Any, Any]:
    """The model in the wanted type, and the type of its files."""
    from transformers import AutoModelForCausalLM

    extra: dict[str, Any] = _four_bits(wanted, cuda=cuda) if options.lora_4bit else {}
    try:
        model, found = pretrained(AutoModelForCausalLM, options.model, dtype="auto", **LOADING, **extra)
        require_fit(found, options.model)
    except GenPRMError:
        raise
    except Exception as error:  # whatever damaged or contradictory files make the libraries raise
        raise unreadable("model", options.model, error) from error
    dtype = model.dtype
    return (model if options.lora_4bit else model.to(wanted)), dtype


def require_fit(found: Mapping[str, Any], name: str, new: Sequence[str] = ()) -> None:
    """Raise where a model's config and its weights do not belong together; transformers fills gaps with random numbers.

    Args:
        found: what `from_pretrained` says of the loading.
        new: prefixes of tensors that are new if the weights have none of their shape.

    Raises:
        TrainingError: naming the first tensor that is missing, of another shape, or of a layer that the config lacks.
    """
    missing = [str(key) for key in found["missing_keys"] if not str(key).startswith(tuple(new))]
    beyond = [str(key) for key in found["unexpected_keys"] if ".layers." in str(key)]
    shaped = [str(key[0]) for key in found["mismatched_keys"] if not str(key[0]).startswith(tuple(new))]
    for keys, what in (
        (sorted(missing), "the weights lack {}"),
        (sorted(shaped), "{} has another shape than the config says"),
        (sorted(beyond), "the config knows nothing of {}"),
    ):
        if keys:
            more = f" and {len(keys) - 1} more" if len(keys) > 1 else ""
            raise TrainingError(
                f"the weights of '{name}' do not fit its config.json: {what.format(keys[0] + more)}",
                hint="take config.json and weights from the same model",
            )


def _four_bits(computed_in: Any, *, cuda: bool) -> dict[str, Any]:
    import torch
    from transformers import BitsAndBytesConfig

    try:
        __import__("bitsandbytes")
    except (ImportError, OSError, RuntimeError) as error:
        raise MissingExtraError("bitsandbytes", "qlora", FOUR_BITS, error) from error
    quantized = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=computed_in,
    )
    device = torch.cuda.current_device() if cuda else "cpu"
    return {"quantization_config": quantized, "device_map": {"": device}}


def _adapters(options: TrainConfig) -> Any:
    try:
        from peft import LoraConfig
    except (ImportError, OSError) as error:
        raise MissingExtraError("peft", "train", LORA, error) from error
    return LoraConfig(
        r=options.lora_rank,
        lora_alpha=options.lora_alpha,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )


def save_final(model: Any, loaded: Loaded, folder: Path, options: TrainConfig) -> None:
    """Write model and tokenizer in the Hugging Face format; adapters are merged, and kept in `adapter/`.

    Args:
        model: what was trained, wrapped by peft if it has adapters.
        loaded: as it was loaded.
    """
    if loaded.adapters is not None:
        model.save_pretrained(folder / "adapter")
        model = (
            _merged_anew(options, folder / "adapter", loaded.dtype)
            if options.lora_4bit
            else model.merge_and_unload()
        )
    model.config.use_cache = True
    model = model.to(loaded.dtype)
    require_finite_result(model)
    model.save_pretrained(folder)
    loaded.tokenizer.save_pretrained(folder)


def _merged_anew(options: TrainConfig, adapter: Path, dtype: Any) -> Any:
    """The adapters merged into the base as its files have it, not into its four bits."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    base = pretrained(AutoModelForCausalLM, options.model, dtype=dtype)
    return PeftModel.from_pretrained(base, adapter).merge_and_unload()


def _is_unsupported(error: Exception) -> bool:
    return any(mark in str(error) for mark in _UNSUPPORTED)


def unreadable(what: str, name: str, error: Exception) -> TrainingError:
    """The error for a model or tokenizer that the libraries could not load."""
    folder = Path(name)
    message = f"cannot load the {what} of '{name}'"
    if is_out_of_memory(error):
        return TrainingError(f"{message}: {TOO_LITTLE}", hint=TOO_LITTLE_HINT)
    if what == "model" and _is_unsupported(error):
        return TrainingError(
            f"{message}: transformers {version('transformers')} has none of this kind for its architecture",
            hint="begin with a model of another architecture, such as Llama or Qwen2, or install a newer transformers if "
            "the architecture is new",
        )
    if not folder.is_dir() and _is_path(name):
        return TrainingError(
            f"{message}: there is no such folder",
            hint="give the folder of a model, or the id of one on the hub",
        )
    if folder.is_dir() and is_clone_without_data(folder):
        hint = f"its large files are pointers of Git LFS: run 'git lfs pull' in {name}"
    elif folder.is_dir():
        hint = (
            "the folder must hold config.json, weights and tokenizer as transformers saves them; if it did, a file is "
            "damaged: copy or fetch it again"
        )
    else:
        hint = f"fetch it again: 'hf download {name} --force-download'"
    return TrainingError(f"{message}: {reason_of(error)}", hint=hint)
