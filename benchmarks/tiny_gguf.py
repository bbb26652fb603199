"""Writes a tiny Llama of the built-in world as a GGUF file, so that llama.cpp can serve it.

    python benchmarks/tiny_gguf.py CHECKPOINT FILE

For Llama checkpoints with tied embeddings and a byte-level BPE tokenizer, which is what
`recipes/tiny_models` makes and the quickstart trains. Weights are written as 32-bit floats. llama.cpp has no
pre-tokenizer with this tokenizer's pattern; `smollm` cuts the built-in world's texts alike.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import gguf
import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

_LAYER = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_OUTER = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight"}


def write_gguf(checkpoint: Path, target: Path) -> None:
    """Write the model and the tokenizer of `checkpoint` to `target`."""
    config = json.loads((checkpoint / "config.json").read_text())
    writer = gguf.GGUFWriter(target, "llama")
    writer.add_name(checkpoint.name)
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_rope_dimension_count(config["head_dim"])
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    _add_tokenizer(writer, checkpoint, config)
    for name, tensor in load_file(checkpoint / "model.safetensors").items():
        _add_tensor(writer, name, tensor.astype(np.float32), config["num_attention_heads"])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_tensor(writer: gguf.GGUFWriter, name: str, tensor: NDArray[np.float32], heads: int) -> None:
    if name == "lm_head.weight":
        return  # tied
    if name in _OUTER:
        writer.add_tensor(_OUTER[name], tensor)
        return
    _, _, layer, part = name.removesuffix(".weight").split(".", 3)
    if part.endswith(("q_proj", "k_proj")):
        # transformers rotates halves of a head, llama.cpp neighbouring pairs.
        rows, width = tensor.shape
        halves = tensor.reshape(heads, 2, rows // heads // 2, width)
        tensor = np.ascontiguousarray(halves.swapaxes(1, 2).reshape(rows, width))
    writer.add_tensor(f"blk.{layer}.{_LAYER[part]}.weight", tensor)


def _add_tokenizer(writer: gguf.GGUFWriter, checkpoint: Path, config: dict[str, int]) -> None:
    tokenizer = json.loads((checkpoint / "tokenizer.json").read_text())
    texts = [""] * config["vocab_size"]
    kinds = [gguf.TokenType.NORMAL] * config["vocab_size"]
    for text, token in tokenizer["model"]["vocab"].items():
        texts[token] = text
    for entry in tokenizer["added_tokens"]:
        texts[entry["id"]] = entry["content"]
        kinds[entry["id"]] = gguf.TokenType.CONTROL if entry["special"] else gguf.TokenType.USER_DEFINED
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(texts)
    writer.add_token_types(kinds)
    writer.add_token_merges([" ".join(pair) for pair in tokenizer["model"]["merges"]])
    writer.add_eos_token_id(config["eos_token_id"])
    writer.add_pad_token_id(config["pad_token_id"])
    writer.add_add_bos_token(False)
    writer.add_chat_template((checkpoint / "chat_template.jinja").read_text())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("file", type=Path)
    options = parser.parse_args()
    if not (options.checkpoint / "config.json").is_file():
        parser.error(f"{options.checkpoint} is no directory of a checkpoint: it has no config.json")
    write_gguf(options.checkpoint, options.file)
