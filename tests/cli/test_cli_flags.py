"""What flags and a config add up to."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from genprm.api.evaluation import named_splits
from genprm.cli.evaluate import _short
from genprm.cli.flags import engine_flags, kept_in, settings
from genprm.cli.main import app
from genprm.cli.scaling import _config
from genprm.config import EngineConfig, RunConfig, dump_config
from genprm.errors import ConfigError
from genprm.worlds.arithmetic.quickstart import QuickstartConfig, quickstart_defaults

SERVER = EngineConfig(
    options={"base_urls": "http://a:1", "tokenizer": "models/t", "model": "m"}, cache=True
)


@pytest.mark.parametrize(
    ("model", "url", "role", "options"),
    [
        (None, "b:2", SERVER, {"base_urls": "http://b:2", "tokenizer": "models/t", "model": "m"}),
        ("n", "https://b", SERVER, {"base_urls": "https://b", "tokenizer": "models/t", "model": "n"}),
        (None, None, SERVER, SERVER.options),
        ("n", "b:2", None, {"base_urls": "http://b:2", "model": "n"}),
        (None, "b:2", EngineConfig(kind="vllm", options={"model": "m"}), {"base_urls": "http://b:2"}),
        ("folder", None, SERVER, {"model": "folder"}),
    ],
)
def test_flags_change_what_they_name_and_keep_a_servers_other_options(
    model: str | None, url: str | None, role: EngineConfig | None, options: dict[str, str]
) -> None:
    found = engine_flags(model, url, "", role)
    assert found.options == options
    assert found.cache == (role is not None and role.kind == found.kind)


def test_no_engine_at_all_names_the_flags() -> None:
    for what, flags in (("", "--url"), ("policy", "--policy-url")):
        with pytest.raises(ConfigError) as caught:
            engine_flags(None, None, what)
        assert flags in caught.value.hint


def quickstart_run(tmp_path: Path, *, run: bool) -> Path:
    config = QuickstartConfig.model_validate(quickstart_defaults())
    (tmp_path / "config.yaml").write_text(dump_config(config))
    if run:
        (tmp_path / "run.json").write_text("{}")
    return tmp_path / "config.yaml"


def test_the_config_in_a_quickstarts_directory_is_a_config_of_a_run(tmp_path: Path) -> None:
    found = settings(quickstart_run(tmp_path, run=True), ["verify.votes=3"])
    assert found.verify.votes == 3
    assert (
        dump_config(found.model_copy(update={"verify": found.verify.model_copy(update={"votes": 1})}))
        == (tmp_path / "config.yaml").read_text()
    )
    with pytest.raises(ConfigError, match=r"unknown key 'solutions\.maxtokens'") as caught:
        settings(tmp_path / "config.yaml", ["solutions.maxtokens=3"])
    assert "evaluation" not in str(caught.value), "that one is no mistake"


def test_elsewhere_an_unknown_section_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unknown key 'evaluation'"):
        settings(quickstart_run(tmp_path, run=False), None)
    assert type(settings(None, None)) is RunConfig


@pytest.mark.parametrize(
    ("override", "split"),
    [([], "eval"), (["problems.split=eval-long"], "eval-long"), (["problems.split=train"], "train")],
)
def test_problems_of_the_built_in_world_are_held_out_unless_a_split_is_named(
    override: list[str], split: str
) -> None:
    found = _config("arithmetic", None, None, None, override, "builtin:policy", None, seed=None)
    assert found.problems.split == split


def test_files_of_a_benchmark_are_named_after_splits() -> None:
    assert list(named_splits([Path("a/gsm8k.json"), Path("math.jsonl.gz"), Path("omni.csv")])) == [
        "gsm8k", "math", "omni",
    ]  # fmt: skip
    hub = Path("hub:Qwen/ProcessBench")
    assert named_splits([hub]) == dict.fromkeys(("gsm8k", "math", "olympiadbench", "omnimath"), hub)
    with pytest.raises(ConfigError, match="are both the split 'math'"):
        named_splits([hub, Path("math.json")])
    with pytest.raises(ConfigError, match="are both the split 'math'"):
        named_splits([Path("a/math.json"), Path("b/math.parquet")])


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"model": "org/GenPRM-7B", "base_urls": "http://h"}, "GenPRM-7B"),
        ({"model": "builtin:verifier"}, "builtin-verifier"),
        ({"base_urls": "http://127.0.0.1:8000"}, "127.0.0.1-8000"),
        ({}, "model"),
    ],
)
def test_a_run_is_named_after_the_model_or_its_server(options: dict[str, str], name: str) -> None:
    assert _short(EngineConfig(options=options)) == name


def test_an_interrupt_says_if_nothing_is_kept(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt, match="Nothing is kept without --run-dir"), kept_in(None):
        raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt) as caught, kept_in(tmp_path):
        raise KeyboardInterrupt
    assert not caught.value.args


WRITING = {
    "-o": "run quickstart label train train-prm train-grpo train-dpo export import decontaminate eval verify sample "
    "best-of-n refine",
    "--run-dir": "run quickstart eval verify best-of-n refine",
}


@pytest.mark.parametrize(
    ("flag", "command"), [(flag, command) for flag, names in WRITING.items() for command in names.split()]
)
def test_an_empty_name_of_what_is_written_is_not_the_current_folder(flag: str, command: str) -> None:
    """What a shell makes of -o "$OUT" if there is no such variable."""
    done = CliRunner().invoke(app, [command, flag, "", "a", "b"])
    assert done.exit_code == 2
    assert "it is empty; '.' is the current folder" in done.output


def test_an_option_that_names_what_is_written_has_a_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["quickstart", "train.epochs=0"])
    assert isinstance(done.exception, ConfigError), done.exception
    assert "train.epochs" in done.exception.message
