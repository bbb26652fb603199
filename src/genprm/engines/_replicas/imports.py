"""What every copy of a local model imports. The process that copies are forked from imports it once, for all of them."""

from __future__ import annotations

from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM, PreTrainedTokenizerFast

from genprm.engines._local import loading, scheduler, vocab

__all__ = [
    "AutoModelForCausalLM",
    "AutoTokenizer",
    "LlamaForCausalLM",
    "PreTrainedTokenizerFast",
    "loading",
    "scheduler",
    "vocab",
]
