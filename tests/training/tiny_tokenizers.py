"""Tokenizers made on the spot, with any chat template."""

from __future__ import annotations

from typing import Any


def byte_tokenizer(template: str, merges: list[str] = []) -> Any:  # noqa: B006
    """Every byte is a token; `merges` are tokens of several characters that straddle boundaries."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE({c: i for i, c in enumerate(alphabet)}, []))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens(["<|im_start|>", "<|im_end|>", "<pad>"])
    core.add_tokens([AddedToken(merge, normalized=False) for merge in merges])
    return PreTrainedTokenizerFast(
        tokenizer_object=core, eos_token="<|im_end|>", pad_token="<pad>", chat_template=template
    )


def word_tokenizer(template: str) -> Any:
    """Words and punctuation are tokens; white space is dropped."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=core, unk_token="[UNK]", chat_template=template)
