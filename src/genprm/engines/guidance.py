"""Which engine suits this machine."""

from __future__ import annotations

import importlib.util

from genprm.engines._common.hardware import gpus


def advice() -> list[str]:
    """Sentences on which engine to use here; empty when there is nothing to say. Loads neither torch nor a GPU.

    On a machine with a GPU it recommends a server's engine, because `local` leaves most of a GPU unused
    (docs/decisions/0007-frozen-local-engine.md).
    """
    count = gpus()
    if not count:
        return []
    seen = "a GPU" if count == 1 else f"{count} GPUs"
    installed = importlib.util.find_spec("vllm") is not None
    how = "kind vllm" if installed else "kind vllm (pip install 'genprm[vllm]')"
    return [
        f"This machine has {seen}: use {how}, or kind http with a vLLM or SGLang server. "
        "The kinds local and replicated are for small models and CPUs."
    ]
