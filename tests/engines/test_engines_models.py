"""Packaged models by name, and engines that plugins bring."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from genprm.engines import (
    MODELS,
    LocalEngine,
    ReplicatedEngine,
    make_engine,
    register_model,
    resolve_model,
)
from genprm.errors import ConfigError, DataError, EngineError, MissingExtraError
from genprm.rewards.discriminative.reward import DiscriminativeReward


def test_names_of_others_are_left_alone(tmp_path):
    (tmp_path / "a:b").mkdir()
    for name in ("some/model", "a-folder", "llama3:8b", "/somewhere/else", str(tmp_path / "a:b")):
        assert resolve_model(name) == name
    assert resolve_model("~/model") == str(Path.home() / "model")


def test_packaged_models_are_found_by_their_name():
    for name in ("base", "policy"):
        folder = Path(resolve_model(f"builtin:{name}"))
        assert (folder / "config.json").is_file()


def test_an_unknown_packaged_model_is_named_with_those_that_are_known():
    for make in (resolve_model, ReplicatedEngine, lambda model: make_engine("replicated", model=model)):
        with pytest.raises(ConfigError, match="builtin:polici") as caught:
            make("builtin:polici")
        assert "did you mean 'builtin:policy'?" in caught.value.hint
        assert "builtin:base" in caught.value.hint


def test_models_can_be_registered(monkeypatch):
    monkeypatch.setitem(MODELS, "mine:own", "")
    register_model("mine:own", f"{__name__}:_folder")
    assert resolve_model("mine:own") == "/the/folder"
    register_model("mine:own", f"{__name__}:_missing")
    with pytest.raises(DataError, match="not installed"):
        resolve_model("mine:own")
    register_model("mine:own", "no.such.module:function")
    with pytest.raises(ConfigError, match="mine:own"):
        resolve_model("mine:own")
    for name, target in (("mine:own", "no colon"), ("nocolon", "a:b")):
        with pytest.raises(ConfigError):
            register_model(name, target)


def _folder() -> Path:
    return Path("/the/folder")


def _missing() -> Path:
    raise DataError("the model is not installed")


async def test_a_model_that_is_not_here_is_said_before_anything_is_loaded(monkeypatch, tmp_path):
    pytest.importorskip("huggingface_hub")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setitem(sys.modules, "torch", None)  # whoever imports it gets an error
    with pytest.raises(EngineError) as caught:
        LocalEngine("models/none")
    assert caught.value.message == "models/none is neither a folder here nor a hub model on this machine"
    assert "hf download models/none" in caught.value.hint
    (tmp_path / "models--models--none" / "snapshots").mkdir(parents=True)
    with pytest.raises(MissingExtraError):
        LocalEngine("models/none")


async def test_a_discriminative_model_that_is_not_here_is_said_alike(monkeypatch, tmp_path):
    pytest.importorskip("torch")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(EngineError, match="models/none is neither a folder here nor a hub model"):
        await DiscriminativeReward("models/none").check()


def test_engines_take_packaged_models(monkeypatch):
    pytest.importorskip("torch")
    with LocalEngine("builtin:policy", device="cpu", threads=1) as engine:
        assert engine.name == "policy"
        assert Path(engine.describe()["model"]).is_dir()
    assert ReplicatedEngine("builtin:policy", replicas=1).name == "policy"


def test_a_plugins_engine_is_found_by_its_kind():
    with make_engine("tutor") as tutor:
        assert tutor.name.startswith("scripted:")
    with pytest.raises(ConfigError, match="tutor"):
        make_engine("tutor", no_such_option=1)
