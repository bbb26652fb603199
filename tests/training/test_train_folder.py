"""What training does with its output folder and its model's name: nothing of the user's is lost, and nothing is left."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from test_train_sft import PROFILE, options, samples, train
from typer.testing import CliRunner

import genprm
from genprm.cli.main import app
from genprm.config import PrmConfig, TrainConfig
from genprm.engines._common.chats import ChatTokenizer
from genprm.errors import TrainingError
from genprm.records import LabelledSolution, TrainingSample
from genprm.sources import write_layout
from genprm.training import MARKER, sft, trainer
from genprm.training.folder import JobFolder
from genprm.training.models import load_tokenizer, pretrained
from no_network import cut_off

torch = pytest.importorskip("torch")
pytest.importorskip("trl")
pytestmark = pytest.mark.usefixtures("one_thread")


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


@pytest.mark.parametrize("name", ["README.md", "config.json", "checkpoints/checkpoint-1/notes", ".hidden"])
def test_an_occupied_folder_is_refused_and_untouched(base: str, tmp_path: Path, name: str) -> None:
    out = tmp_path / "out"
    (out / name).parent.mkdir(parents=True)
    (out / name).write_text("mine")
    with pytest.raises(TrainingError, match="out is not empty") as caught:
        train(samples(4), options(base), out, seed=0)
    assert "another output folder" in caught.value.hint
    assert contents(out) == {name: b"mine"}


def test_a_folder_that_cannot_be_made_is_an_error_before_the_work(base: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for out in (tmp_path / "file", tmp_path / "file" / "model"):
        with pytest.raises(TrainingError, match=r"cannot write to the output folder .*: Not a directory"):
            train(samples(4), options("no model is asked for"), out, seed=0)
    assert contents(tmp_path) == {"file": b"mine"}


def test_a_job_that_fails_before_its_first_checkpoint_leaves_the_folder_to_another(
    base: str, tmp_path: Path
) -> None:
    with pytest.raises(TrainingError, match="not finite at step 2"):
        train(samples(8), options(base, learning_rate=1e30), tmp_path, seed=0)
    assert not list(tmp_path.iterdir())
    assert train(samples(8), options(base, epochs=1), tmp_path, seed=0).steps == 2


def test_a_job_that_its_user_ends_leaves_the_folder_too(
    base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also after an attempt that was killed; logs stay, and are in nobody's way."""
    out = tmp_path / "out"

    def log_and_end(_: Any) -> None:
        (out / "logs").mkdir(exist_ok=True)
        (out / "logs" / "events").write_text("step 1")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(JobFolder, "_release", lambda *_, **__: None)  # as a killed process leaves it
        with pytest.raises(KeyboardInterrupt):
            train(samples(8), options(base), out, seed=0, on_progress=_interrupt)
    with pytest.raises(TrainingError, match="checkpoints of another training job"):
        train(samples(8), options(base, epochs=1), out, seed=0)
    with pytest.raises(KeyboardInterrupt):
        train(samples(8), options(base), out, seed=0, on_progress=log_and_end)
    assert contents(out) == {"logs/events": b"step 1"}
    assert train(samples(8), options(base, epochs=1), out, seed=0).steps == 2
    assert (out / "logs" / "events").exists()


def test_an_own_folder_keeps_what_else_lies_in_it_when_it_is_repaired_twice(
    base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A repair that is killed before its first checkpoint has the folder still."""
    out = tmp_path / "out"
    report = train(samples(2), options(base, epochs=1), out, seed=0)
    (out / "notes").write_text("mine")
    (out / "model.safetensors").unlink()
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(JobFolder, "_claim", _interrupt)
        train(samples(2), options(base, epochs=1), out, seed=0)
    assert not (out / MARKER).exists()
    again = train(samples(2), options(base, epochs=1), out, seed=0)
    assert again.files == report.files
    (out / "model.safetensors").unlink()
    assert train(samples(2), options(base, epochs=1), out, seed=0).files == report.files
    assert (out / "notes").read_text() == "mine", "it never became a file of the model"


def _interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


LABELLED = [LabelledSolution(id="s", problem="Add.", steps=("1 = 1",), labels=(True,), source="a rule")]


def test_a_call_that_fails_leaves_no_folder(
    base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    cut_off(monkeypatch)
    out = tmp_path / "deep" / "out"
    with pytest.raises(TrainingError, match="no samples"):
        genprm.train([], out, TrainConfig(model=base))
    for model, says in (
        ("org/none", "the hub cannot be reached: "),
        (str(tmp_path / "none"), "cannot load"),
    ):
        with pytest.raises(TrainingError, match=says) as caught:
            train(samples(4), options(model), out, seed=0)
        assert caught.value.hint
        with pytest.raises(TrainingError, match=says):
            genprm.train_prm(LABELLED, out, PrmConfig(model=model))
    assert "etry" not in capfd.readouterr().err, "one message, no retries"
    assert not list(tmp_path.iterdir())


def test_a_model_in_the_cache_is_loaded_without_asking_the_hub(
    base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants
    from transformers import AutoConfig

    cut_off(monkeypatch)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    kept = tmp_path / "models--org--kept"
    shutil.copytree(base, kept / "snapshots" / ("0" * 40))
    (kept / "refs").mkdir()
    (kept / "refs" / "main").write_text("0" * 40)
    assert pretrained(AutoConfig, "org/kept", cache_dir=str(tmp_path)).hidden_size == 32
    with pytest.raises(TrainingError, match="'org/other': it is not a folder"):
        pretrained(AutoConfig, "org/other", cache_dir=str(tmp_path))


def test_a_long_text_is_no_matter_for_alarm(base: str) -> None:
    heard: list[str] = []
    listener = logging.Handler()
    listener.emit = lambda record: heard.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("transformers")
    logger.addHandler(listener)
    try:
        trained = load_tokenizer(base)
        trained.model_max_length = 4
        assert len(trained("a longer text")["input_ids"]) > 4
        from transformers import AutoTokenizer

        asked = AutoTokenizer.from_pretrained(base)
        asked.model_max_length = 4
        assert len(ChatTokenizer(asked, "it").ids("a longer text")) > 4
    finally:
        logger.removeHandler(listener)
    assert not [one for one in heard if "longer than" in one]


@pytest.fixture
def profile(tmp_path: Path) -> str:
    path = tmp_path / "plain.yaml"
    path.write_text(yaml.safe_dump(PROFILE.model_dump(mode="json")))
    return str(path)


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, list(arguments))


def test_a_resumed_job_says_so(
    base: str, tmp_path: Path, profile: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    chats, out = tmp_path / "chats.jsonl", tmp_path / "out"
    write_layout(iter(samples(4)), chats)
    monkeypatch.setattr(sft, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(trainer, "SAVING_SHARE", float("inf"))

    def stop(state: genprm.TrainProgress) -> None:
        if state.step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(samples(4), options(base, epochs=5), out, seed=0, on_progress=stop)
    flags = [f"train.{key}" for key in ("learning_rate=0.01", "batch_size=4", "epochs=5")]
    flags = [part for one in (*flags, f"verify.profile={profile}") for part in ("-s", one)]
    done = run("train", str(chats), "-o", str(out), "--model", base, *flags)
    assert done.exit_code == 0, done.output
    assert "resumed after step 2 of 5" in done.output
    again = run("train", str(chats), "-o", str(out), "--model", base, *flags)
    assert again.exit_code == 0 and "resumed after" not in again.output


@pytest.mark.parametrize("layout", ["messages", "conversations"])
def test_chats_are_read_in_every_layout_that_is_exported(tmp_path: Path, layout: str) -> None:
    from genprm.cli.data import _chats

    path = tmp_path / "chats.jsonl"
    write_layout(iter(samples(3)), path, layout)
    found: list[TrainingSample] = _chats(path)
    assert [(one.conversations, one.form) for one in found] == [
        (one.conversations, one.form) for one in samples(3)
    ]


@pytest.mark.parametrize(
    ("row", "says"),
    [
        (json.loads(LABELLED[0].model_dump_json()), "train-prm"),
        ({"problem": "Add.", "steps": ["1"], "label": -1}, "train-prm"),
        ({"text": "x"}, "genprm import FILE"),
        ({"messages": [{"role": "user", "content": "x"}]}, "genprm import FILE"),
    ],
)
def test_a_row_of_another_kind_says_where_it_belongs(
    tmp_path: Path, row: dict[str, Any], says: str
) -> None:
    from genprm.cli.data import _chats
    from genprm.errors import DataError

    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row) + "\n")
    with pytest.raises(DataError, match=r"rows\.jsonl:1: this is not a training chat: ") as caught:
        _chats(path)
    assert says in caught.value.hint


@pytest.mark.parametrize(
    ("layers", "named"),
    [
        (9, r"the weights lack model\.layers\.\d\..* and \d+ more"),
        (1, r"the config knows nothing of model\.layers\.1\."),
    ],
)
@pytest.mark.parametrize("kind", ["chats", "labels"])
def test_a_config_that_does_not_fit_its_weights_is_refused(
    base: str, tmp_path: Path, layers: int, named: str, kind: str
) -> None:
    model = tmp_path / "model"
    shutil.copytree(base, model)
    config = json.loads((model / "config.json").read_text())
    assert config["num_hidden_layers"] == 2
    (model / "config.json").write_text(json.dumps(config | {"num_hidden_layers": layers}))
    with pytest.raises(TrainingError, match=rf"do not fit its config\.json: {named}") as caught:
        if kind == "chats":
            train(samples(4), options(str(model)), tmp_path / "out", seed=0)
        else:
            rows = [LabelledSolution(id="a", problem="P", steps=("x", "y"), labels=(True, False))]
            genprm.train_prm(rows, tmp_path / "out", model=str(model))
    assert "from the same model" in caught.value.hint
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "No space left on device"),
        RuntimeError("x: No space left on device"),
        # What torch.save says, which finds its file shorter than what it wrote.
        RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 419968 vs 419856"),
        RuntimeError("basic_ios::clear: iostream error"),
    ],
)
@pytest.mark.parametrize("when", ["checkpoint", "end"])
def test_a_full_disk_is_one_error_and_the_job_goes_on(
    base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, when: str
) -> None:
    monkeypatch.setattr(sft, "CHECKPOINT_SECONDS", 0.0)

    def full(*_: Any, **__: Any) -> None:
        raise error

    with monkeypatch.context() as patch:
        if when == "end":
            patch.setattr(sft, "save_final", full)
        else:
            patch.setattr("transformers.Trainer.save_model", full)
        with pytest.raises(TrainingError, match="no space is left for") as caught:
            train(samples(4), options(base), tmp_path, seed=0)
    assert "free some disk space" in caught.value.hint
    assert not (tmp_path / MARKER).exists()
    assert train(samples(4), options(base), tmp_path, seed=0).steps == 3
