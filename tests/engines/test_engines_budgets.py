"""A token budget that fills a model's context alone is a mistake in the config, found before anything is asked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from genprm.config import EngineConfig
from genprm.engines import ScriptedEngine, check_budget, check_declared_budget
from genprm.errors import ConfigError


class Known(ScriptedEngine):
    """An engine that knows its context."""

    def __init__(self, context: Any) -> None:
        super().__init__(lambda request: "")
        self._context = context

    def describe(self) -> dict[str, Any]:
        return {**super().describe(), "max_context": self._context}


@pytest.mark.parametrize(("tokens", "context", "fits"), [
    (1023, 1024, True), (1024, 1024, False), (2048, 1024, False), (10**6, None, True),
])  # fmt: skip
def test_a_budget_leaves_tokens_for_a_prompt(tokens: int, context: int | None, fits: bool) -> None:
    if fits:
        assert check_budget(Known(context), tokens, "solutions.max_tokens") is None
        return
    with pytest.raises(
        ConfigError, match=f"solutions.max_tokens is {tokens}, but the context of"
    ) as caught:
        check_budget(Known(context), tokens, "solutions.max_tokens")
    assert f"holds {context} tokens" in caught.value.message
    assert "--set solutions.max_tokens=N" in caught.value.hint


def folder(tmp_path: Path, content: object) -> str:
    (tmp_path / "config.json").write_text(json.dumps(content))
    return str(tmp_path)


@pytest.mark.parametrize(
    ("content", "options", "limit"),
    [
        ({"max_position_embeddings": 512}, {}, 512),
        ({"n_positions": 512}, {}, 512),
        ({"text_config": {"max_position_embeddings": 512}}, {}, 512),
        ({"max_position_embeddings": 512}, {"max_context": 256}, 256),
        ({"max_position_embeddings": 512}, {"max_context": 1024}, 512),
        ({}, {"max_context": 256}, 256),
    ],
)
def test_a_folder_declares_its_context(
    tmp_path: Path, content: object, options: dict[str, Any], limit: int
) -> None:
    config = EngineConfig(kind="local", options={"model": folder(tmp_path, content), **options})
    check_declared_budget(config, limit - 1, "verify.max_tokens")
    with pytest.raises(ConfigError, match=f"holds {limit} tokens"):
        check_declared_budget(config, limit, "verify.max_tokens")


def test_packaged_models_declare_theirs() -> None:
    config = EngineConfig(kind="replicated", options={"model": "builtin:policy"})
    with pytest.raises(ConfigError, match="holds 1024 tokens"):
        check_declared_budget(config, 2048, "solutions.max_tokens")


@pytest.mark.parametrize(
    "content",
    [{}, [], {"max_position_embeddings": "many"}, {"max_position_embeddings": -1}, {"text_config": 3}],
)
def test_what_declares_nothing_is_left_to_the_engine(tmp_path: Path, content: object) -> None:
    for model in (folder(tmp_path, content), "org/model", str(tmp_path / "nowhere")):
        config = EngineConfig(kind="local", options={"model": model})
        assert check_declared_budget(config, 10**9, "verify.max_tokens") is None


def test_a_served_model_is_not_looked_for_here() -> None:
    """The server's name for a model may be that of a folder on this machine, or of nothing."""
    config = EngineConfig(options={"base_urls": "http://127.0.0.1:9", "model": "builtin:policy"})
    assert check_declared_budget(config, 10**9, "solutions.max_tokens") is None
