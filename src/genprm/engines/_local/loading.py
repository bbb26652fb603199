"""Finding, checking and loading a model and its tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers

from genprm.engines._common.memory import TOO_LITTLE, TOO_LITTLE_HINT, is_out_of_memory
from genprm.engines._common.model_files import is_clone_without_data, positions_of, reason_of, require_here
from genprm.engines._common.quiet import quiet
from genprm.errors import EngineError


def load_tokenizer(model: str, gguf_file: str | None) -> Any:
    """The tokenizer that belongs to a model directory or cached hub id."""
    return _load(transformers.AutoTokenizer, model, gguf_file)


def load_model(model: str, gguf_file: str | None, device: torch.device, dtype: torch.dtype) -> Any:
    """The causal language model, in evaluation mode on its device."""
    loaded = _load(transformers.AutoModelForCausalLM, model, gguf_file, dtype=dtype)
    try:
        return loaded.to(device).eval().requires_grad_(False)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise _without_memory(model) from error


def _load(factory: Any, model: str, gguf_file: str | None, **options: Any) -> Any:
    """Load from disk only: a directory, or a hub id that an earlier download left in the cache."""
    require_here(model)
    path = Path(model).expanduser()
    if gguf_file is not None:
        if not (path / gguf_file).is_file():
            raise EngineError(f"there is no file {gguf_file} in {model}", hint="check gguf_file")
        options["gguf_file"] = gguf_file
    source = str(path) if path.is_dir() else model
    try:
        with quiet():
            return factory.from_pretrained(source, local_files_only=True, **options)
    except Exception as error:  # whatever damaged or contradictory files make the libraries raise
        if is_out_of_memory(error):
            raise _without_memory(model) from error
        raise EngineError(f"cannot load {model}: {reason_of(error)}", hint=_hint(path, model)) from error


def _without_memory(model: str) -> EngineError:
    return EngineError(f"cannot load {model}: {TOO_LITTLE}", hint=TOO_LITTLE_HINT)


def _hint(path: Path, model: str) -> str:
    if path.is_dir() and is_clone_without_data(path):
        return f"its large files are pointers of Git LFS: run `git lfs pull` in {model}"
    if path.is_dir():
        return (
            "the directory must hold config.json, the weights and the tokenizer of a causal language model"
        )
    return (
        f"some of its files are not on this machine: run `hf download {model}`, or give a local directory"
    )


def choose_device(name: str) -> torch.device:
    """`auto` takes a GPU if torch sees one."""
    if name != "auto":
        return torch.device(name)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """`auto` is float32 on a CPU (16-bit types are slower there) and bfloat16 on a GPU."""
    if name == "auto":
        return torch.float32 if device.type == "cpu" else torch.bfloat16
    dtype = getattr(torch, name, None)
    if not isinstance(dtype, torch.dtype):
        raise EngineError(f"unknown dtype '{name}'", hint="use auto, float32, float16 or bfloat16")
    return dtype


def end_tokens(model: Any, tokenizer: Any) -> list[int]:
    """Ids that end a turn: what the generation config says, and the tokenizer's end token."""
    found: set[int] = set()
    for value in (getattr(model.generation_config, "eos_token_id", None), tokenizer.eos_token_id):
        if isinstance(value, int):
            found.add(value)
        elif value is not None:
            found.update(int(token) for token in value)
    return sorted(found)


def context_limit(model: Any, asked: int | None) -> int:
    """Most tokens of a prompt and its completion together.

    Attention masks are full and causal here, so a model with a sliding window is used up to its window
    only, where both mean the same; a model whose layers keep another kind of state is refused.
    """
    config = model.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    unsupported = kinds - {"full_attention", "sliding_attention", "attention"}
    if unsupported:
        raise EngineError(
            f"layers of type {', '.join(sorted(unsupported))} keep no plain key-value cache",
            hint="serve this model with vLLM or llama.cpp and use the http engine",
        )
    limits = [positions_of(config), asked]
    if "sliding_attention" in kinds:
        limits.append(getattr(config, "sliding_window", None))
    known = [int(limit) for limit in limits if limit]
    if not known:
        raise EngineError("the model's config names no context length", hint="set max_context")
    return min(known)
