"""A token-classification model with untrained weights, small enough to be made on the spot."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

from genprm.text.step_tokens import KEY, StepLayout

CONTEXT = 256


@functools.cache
def tiny_prm(architecture: str = "llama", *, says_layout: bool = True) -> str:
    """The folder of a model of 2 layers with the built-in world's tokenizer; kept until the process ends."""
    import torch
    from transformers import AutoConfig, AutoModelForTokenClassification, AutoTokenizer

    from genprm.worlds.arithmetic.tiny import base_checkpoint

    folder = tempfile.TemporaryDirectory(prefix="tiny-prm-")
    _FOLDERS.append(folder)
    tokenizer = AutoTokenizer.from_pretrained(base_checkpoint())
    config = AutoConfig.for_model(
        architecture,
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT,
        num_labels=2,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=1,
        initializer_range=0.1,
    )
    if says_layout:
        setattr(config, KEY, StepLayout().facts())
    torch.manual_seed(0)
    AutoModelForTokenClassification.from_config(config).save_pretrained(folder.name)
    tokenizer.save_pretrained(folder.name)
    return str(Path(folder.name))


_FOLDERS: list[tempfile.TemporaryDirectory[str]] = []
