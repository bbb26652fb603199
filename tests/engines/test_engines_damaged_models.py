"""A model folder that a broken download or a hand left: one error that says what is wrong, and no traceback."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from genprm.config import TrainConfig
from genprm.engines import LocalEngine, Request, SamplingParams
from genprm.errors import EngineError, EngineRequestError, TrainingError
from genprm.records import ChatMessage

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 5\n"


def cut(file: Path) -> None:
    data = file.read_bytes()
    file.write_bytes(data[: len(data) // 2])


def with_value(name: str, value: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        file = folder / "config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), name: value}))

    return change


DAMAGES: dict[str, Callable[[Path], object]] = {
    "weights that were cut off": lambda folder: cut(folder / "model.safetensors"),
    "no byte of the weights": lambda folder: (folder / "model.safetensors").write_bytes(b""),
    "weights left in Git LFS": lambda folder: (folder / "model.safetensors").write_text(POINTER),
    "a tokenizer that was cut off": lambda folder: cut(folder / "tokenizer.json"),
    "a config that is a list": lambda folder: (folder / "config.json").write_text("[]"),
    "a config of a wrong type": with_value("vocab_size", "x"),
    "a config that contradicts itself": with_value("num_attention_heads", 7),
}
CHAT = Request(messages=(ChatMessage(role="user", content="x"),), params=SamplingParams(max_tokens=2))


@pytest.fixture
def folder(tmp_path: Path, tiny_model: Path) -> Path:
    return Path(shutil.copytree(tiny_model, tmp_path / "model"))


async def first_error(folder: Path) -> EngineError:
    try:
        engine = LocalEngine(str(folder))
    except EngineError as error:
        return error
    (found,) = await engine.generate([CHAT])
    await engine.aclose()
    assert found.error is not None
    return found.error


@pytest.mark.parametrize("damage", DAMAGES)
async def test_the_local_engine_says_what_it_cannot_load(folder: Path, damage: str) -> None:
    DAMAGES[damage](folder)
    error = await first_error(folder)
    assert f"cannot load {folder}" in error.message and "\n" not in error.message
    assert ("git lfs pull" in error.hint) is (damage == "weights left in Git LFS")


async def test_a_template_that_does_not_run_is_a_typed_error(folder: Path) -> None:
    (folder / "chat_template.jinja").write_text("{% for")
    error = await first_error(folder)
    assert isinstance(error, EngineRequestError)
    assert "chat template" in error.message


@pytest.mark.parametrize("damage", DAMAGES)
def test_training_says_what_it_cannot_load(folder: Path, damage: str) -> None:
    pytest.importorskip("trl")
    from genprm.training.models import load_model, load_tokenizer

    DAMAGES[damage](folder)
    with pytest.raises(TrainingError, match="cannot load the") as error:
        load_model(TrainConfig(model=str(folder)), load_tokenizer(str(folder)))
    assert "\n" not in error.value.hint
    assert ("git lfs pull" in error.value.hint) is (damage == "weights left in Git LFS")
