"""What decides an engine's completions: every option of every engine, classified."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from genprm.config import EngineConfig
from genprm.engines import (
    ENGINES,
    MODELS,
    LocalEngine,
    Request,
    SamplingParams,
    ScriptedEngine,
    engine_class,
    engine_identity,
    register_model,
)
from genprm.engines.identity import described_identity
from genprm.engines.table import option_defaults
from genprm.errors import ConfigError
from genprm.identity import content_key

# For every engine: its base options, the options that decide (with another value), and those that do not.
LOCAL_DECIDES = {"model": "other/model", "dtype": "bfloat16", "max_context": 99, "gguf_file": "other.gguf"}
LOCAL_MACHINE = {"device": "cuda", "batch_size": 7, "threads": 3, "prefix_cache_mb": 7}
TABLE: list[tuple[str, dict[str, Any], dict[str, Any], dict[str, Any]]] = [
    (
        "http",
        {},
        {
            "base_urls": "http://elsewhere:1",
            "model": "other/model",
            "api": "chat",
            "tokenizer": "other/tokenizer",
        },
        {
            "api_key_env": "OTHER_KEY",
            "timeout": 7.0,
            "max_concurrency": 7,
            "retries": 7,
            "retry_seconds": 7.0,
            "name": "another",
        },
    ),
    (
        "http",
        {"model": "some/model"},
        {"model": "other/model", "api": "chat", "tokenizer": "other/tokenizer"},
        {
            "base_urls": ["http://elsewhere:1", "http://elsewhere:2"],
            "api_key_env": "OTHER_KEY",
            "timeout": 7.0,
            "max_concurrency": 7,
            "retries": 7,
            "retry_seconds": 7.0,
            "name": "another",
        },
    ),
    (
        "local",
        {"model": "some/model"},
        {**LOCAL_DECIDES, **LOCAL_MACHINE, "deterministic": True},
        {"name": "another"},
    ),
    (
        "local",
        {"model": "some/model", "deterministic": True},
        {**LOCAL_DECIDES, "deterministic": False},
        {**LOCAL_MACHINE, "name": "another"},
    ),
    (
        "replicated",
        {"model": "some/model"},
        {**LOCAL_DECIDES, **LOCAL_MACHINE, "deterministic": True, "replicas": 7},
        {"name": "another"},
    ),
    (
        "replicated",
        {"model": "some/model", "deterministic": True},
        {**LOCAL_DECIDES, "deterministic": False},
        {**LOCAL_MACHINE, "name": "another", "replicas": 7},
    ),
    (
        "vllm",
        {"model": "some/model"},
        {
            "model": "other/model",
            "dtype": "float16",
            "max_context": 99,
            "seed": 7,
            "quantization": "fp8",
            "tokenizer": "other/tokenizer",
        },
        {"name": "another", "max_logprobs": 7},
    ),
    ("scripted", {"respond": len}, {"respond": sum, "name": "another"}, {}),
    ("tutor", {}, {"style": "plain"}, {}),
]
IDS = [f"{kind}{sorted(base)}" for kind, base, _, _ in TABLE]


def key(kind: str, options: dict[str, Any]) -> str:
    identity = engine_identity(EngineConfig(kind=kind, options=options))
    assert json.loads(json.dumps(identity)) == identity
    return content_key(identity)


@pytest.mark.parametrize(("kind", "base", "deciding", "neutral"), TABLE, ids=IDS)
def test_every_option_is_classified_and_the_identity_follows(kind, base, deciding, neutral):
    classified = deciding.keys() | neutral.keys()
    known = option_defaults(engine_class(kind))
    assert known.keys() <= classified, f"classify {sorted(known.keys() - classified)} in this table"
    assert not deciding.keys() & neutral.keys()
    usual = key(kind, base)
    for name, value in deciding.items():
        assert key(kind, {**base, name: value}) != usual, f"{name} decides"
    for name, value in neutral.items():
        assert key(kind, {**base, name: value}) == usual, f"{name} changes no completion"


def test_the_table_has_every_kind():
    key("tutor", {})  # loads the plugins
    built_in = {kind for kind, target in ENGINES.items() if target.startswith("genprm.")}
    assert {kind for kind, *_ in TABLE} == built_in


def test_writing_a_default_changes_nothing():
    for kind, base, _, _ in TABLE:
        defaults = {
            name: default
            for name, default in option_defaults(engine_class(kind)).items()
            if name not in base and default is not option_defaults(LocalEngine)["model"]
        }
        assert key(kind, {**defaults, **base}) == key(kind, base)


def test_copies_that_write_what_one_engine_writes_are_that_engine():
    """That they write the same is shown in test_engines_replicas.py."""
    exact = {"model": "some/model", "deterministic": True}
    assert key("replicated", {**exact, "replicas": 3}) == key("local", exact)
    assert key("replicated", {"model": "some/model"}) != key("local", {"model": "some/model"})


def folder_with(path: Path, weights: bytes) -> Path:
    path.mkdir()
    (path / "config.json").write_text("{}")
    (path / "model.safetensors").write_bytes(weights)
    return path


@pytest.mark.parametrize("kind", ["local", "replicated", "vllm", "http"])
def test_a_model_on_this_machine_is_known_by_its_files(kind, tmp_path):
    first = folder_with(tmp_path / "first", b"old")
    second = Path(shutil.copytree(first, tmp_path / "second"))
    before = key(kind, {"model": str(first)})
    assert key(kind, {"model": str(second)}) == before, "the path is not the model"
    (first / "model.safetensors").write_bytes(b"new")
    assert key(kind, {"model": str(first)}) != before, "trained anew at the same path"


def test_a_tokenizer_on_this_machine_is_known_by_its_files(tmp_path):
    folder = folder_with(tmp_path / "tokenizer", b"")
    before = key("http", {"model": "some/model", "tokenizer": str(folder)})
    (folder / "tokenizer.json").write_text("{}")
    assert key("http", {"model": "some/model", "tokenizer": str(folder)}) != before


def test_a_packaged_model_is_known_by_its_files(tmp_path, monkeypatch):
    folder = folder_with(tmp_path / "packaged", b"old")
    monkeypatch.setattr(f"{__name__}._packaged", lambda: folder)
    monkeypatch.setitem(MODELS, "builtin:here", "")
    register_model("builtin:here", f"{__name__}:_packaged")
    assert key("local", {"model": "builtin:here"}) == key("local", {"model": str(folder)})


def _packaged() -> Path:
    raise NotImplementedError


def test_what_nothing_identifies_is_a_config_error():
    with pytest.raises(ConfigError, match="quantization"):
        key("vllm", {"model": "some/model", "quantization": object()})
    with pytest.raises(ConfigError, match="unknown engine kind"):
        key("no such kind", {})


async def test_an_engine_made_by_hand_says_what_decides(tiny_model):
    pytest.importorskip("torch")

    async def of(**options: Any) -> str:
        async with LocalEngine(tiny_model, threads=1, **options) as engine:
            await engine.check()
            return content_key(described_identity(engine))

    exact = {"deterministic": True, "device": "cpu"}
    usual = await of(**exact)
    assert await of(**exact, batch_size=3, prefix_cache_mb=1, name="another") == usual
    assert await of(**exact, max_context=99) != usual
    assert await of(batch_size=3) != await of(batch_size=4)
    assert described_identity(ScriptedEngine(str)) != described_identity(
        ScriptedEngine(str, name="another")
    )


@pytest.mark.parametrize("threads", [2, None])
async def test_threads_change_nothing_in_a_deterministic_engine(tiny_model, threads):
    """Why `threads` is neutral there."""
    pytest.importorskip("torch")
    params = SamplingParams(temperature=1.0, max_tokens=24, seed=7, logprobs=2)
    requests = [
        Request(prompt="Step 1: 3 + 4 = 7. " * (1 + n % 5), params=params, sample=n) for n in range(12)
    ]
    outcomes = []
    for count in (1, threads):
        async with LocalEngine(tiny_model, threads=count, deterministic=True, device="cpu") as engine:
            outcomes.append([(one.text, one.tokens) for one in await engine.generate(requests)])
    assert outcomes[0] == outcomes[1]
