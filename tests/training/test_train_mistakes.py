"""What is wrong with a job ends in one error, before the first step if it can be known then."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from test_train_sft import options, samples, train

import genprm
from genprm.aio import run_sync
from genprm.config import TrainConfig
from genprm.errors import ConfigError, EngineError, MissingExtraError, TrainingError
from genprm.training import MARKER
from genprm.training.models import load_model, load_tokenizer
from genprm.training.resume import memory_named, train_to_the_end

torch = pytest.importorskip("torch")
pytest.importorskip("trl")
pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_chat_without_anything_to_learn_is_named(base: str, tmp_path: Path) -> None:
    given = samples(3)
    asked_alone = given[1].model_copy(update={"conversations": given[1].conversations[:2]})
    with pytest.raises(TrainingError, match="chat '1' has no token to learn") as caught:
        train([given[0], asked_alone, given[2]], options(base), tmp_path, seed=0)
    assert "assistant" in caught.value.hint
    assert not list(tmp_path.iterdir()), "nothing was begun"


def test_too_little_memory_names_the_remedy_and_keeps_the_job(
    base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import LlamaModel

    def full(*_: Any, **__: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    with monkeypatch.context() as patch:
        patch.setattr(LlamaModel, "forward", full)
        with pytest.raises(TrainingError, match="more memory than there is") as caught:
            train(samples(4), options(base), tmp_path, seed=0)
    assert "train.gradient_checkpointing=true" in caught.value.hint
    assert "train.micro_batch_tokens (1024 now)" in caught.value.hint
    remedy = {"gradient_checkpointing": True, "micro_batch_tokens": 300}
    report = train(samples(4), options(base, **remedy), tmp_path, seed=0)
    assert report.steps == 3, "the remedy does not make it another job"


def test_an_error_of_another_kind_is_not_called_a_lack_of_memory(
    base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import LlamaModel

    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("shapes do not fit")

    monkeypatch.setattr(LlamaModel, "forward", broken)
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        train(samples(4), options(base), tmp_path, seed=0)


def test_memory_that_a_cpu_lacks_is_the_same_error_in_every_kind_of_training(tmp_path: Path) -> None:
    class Full:
        def add_callback(self, _: Any) -> None:
            pass

        def train(self, **_: Any) -> None:
            torch.empty(1 << 50)

    with pytest.raises(TrainingError, match="more memory than there is") as caught:
        train_to_the_end(Full(), tmp_path)
    assert "micro_batch_size" in caught.value.hint


def test_memory_that_is_missing_while_a_model_is_moved_or_loaded_is_named(
    base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import PreTrainedModel

    def full(*_: Any, **__: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    with pytest.raises(TrainingError, match="more memory than there is"), memory_named():
        full()
    monkeypatch.setattr(PreTrainedModel, "from_pretrained", full)
    with pytest.raises(TrainingError, match="there is too little memory for it") as caught:
        load_model(TrainConfig(model=base), load_tokenizer(base))
    assert "damaged" not in caught.value.hint
    with (
        pytest.raises(EngineError, match="there is too little memory for it"),
        genprm.LocalEngine(base, device="cpu") as engine,
    ):
        run_sync(engine.check())


@pytest.mark.parametrize("module", ["trl", "datasets"])
def test_a_missing_package_names_the_extra(
    base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=module) as caught:
        train(samples(2), options(base), tmp_path, seed=0)
    assert "genprm[train]" in caught.value.hint


def test_four_bits_need_bitsandbytes_and_adapters(
    base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(MissingExtraError, match="bitsandbytes") as caught:
        train(samples(2), options(base, lora_rank=2, lora_4bit=True), tmp_path, seed=0)
    assert "genprm[qlora]" in caught.value.hint
    with pytest.raises(ConfigError, match="set lora_rank"):
        TrainConfig(lora_4bit=True)


def test_an_experiment_tracker_that_is_not_installed_is_named(
    base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib.util

    known = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "trackio" else known(name, *more)
    )
    with pytest.raises(ConfigError, match=r"train\.report_to: 'trackio' is not installed") as caught:
        train(samples(2), options(base, report_to=("trackio",)), tmp_path, seed=0)
    assert "pip install trackio" in caught.value.hint
    assert not (tmp_path / MARKER).exists()
