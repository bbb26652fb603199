"""How many copies of a model a machine can take."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from genprm.engines._common.hardware import free_memory, gpus, physical_cores

_PROCESS_BYTES = 600 << 20
"""An interpreter with torch and transformers, and the states of the rows that are decoded together."""

_WEIGHTS = (".safetensors", ".bin")
_SIXTEEN_BITS = {"bfloat16", "float16"}
_GGUF_GROWTH = 8
"""A GGUF file's numbers can be as small as four bits, and are loaded with 32."""


def replica_count(model: str, options: dict[str, Any]) -> int:
    """Copies for this machine: one per physical core, as far as free memory goes, and at least one.

    With a GPU in reach (and `device` not `cpu`) it is one, because copies would share the GPU's memory.

    Args:
        model: a folder or a hub id.
        options: of the local engine.
    """
    if options.get("device", "auto") != "cpu" and gpus():
        return 1
    cores = physical_cores()
    free = free_memory()
    weights = weight_bytes(model, options.get("gguf_file"), options.get("dtype", "auto"))
    if free is None or weights is None:
        return cores
    copy = weights + (int(options.get("prefix_cache_mb", 1024)) << 20) + _PROCESS_BYTES
    return max(1, min(cores, free // copy))


def weight_bytes(model: str, gguf_file: str | None, dtype: str) -> int | None:
    """Memory that a model's weights take once they are loaded, from the sizes of its files.

    None if its files cannot be found; then loading it will fail and name the reason.
    """
    folder = _folder(model)
    if folder is None:
        return None
    if gguf_file is not None:
        file = folder / gguf_file
        return file.stat().st_size * _GGUF_GROWTH if file.is_file() else None
    for ending in _WEIGHTS:  # a folder with both kinds is loaded from the first
        sizes = [path.stat().st_size for path in folder.glob(f"*{ending}")]
        if sizes:
            return sum(sizes) * (1 if dtype in _SIXTEEN_BITS else _growth(folder))
    return None


def _growth(folder: Path) -> int:
    """What loading as float32 makes of a file's bytes."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return 1
    return 2 if (config.get("dtype") or config.get("torch_dtype")) in _SIXTEEN_BITS else 1


def _folder(model: str) -> Path | None:
    """A model's folder; for a hub id, that of the snapshot which an earlier download left here."""
    folder = Path(model)
    if folder.is_dir():
        return folder
    try:
        from huggingface_hub import snapshot_download

        return Path(snapshot_download(model, local_files_only=True))
    except (ImportError, OSError, ValueError):  # the hub's own errors are subclasses of these two
        return None
