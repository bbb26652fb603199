"""A finished model's folder: what its cards say, what leaves them alone, and who finds it finished."""

from __future__ import annotations

import fcntl
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from test_train_folder import contents
from test_train_prompt_check import COMPACT, GENPRM, sample
from test_train_rl import DPO, ROWS, SHORT, verified
from test_train_sft import options, samples, train
from typer.testing import CliRunner

import genprm
from genprm.api.models import engine_config
from genprm.cli.main import app
from genprm.config import Components, VerifyConfig
from genprm.engines import check_declared_budget
from genprm.errors import MissingExtraError, TrainingError
from genprm.rewards.genprm.card import read_card, verify_values
from genprm.sources import write_layout
from genprm.training import MARKER, TrainReport, sft
from genprm.training.folder import LOCK, JobFolder
from genprm.training.prm import PrmReport
from genprm.training.prm import job as prm_job
from tiny_prm import tiny_prm

torch = pytest.importorskip("torch")
pytest.importorskip("trl")
pytestmark = pytest.mark.usefixtures("one_thread")

ASKED = VerifyConfig(profile="compact", components="cot", max_tokens=40)
LABELLED = [
    genprm.LabelledSolution(
        id="s", problem="Add.", steps=("1 = 1", "1 = 2"), labels=(True, False), source="a rule"
    )
]
SMALL: dict[str, Any] = {"batch_size": 1, "learning_rate": 1e-3}


def fit(base: str, out: Path, verify: VerifyConfig | None = ASKED, **more: Any) -> TrainReport:
    return genprm.train([sample(COMPACT, "cot")], out, model=base, verify=verify, **(SMALL | more))


def fit_prm(out: Path, **more: Any) -> PrmReport:
    return genprm.train_prm(LABELLED, out, model=tiny_prm(), **(SMALL | more))


def card_rows(folder: Path) -> dict[str, str]:
    """The rows of the two-column tables of a model's card."""
    lines = (folder / "README.md").read_text().splitlines()
    cells = [line.strip("|").split("|") for line in lines if line.startswith("| ")]
    return {pair[0].strip(): pair[1].strip() for pair in cells if len(pair) == 2}


# ---------------------------------------------------------------- the model card


def test_a_card_that_is_written_again_says_the_same_of_the_training(base: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    report = fit(base, out, lora_rank=2)
    first = card_rows(out)
    assert (first["started from"], first["batch"]) == (base, "1 per optimizer step")
    assert first["learning rate"] == "0.001, cosine" and first["adapters"].startswith("LoRA of rank 2")
    assert first["components"] == "cot 1"
    (out / "README.md").unlink()
    done = CliRunner().invoke(app, ["card", str(out)])
    assert done.exit_code == 0 and card_rows(out) == first
    assert (report.model, report.options) == (
        base,
        genprm.TrainConfig(**SMALL, lora_rank=2).model_dump(mode="json", exclude={"model"}),
    )


def test_a_packaged_model_has_its_name_in_card_and_report(tmp_path: Path) -> None:
    report = genprm.train([sample(COMPACT, "cot")], tmp_path, model="builtin:base", verify=ASKED, **SMALL)
    assert report.model == card_rows(tmp_path)["started from"] == "builtin:base"


def test_the_labels_stay_in_the_card_of_a_discriminative_model(tmp_path: Path) -> None:
    report = fit_prm(tmp_path)
    first = card_rows(tmp_path)
    assert report.sources == ("a rule",) and first["labels"] == "a rule"
    done = CliRunner().invoke(app, ["card", str(tmp_path)])
    assert done.exit_code == 0 and card_rows(tmp_path) == first


@pytest.mark.parametrize("kind", ["chats", "labels"])
def test_a_finished_model_keeps_its_card_and_a_repaired_one_gets_its_own(
    base: str, tmp_path: Path, kind: str
) -> None:
    def call() -> Any:
        return fit(base, tmp_path) if kind == "chats" else fit_prm(tmp_path)

    report = call()
    (tmp_path / "README.md").write_text("MY OWN NOTES")
    before = contents(tmp_path)
    assert call() == report
    assert contents(tmp_path) == before
    (tmp_path / "model.safetensors").unlink()
    call()
    assert card_rows(tmp_path)["job"] == report.job
    assert (tmp_path / "README.earlier.md").read_text() == "MY OWN NOTES"
    (tmp_path / "README.md").write_text("MORE NOTES")
    (tmp_path / "model.safetensors").unlink()
    call()
    assert (tmp_path / "README.earlier.md").read_text() == "MY OWN NOTES"
    assert (tmp_path / "README.earlier.2.md").read_text() == "MORE NOTES"


def test_the_card_of_the_adapters_is_their_owners_too(base: str, tmp_path: Path) -> None:
    def call() -> TrainReport:
        return fit(base, tmp_path, lora_rank=2)

    report = call()
    card, marker = tmp_path / "adapter" / "README.md", tmp_path / MARKER
    assert card.is_file() and "adapter/adapter_config.json" in report.files
    values = json.loads(marker.read_text())
    values["files"]["adapter/README.md"] = "what an earlier version noted"
    marker.write_text(json.dumps(values))
    card.write_text("MY OWN NOTES")
    before = contents(tmp_path)
    assert call().job == report.job
    assert contents(tmp_path) == before


# ---------------------------------------------------------------- how the model is asked


def test_a_profile_that_does_not_fit_is_refused_for_a_finished_model_too(base: str, tmp_path: Path) -> None:
    fit(base, tmp_path)
    before = contents(tmp_path)
    with pytest.raises(TrainingError, match="the system turn of chat 'one' is not what") as caught:
        fit(base, tmp_path, ASKED.model_copy(update={"profile": "genprm"}))
    assert "verify.profile" in caught.value.hint
    with pytest.raises(TrainingError, match="no chat has these components: they have 'cot' \\(1\\)"):
        fit(base, tmp_path, None)
    assert contents(tmp_path) == before


def test_another_profile_that_renders_the_same_is_taken(base: str, tmp_path: Path) -> None:
    out, renamed = tmp_path / "out", tmp_path / "renamed.yaml"
    report = fit(base, out)
    text = COMPACT.model_copy(update={"name": "renamed"}).model_dump(mode="json")
    renamed.write_text(yaml.safe_dump(text))
    assert fit(base, out, ASKED.model_copy(update={"profile": str(renamed)})) == report
    card = read_card(str(out))
    assert card is not None and card.profile.name == "renamed"


def test_budgets_of_a_finished_model_change_when_they_are_given_and_only_then(
    base: str, tmp_path: Path
) -> None:
    long = Path(shutil.copytree(base, tmp_path / "long"))
    config = json.loads((long / "config.json").read_text())
    (long / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 4096}))
    out, chats = tmp_path / "out", [sample(GENPRM)]
    report = genprm.train(chats, out, model=str(long), verify=VerifyConfig(max_tokens=40), **SMALL)
    for verify, tokens in ((None, 40), (VerifyConfig(max_tokens=50), 50), (None, 50)):
        assert genprm.train(chats, out, model=str(long), verify=verify, **SMALL) == report
        assert verify_values(str(out))["max_tokens"] == tokens


def test_a_budget_that_the_context_cannot_hold_is_not_remembered(base: str, tmp_path: Path) -> None:
    chats, out = tmp_path / "chats.jsonl", tmp_path / "out"
    write_layout([sample(COMPACT, "cot")], chats)
    flags = ["train.batch_size=1", "verify.profile=compact", "verify.components=cot"]
    command = ["train", str(chats), "-o", str(out), "--model", base]
    done = CliRunner().invoke(app, [*command, *(part for one in flags for part in ("-s", one))])
    assert done.exit_code == 0, done.output
    assert "genprm.json asks for 256 tokens per step: verify.max_tokens is 2048" in done.output
    assert verify_values(str(out))["max_tokens"] == 256
    check_declared_budget(engine_config(out), 256, "verify.max_tokens")


def test_chats_of_several_components_are_counted_and_one_of_them_is_asked_for(
    base: str, tmp_path: Path
) -> None:
    kinds: tuple[Components, ...] = ("cot", "cot+code")
    chats = [sample(COMPACT, kind) for kind in kinds]
    report = genprm.train(chats, tmp_path / "out", model=base, verify=ASKED, **SMALL)
    assert report.components == {"cot": 1, "cot+code": 1}
    assert verify_values(str(tmp_path / "out"))["components"] == "cot"
    code = ASKED.model_copy(update={"components": "code"})
    with pytest.raises(TrainingError, match="will be asked for 'code', and no chat has") as caught:
        genprm.train(chats, tmp_path / "other", model=base, verify=code, **SMALL)
    assert caught.value.hint.startswith("set verify.components=cot")
    assert not (tmp_path / "other").exists()


# ---------------------------------------------------------------- another process


def test_a_job_that_another_process_finished_meanwhile_is_not_done_again(
    base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is asked once more under the lock: between, models are loaded and chats are read, for minutes."""
    prepare = sft._prepare
    others: list[TrainReport] = []
    steps: list[Any] = []

    def slowly(*arguments: Any) -> Any:
        made = prepare(*arguments)
        with monkeypatch.context() as patch:
            patch.setattr(sft, "_prepare", prepare)
            others.append(train(samples(4), options(base), tmp_path, seed=0))
        return made

    monkeypatch.setattr(sft, "_prepare", slowly)
    report = train(samples(4), options(base), tmp_path, seed=0, on_progress=steps.append)
    assert [report] == others and steps == []
    assert not (tmp_path / LOCK).exists()


def test_nor_is_a_discriminative_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load = prm_job.load_tokenizer
    others: list[PrmReport] = []
    steps: list[Any] = []

    def slowly(source: str) -> Any:
        with monkeypatch.context() as patch:
            patch.setattr(prm_job, "load_tokenizer", load)
            others.append(fit_prm(tmp_path))
        return load(source)

    monkeypatch.setattr(prm_job, "load_tokenizer", slowly)
    assert [fit_prm(tmp_path, progress=steps.append)] == others and steps == []


def test_a_lock_on_a_file_that_its_holder_removed_is_taken_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The holder finishes between the opening of the file and the lock on it."""
    flock = fcntl.flock
    calls: list[int] = []

    def late(file: Any, how: int) -> None:
        if not calls:
            (tmp_path / LOCK).unlink()
        calls.append(how)
        flock(file, how)

    monkeypatch.setattr(fcntl, "flock", late)
    folder = JobFolder(tmp_path, "job", MARKER, TrainReport)
    with folder.claimed() as done:
        assert done is None and len(calls) == 2
        again = JobFolder(tmp_path, "job", MARKER, TrainReport)
        with pytest.raises(TrainingError, match="another process is training"), again.claimed():
            pass


# ---------------------------------------------------------------- damage


def every_way(base: str) -> dict[str, Callable[[Path], Any]]:
    """The four ways to train, as short as they can be."""
    asked = SHORT.model_copy(update={"max_tokens": 4}).model_dump(mode="json")
    votes, options = verified(ROWS[:2], "Yes", "No"), {**DPO, "model": base, "epochs": 1}
    short = {"model": base, "verify": asked, "steps": 1, "solutions": 1, "paths": 2}
    return {
        "chats": lambda out: fit(base, out),
        "labels": fit_prm,
        "rollouts": lambda out: genprm.train_grpo(ROWS[:1], out, **short),
        "votes": lambda out: genprm.train_dpo(votes, ROWS[:2], out, **options),
    }


@pytest.mark.parametrize("way", ["chats", "labels", "rollouts", "votes"])
def test_a_damaged_model_stays_until_it_is_known_that_it_can_be_trained_again(
    base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    call = every_way(base)[way]
    report = call(tmp_path)
    config = tmp_path / "config.json"
    config.write_text(config.read_text() + "\n")
    before = contents(tmp_path)
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "trl", None)
        patch.setitem(sys.modules, "transformers", None)
        with pytest.raises(MissingExtraError):
            call(tmp_path)
    assert contents(tmp_path) == before
    assert call(tmp_path).files == report.files


@pytest.mark.parametrize("way", ["chats", "labels"])
def test_a_report_of_another_version_is_no_damage(base: str, tmp_path: Path, way: str) -> None:
    call = every_way(base)[way]
    report = call(tmp_path)
    (marker,) = [path for path in tmp_path.glob("genprm*training.json") if "files" in path.read_text()]
    values = json.loads(marker.read_text())
    marker.write_text(json.dumps(values | {"of_a_later_version": 1}))
    before = contents(tmp_path)
    assert call(tmp_path) == report
    assert contents(tmp_path) == before
    marker.write_text(json.dumps({name: value for name, value in values.items() if name != "steps"}))
    before = contents(tmp_path)
    with pytest.raises(TrainingError, match=r"training\.json was written by another version") as caught:
        call(tmp_path)
    assert "another output folder" in caught.value.hint
    assert contents(tmp_path) == before
    marker.write_text(json.dumps(values)[:-30])
    assert call(tmp_path).files == report.files


# ---------------------------------------------------------------- files


def test_a_folder_in_the_place_of_a_model_file_is_named_and_untouched(base: str, tmp_path: Path) -> None:
    report = train(samples(2), options(base, epochs=1), tmp_path, seed=0)
    weights = tmp_path / "model.safetensors"
    weights.unlink()
    weights.mkdir()
    (weights / "mine").write_text("mine")
    for _ in range(2):
        with pytest.raises(TrainingError, match=r"model\.safetensors is a folder, where") as caught:
            train(samples(2), options(base, epochs=1), tmp_path, seed=0)
        assert caught.value.hint.startswith("move it away")
    assert (weights / "mine").read_text() == "mine"
    weights.rename(tmp_path / "moved")
    assert train(samples(2), options(base, epochs=1), tmp_path, seed=0).files == report.files


def test_an_output_folder_that_is_a_link_to_nothing(base: str, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(TrainingError, match=r"link is a link to .*nowhere, which is not there"):
        train(samples(2), options(base), tmp_path / "link", seed=0)
    assert (tmp_path / "link").is_symlink() and not (tmp_path / "nowhere").exists()
