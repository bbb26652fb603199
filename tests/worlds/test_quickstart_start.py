"""What the quickstart needs is asked for before it samples anything."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from genprm.config import load_config
from genprm.errors import ConfigError, MissingExtraError
from genprm.runs import Silent
from genprm.worlds.arithmetic.quickstart import QuickstartConfig, quickstart_defaults, run, run_quickstart


@pytest.fixture(autouse=True)
def nothing_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "open_store", lambda *_: pytest.fail("the synthesis began"))


async def start(folder: Path, *overrides: str) -> None:
    config = load_config(None, overrides, model=QuickstartConfig, base=quickstart_defaults())
    await run_quickstart(config, folder, Silent())


async def test_without_the_packages_of_training_nothing_is_sampled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "trl" else find(name, *more)
    )
    with pytest.raises(MissingExtraError, match="'trl', which is not installed"):
        await start(tmp_path / "run")


async def test_a_model_that_is_not_there_is_named_before_anything_is_sampled(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no folder"):
        await start(tmp_path / "run", f"train.model={tmp_path}/none")
