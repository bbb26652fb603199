"""The tiny Llama of the arithmetic world: tokenizer, model, and where the shipped checkpoints lie.

The tokenizer is a byte-level BPE, so any text can be encoded. Digits are tokens of their own, and so are
the marks of a rationale, where splitting the text at a newline never changes how the rest is cut.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from genprm.errors import DataError, MissingExtraError
from genprm.worlds.arithmetic.grammar import NAMES

ASSETS = Path(__file__).parent / "assets"
CONTEXT = 1024
VOCABULARY = 900
SPECIAL = ("<|pad|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>")
MARKS = (
    "<analyze>\n", "\n</analyze>\n", "<verify>\n", "</verify>\n", "<output>\n", "\n</output>", "```python\n",
    "\n```\n", "[Code Output]\n\n```\n", "**Judgement**: $\\boxed", "}$", "\\boxed{", "print(", "Step ", "\n\n",
    " + ", " - ", " * ", " / ", " = ", " == ",
)  # fmt: skip
# A name and the verb after it are one token, too: what follows a name can then be looked up by the token
# before it, which a model of four layers learns much sooner than to look two tokens back.
NAMED = tuple(
    f" {name} {verb}" for name in NAMES for verb in ("= ", "owns ", "has ", "had ", "needs ", "could ")
)
_WORDS = r"\d| ?[A-Za-z]+| ?[^\sA-Za-z\d]|\s"
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def base_checkpoint() -> Path:
    """Folder of the shipped base: pretrained on the world, without judgements.

    Raises:
        DataError: this installation does not carry the checkpoints.
    """
    return _asset("base")


def policy_checkpoint() -> Path:
    """Folder of the shipped policy: solves, completes and rewrites, with the habits of its corpus.

    Raises:
        DataError: this installation does not carry the checkpoints.
    """
    return _asset("policy")


def verifier_checkpoint() -> Path:
    """Folder of the shipped verifier: the base, trained on the world's consensus-filtered rationales.

    Raises:
        DataError: this installation does not carry the checkpoints.
    """
    return _asset("verifier")


def _asset(name: str) -> Path:
    folder = ASSETS / name
    if not (folder / "config.json").is_file():
        raise DataError(
            f"the tiny {name} checkpoint is not installed at {folder}",
            hint="install a wheel or a full clone, or make the checkpoints with recipes/tiny_models",
        )
    return folder


def build_tokenizer(texts: Iterable[str]) -> Any:
    """Train the tokenizer of the tiny models and return it as a `PreTrainedTokenizerFast`.

    Raises:
        MissingExtraError: transformers is not installed.
    """
    try:
        from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
        from transformers import PreTrainedTokenizerFast
    except (ImportError, OSError) as error:
        raise MissingExtraError("transformers", "local", "making a tokenizer", error) from error

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - len(MARKS) - len(NAMED),
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_tokens([AddedToken(mark, normalized=False, special=False) for mark in (*MARKS, *NAMED)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=SPECIAL[0],
        eos_token=SPECIAL[1],
        additional_special_tokens=list(SPECIAL[2:]),
        chat_template=CHAT_TEMPLATE,
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )


def build_model(tokenizer: Any, width: int = 128, layers: int = 4, heads: int = 4) -> Any:
    """A fresh tiny `LlamaForCausalLM` for a tokenizer.

    Raises:
        MissingExtraError: transformers or torch is not installed.
    """
    try:
        from transformers import LlamaConfig, LlamaForCausalLM
    except (ImportError, OSError) as error:
        raise MissingExtraError("transformers", "local", "making a tiny model", error) from error

    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=width * 3,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
    )
    return LlamaForCausalLM(config)
