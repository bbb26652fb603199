"""Models that cannot be trained, or not as they are: refused before the first step, with what would help."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from test_train_sft import options, samples, train

import genprm
from genprm.engines._common.model_files import positions_of
from genprm.errors import TrainingError
from genprm.records import LabelledSolution
from genprm.training.causal import require_causal
from genprm.training.models import pretrained, unreadable
from no_network import cut_off
from tiny_prm import tiny_prm

torch = pytest.importorskip("torch")
pytest.importorskip("trl")
pytestmark = pytest.mark.usefixtures("one_thread")

LABELLED = [LabelledSolution(id="s", problem="Add.", steps=("1 = 1", "1 = 2"), labels=(True, False))]
SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "initializer_range": 0.1,
}


def refused(kind: str, model: Path | str, out: Path, **more: Any) -> TrainingError:
    with pytest.raises(TrainingError) as caught:
        if kind == "chats":
            train(samples(2), options(str(model), **more), out, seed=0)
        else:
            genprm.train_prm(LABELLED, out, model=str(model), **more)
    assert not out.exists()
    return caught.value


# ---------------------------------------------------------------- causal


@pytest.mark.parametrize("kind", ["chats", "labels"])
def test_a_model_that_sees_what_is_behind_is_refused(base: str, tmp_path: Path, kind: str) -> None:
    from transformers import AutoTokenizer, BertConfig, BertForMaskedLM

    tokenizer = AutoTokenizer.from_pretrained(base)
    torch.manual_seed(0)
    config = BertConfig(vocab_size=len(tokenizer), max_position_embeddings=512, **SIZES)
    BertForMaskedLM(config).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    error = refused(kind, tmp_path / "model", tmp_path / "out")
    assert "model' is no causal model" in error.message and "BERT" in error.hint


@pytest.mark.parametrize(
    ("name", "sizes", "dtype"),
    [
        ("llama", {**SIZES, "num_key_value_heads": 2}, "float32"),
        ("qwen2", {**SIZES, "num_key_value_heads": 2}, "bfloat16"),
        ("mixtral", {**SIZES, "num_key_value_heads": 2, "num_local_experts": 2}, "float32"),
        ("mixtral", {**SIZES, "num_key_value_heads": 2, "num_local_experts": 2}, "bfloat16"),
        ("gpt2", {"n_embd": 32, "n_layer": 2, "n_head": 2}, "float32"),
        ("mamba", {"hidden_size": 32, "num_hidden_layers": 2}, "float32"),
    ],
)
def test_models_that_read_from_left_to_right_are_taken(
    name: str, sizes: dict[str, Any], dtype: str
) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    config = AutoConfig.for_model(name, vocab_size=40, **sizes)
    model = AutoModelForCausalLM.from_config(config).to(getattr(torch, dtype)).eval()
    before = torch.get_rng_state()
    require_causal(model, name)
    assert torch.equal(torch.get_rng_state(), before), "what is drawn later does not depend on it"


def test_a_decoder_without_its_mask_is_found_out() -> None:
    """As some checkpoints for embeddings are: the config is a decoder's."""
    from transformers import BertConfig, BertLMHeadModel

    torch.manual_seed(0)
    sizes = {"vocab_size": 40, "max_position_embeddings": 16, **SIZES}
    require_causal(BertLMHeadModel(BertConfig(is_decoder=True, **sizes)).eval(), "decoder")
    with pytest.raises(TrainingError, match="'encoder' is no causal model"):
        require_causal(BertLMHeadModel(BertConfig(**sizes)).eval(), "encoder")


def test_half_precision_hides_no_encoder_and_blames_no_decoder() -> None:
    """Weights as transformers draws them, where the tokens behind one change little."""
    from transformers import BertConfig, BertForMaskedLM, LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    sizes = {**SIZES, "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 4}
    sizes["initializer_range"] = 0.02
    require_causal(
        LlamaForCausalLM(LlamaConfig(vocab_size=99, **sizes)).to(torch.bfloat16).eval(), "decoder"
    )
    with pytest.raises(TrainingError, match="'encoder' is no causal model"):
        require_causal(
            BertForMaskedLM(BertConfig(vocab_size=99, **sizes)).to(torch.bfloat16).eval(), "encoder"
        )


def test_a_model_that_names_no_bound_of_its_input_is_asked_as_well() -> None:
    """XLNet calls its bound -1."""
    from transformers import XLNetConfig, XLNetLMHeadModel

    torch.manual_seed(0)
    config = XLNetConfig(vocab_size=40, d_model=32, n_layer=2, n_head=2, d_inner=32, initializer_range=0.1)
    assert positions_of(config) is None
    with pytest.raises(TrainingError, match="'xlnet' is no causal model"):
        require_causal(XLNetLMHeadModel(config).eval(), "xlnet")


# ---------------------------------------------------------------- heads


def renamed(folder: Path, *names: str) -> Path:
    """A copy of the tiny classifier whose classes have these names."""
    model = Path(shutil.copytree(tiny_prm(), folder))
    config = json.loads((model / "config.json").read_text())
    config["id2label"] = {str(number): name for number, name in enumerate(names)}
    config["label2id"] = {name: number for number, name in enumerate(names)}
    (model / "config.json").write_text(json.dumps(config))
    return model


def test_a_head_whose_classes_are_the_other_way_round_is_refused(tmp_path: Path) -> None:
    error = refused("labels", renamed(tmp_path / "model", "right", "wrong"), tmp_path / "out")
    assert "0 is right, 1 is wrong; here 0 is wrong and 1 is right" in error.message
    assert "swap the rows" in error.hint
    same = renamed(tmp_path / "same", "Wrong", "Right")
    genprm.train_prm(LABELLED, tmp_path / "out", model=str(same))
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["id2label"] == {"0": "wrong", "1": "right"}


# ---------------------------------------------------------------- what is no model, or none of this kind


@pytest.mark.parametrize("kind", ["chats", "labels"])
def test_a_file_is_no_model(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("chats.jsonl").write_text("{}\n")
    error = refused(kind, "chats.jsonl", tmp_path / "out")
    assert error.message == "cannot load 'chats.jsonl': it is a file" and "hf download" not in error.hint


def test_an_architecture_without_such_a_head_is_no_damaged_file(tmp_path: Path) -> None:
    from transformers import (
        AutoConfig,
        AutoModelForCausalLM,
        AutoModelForTokenClassification,
        MambaConfig,
        T5Config,
    )

    (tmp_path / "config.json").write_text('{"model_type": "nobody-knows-this"}')
    for load in (
        lambda: AutoModelForTokenClassification.from_config(MambaConfig()),
        lambda: AutoModelForCausalLM.from_config(T5Config()),
        lambda: AutoConfig.from_pretrained(tmp_path),
    ):
        with pytest.raises(ValueError) as caught:
            load()
        error = unreadable("model", str(tmp_path), caught.value)
        assert "has none of this kind for its architecture" in error.message
        assert "another architecture" in error.hint and "damaged" not in error.hint


@pytest.mark.slow  # the message lists every class that transformers has, so that it imports them all
def test_nor_is_it_a_question_for_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants
    from transformers import AutoModelForCausalLM

    cut_off(monkeypatch)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    kept = tmp_path / "models--org--kept"
    (kept / "snapshots" / ("0" * 40)).mkdir(parents=True)
    (kept / "snapshots" / ("0" * 40) / "config.json").write_text('{"model_type": "t5"}')
    (kept / "refs").mkdir()
    (kept / "refs" / "main").write_text("0" * 40)
    with pytest.raises(ValueError, match="Unrecognized configuration class"):
        pretrained(AutoModelForCausalLM, "org/kept", cache_dir=str(tmp_path))


@pytest.mark.parametrize(("kind", "width"), [("chats", 32), ("labels", 64)])
def test_adapters_that_are_wider_than_the_model(base: str, tmp_path: Path, kind: str, width: int) -> None:
    model = base if kind == "chats" else tiny_prm()
    error = refused(kind, model, tmp_path / "out", lora_rank=width + 1)
    assert f"lora_rank={width + 1} is above the width of the model, {width}" in error.message
    assert "such as 16" in error.hint
