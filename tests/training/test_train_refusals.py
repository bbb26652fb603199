"""Inputs that no training can use: one error that names the place and the remedy, before a folder is claimed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from test_train_sft import PROFILE, options, samples, train
from typer.testing import CliRunner

import genprm
from genprm.cli.console import tell_launcher
from genprm.cli.main import app
from genprm.errors import ConfigError, DataError, GenPRMError, TrainingError
from genprm.records import LabelledSolution, TrainingSample
from genprm.sources import write_layout

torch = pytest.importorskip("torch")
pytest.importorskip("trl")
pytestmark = pytest.mark.usefixtures("one_thread")

LABELLED = [LabelledSolution(id="s", problem="Add.", steps=("1 = 1", "1 = 2"), labels=(True, False))]
WAYS: dict[str, Callable[..., Any]] = {
    "chats": lambda out, **more: genprm.train(samples(2), out, **more),
    "labels": lambda out, **more: genprm.train_prm(LABELLED, out, **more),
    "rollouts": lambda out, **more: genprm.train_grpo(LABELLED, out, **more),
    "votes": lambda out, **more: genprm.train_dpo([], LABELLED, out, **more),
}
SHORT: dict[str, Any] = {"verify": {"profile": "compact", "components": "cot", "max_tokens": 60}}
each_way = pytest.mark.parametrize("way", WAYS)


@each_way
@pytest.mark.parametrize("seed", [-1, 2**32, 0.5])
def test_a_seed_out_of_bounds(base: str, tmp_path: Path, way: str, seed: Any) -> None:
    with pytest.raises(ConfigError, match=f"the seed cannot be {seed}") as caught:
        WAYS[way](tmp_path / "out", model=base, seed=seed)
    assert "from 0 to 4294967295" in caught.value.hint
    assert not (tmp_path / "out").exists()


@each_way
def test_an_output_folder_without_a_name(base: str, way: str) -> None:
    with pytest.raises(TrainingError, match="the output folder has no name"):
        WAYS[way]("", model=base)


def refused(*arguments: str) -> GenPRMError:
    found = CliRunner().invoke(app, list(arguments)).exception
    assert isinstance(found, GenPRMError)
    return found


@pytest.mark.parametrize("command", ["train", "train-prm", "train-grpo"])
def test_the_commands_have_the_bounds_of_seeds(base: str, tmp_path: Path, command: str) -> None:
    file, out = tmp_path / "rows.jsonl", tmp_path / "out"
    write_layout(iter(samples(2) if command == "train" else LABELLED), file)
    error = refused(command, str(file), "-o", str(out), "--model", base, "--seed", "4294967296")
    assert isinstance(error, ConfigError) and "4294967295" in error.message + error.hint
    assert not out.exists()


def _pointer(model: Path) -> None:
    text = "version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 5\n"
    (model / "model.safetensors").write_text(text)


def _junk(model: Path) -> None:
    (model / "model.safetensors").unlink()
    (model / "pytorch_model.bin").write_text("junk")


def _narrow(model: Path) -> None:
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"hidden_size": 16}))


def _no_number(model: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(model / "model.safetensors")
    weights["model.norm.weight"][3] = float("nan")
    save_file(weights, model / "model.safetensors", {"format": "pt"})


@pytest.mark.parametrize("way", ["chats", "labels", "rollouts"])
@pytest.mark.parametrize(
    ("damage", "says", "hint"),
    [
        (_pointer, "cannot load the model of '.*model': ", "run 'git lfs pull' in "),
        (_junk, "cannot load the model of '.*model': .", "copy or fetch it again"),
        (_narrow, r"do not fit its config\.json: .* has another shape", "from the same model"),
        (_no_number, r"holds weights that are not finite: 1, the first in model\.norm", "fetch it again"),
    ],
)
def test_a_model_that_is_damaged(
    base: str, tmp_path: Path, way: str, damage: Callable[[Path], None], says: str, hint: str
) -> None:
    model = Path(shutil.copytree(base, tmp_path / "model"))
    damage(model)
    with pytest.raises(TrainingError, match=says) as caught:
        WAYS[way](tmp_path / "out", model=str(model))
    assert hint in caught.value.hint and "learning_rate" not in caught.value.hint
    assert not (tmp_path / "out").exists()


def test_a_model_that_is_nowhere_has_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="there is no such folder") as caught:
        genprm.train_prm(LABELLED, tmp_path / "out", model="./nowhere")
    assert "id of one on the hub" in caught.value.hint


def test_a_loss_that_is_no_number_before_any_update_is_none_of_the_learning_rate(
    base: str, tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    model = Path(shutil.copytree(base, tmp_path / "model"))
    weights = load_file(model / "model.safetensors")
    weights["lm_head.weight"] *= 1e38
    save_file(weights, model / "model.safetensors", {"format": "pt"})
    with pytest.raises(TrainingError, match="not finite at step 1") as caught:
        train(samples(2), options(str(model)), tmp_path / "out", seed=0)
    assert "the model itself gives no number" in caught.value.hint
    with pytest.raises(TrainingError, match="not finite at step 2") as caught:
        train(samples(2), options(base, learning_rate=1e30), tmp_path / "other", seed=0)
    assert "lower train.learning_rate" in caught.value.hint


def test_a_head_of_another_number_of_classes_becomes_a_new_one(base: str, tmp_path: Path) -> None:
    from transformers import AutoModelForTokenClassification, AutoTokenizer

    scorer = AutoModelForTokenClassification.from_pretrained(base, num_labels=1)
    scorer.save_pretrained(tmp_path / "scorer")
    AutoTokenizer.from_pretrained(base).save_pretrained(tmp_path / "scorer")
    report = genprm.train_prm(LABELLED, tmp_path / "out", model=str(tmp_path / "scorer"))
    assert (report.right_steps, report.wrong_steps) == (1, 1)


# ---------------------------------------------------------------- data


def test_an_empty_file_is_named(tmp_path: Path) -> None:
    empty, rows, out = tmp_path / "empty.jsonl", tmp_path / "rows.jsonl", str(tmp_path / "out")
    empty.touch()
    write_layout(iter(LABELLED), rows)
    for command in (["train", str(empty)], ["train-prm", str(empty)], ["train-grpo", str(empty)]):
        error = refused(*command, "-o", out)
        assert isinstance(error, DataError) and error.message == f"{empty}: no rows" and error.hint
    error = refused("train-dpo", str(rows), "--votes", str(empty), "-o", out)
    assert error.message == f"{empty}: no verifications" and "genprm verify --json" in error.hint


def test_where_the_hub_is_not_read_what_reads_it_is_named(tmp_path: Path) -> None:
    rows, out = tmp_path / "rows.jsonl", str(tmp_path / "out")
    write_layout(iter(LABELLED), rows)
    for command in (["train", "hub:a/b"], ["train-dpo", str(rows), "--votes", "hub:a/b"]):
        error = refused(*command, "-o", out)
        assert isinstance(error, DataError) and "'genprm import hub:a/b -o FILE'" in error.hint


@pytest.mark.parametrize("command", ["train-prm", "train-grpo"])
@pytest.mark.parametrize("layout", ["genprm", "messages"])
def test_chats_in_place_of_labels_name_the_right_command(tmp_path: Path, command: str, layout: str) -> None:
    file = tmp_path / "chats.jsonl"
    write_layout(iter(samples(2)), file, layout)
    error = refused(command, str(file), "-o", str(tmp_path / "out"))
    assert f"{file}:1: the row is a training chat" in error.message
    assert error.hint == "'genprm train' trains a verifier on chats"


def test_a_turn_that_is_executed_output_alone_is_named_and_no_matter_of_templates(
    base: str, tmp_path: Path
) -> None:
    given = samples(2)
    chat = [*given[1].conversations]
    chat[4] = chat[4].model_copy(update={"content": "[Code Output]\n\n```\n5\n```\n"})
    given[1] = given[1].model_copy(update={"conversations": tuple(chat)})
    with pytest.raises(
        TrainingError, match="chat '1': turn 2 of the assistant holds nothing to learn"
    ) as caught:
        train(given, options(base), tmp_path / "out", seed=0)
    assert "template" not in caught.value.hint and "leave this chat out" in caught.value.hint


@pytest.mark.parametrize(
    "roles",
    [
        ("user", "assistant", "system"),
        ("user", "user", "assistant"),
        ("user", "assistant", "user"),
        ("user", "assistant", "assistant"),
    ],
    ids=" ".join,
)
def test_turns_that_do_not_alternate_are_named(base: str, tmp_path: Path, roles: tuple[str, ...]) -> None:
    system, user, assistant, *_ = samples(1)[0].conversations
    known = {"system": system, "user": user, "assistant": assistant}
    chat = samples(1)[0].model_copy(update={"conversations": (system, *(known[role] for role in roles))})
    with pytest.raises(
        TrainingError, match=f"chat '0' has turns of system, {', '.join(roles)}\n"
    ) as caught:
        train([chat], options(base), tmp_path / "out", seed=0)
    assert "in alternation" in caught.value.hint and not (tmp_path / "out").exists()


@each_way
@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (["x"], "row 1 is no [A-Z][A-Za-z]+: 'x'"),
        ([{"id": "a"}], "row 1 is no [A-Z][A-Za-z]+: {'id': 'a'}"),
        ("chats.jsonl", "these are no rows of [A-Z][A-Za-z]+: 'chats.jsonl'"),
        (Path("chats.jsonl"), "these are no rows of "),
        (None, "these are no rows of "),
    ],
    ids=["text", "mapping", "name", "path", "nothing"],
)
def test_what_are_no_records_is_named(base: str, tmp_path: Path, way: str, rows: Any, says: str) -> None:
    call = {
        "chats": lambda: genprm.train(rows, tmp_path / "out", model=base),
        "labels": lambda: genprm.train_prm(rows, tmp_path / "out", model=base),
        "rollouts": lambda: genprm.train_grpo(rows, tmp_path / "out", model=base),
        "votes": lambda: genprm.train_dpo(rows, LABELLED, tmp_path / "out", model=base),
    }[way]
    with pytest.raises(DataError, match=says) as caught:
        call()
    assert caught.value.hint.startswith("genprm.load_") and not (tmp_path / "out").exists()


def test_text_that_no_file_can_hold_is_named(base: str, tmp_path: Path) -> None:
    chat = samples(1)[0]
    torn = chat.conversations[2].model_copy(update={"content": "half \ud800"})
    chats = [samples(1)[0], chat.model_copy(update={"conversations": (*chat.conversations[:2], torn)})]
    with pytest.raises(DataError, match="row 2 cannot be written down") as caught:
        genprm.train(chats, tmp_path / "out", model=base)
    assert "half of a surrogate pair" in caught.value.hint
    rows = [LABELLED[0].model_copy(update={"problem": "half \ud800"})]
    with pytest.raises(DataError, match="row 1 cannot be written down"):
        genprm.train_prm(rows, tmp_path / "out", model=base)


@pytest.mark.parametrize("way", ["labels", "rollouts"])
def test_a_control_token_in_a_solution_is_named(base: str, tmp_path: Path, way: str) -> None:
    rows = [LABELLED[0].model_copy(update={"steps": ("1 = 1", "so <end> it is")})]
    call = genprm.train_prm if way == "labels" else genprm.train_grpo
    with pytest.raises(
        TrainingError, match="step 2 of solution 's' holds '<end>', a control token"
    ) as caught:
        call(rows, tmp_path / "out", model=base, **({} if way == "labels" else SHORT))
    assert "leave this solution out" in caught.value.hint and not (tmp_path / "out").exists()
    more = [
        row.model_copy(update={"id": f"s{number}"}) for number, row in enumerate([*LABELLED, *rows, *rows])
    ]
    with pytest.raises(TrainingError, match="solution 's1' holds") as caught:
        call(more, tmp_path / "out", model=base, **({} if way == "labels" else SHORT))
    assert "leave 2 of 3 solutions out" in caught.value.hint and caught.value.hint.endswith("'s1', 's2'")


def test_rollouts_that_never_fit_name_the_bounds_and_no_second_try(base: str, tmp_path: Path) -> None:
    small = {"steps": 1, "solutions": 1, "paths": 2, "max_length": 100}
    with pytest.raises(TrainingError, match="every rollout of step 1 was lost: ContextOverflow") as caught:
        genprm.train_grpo(LABELLED, tmp_path / "out", model=base, **SHORT, **small)
    assert "raise max_length, lower verify.max_tokens" in caught.value.hint
    assert "doctor" not in caught.value.hint
    assert not (tmp_path / "out").exists(), "other bounds are another job, and the folder is free for it"


def torn(chat: TrainingSample) -> TrainingSample:
    """The chat with a control token in its first user turn."""
    system, user, *more = chat.conversations
    user = user.model_copy(update={"content": "Step 0: <end>"})
    return chat.model_copy(update={"conversations": (system, user, *more)})


def test_a_chat_that_does_not_fit_the_model_costs_itself_and_no_more(base: str, tmp_path: Path) -> None:
    first, second, third = samples(3)
    report = train([first, torn(second), third], options(base), tmp_path / "some", seed=0)
    assert (report.samples, report.dropped_unfit, report.dropped_too_long) == (2, {"control_token": 1}, 0)
    without = train([first, third], options(base), tmp_path / "without", seed=0)
    assert report.losses == without.losses and without.dropped_unfit == {}
    with pytest.raises(
        TrainingError, match=r"no samples to train on: 1 do not fit .* chat '1': message 2 holds '<end>'"
    ) as caught:
        train([torn(second)], options(base), tmp_path / "none", seed=0)
    assert "leave this chat out" in caught.value.hint and not (tmp_path / "none").exists()


def test_a_chat_that_the_template_rewrites_is_counted_as_that(base: str, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(base, tmp_path / "trims"))
    template = folder / "chat_template.jinja"
    template.write_text(template.read_text().replace("m['content']", "m['content'] | trim"))
    first, second = samples(2)
    *begin, last = second.conversations
    blank = last.model_copy(update={"content": f"{last.content}\n"})
    given = [first, second.model_copy(update={"conversations": (*begin, blank)})]
    report = train(given, options(str(folder)), tmp_path / "out", seed=0)
    assert (report.samples, report.dropped_unfit) == (1, {"rewritten": 1})
    with pytest.raises(TrainingError, match="the chat template rewrites the contents of messages"):
        train([given[1], given[1], first], options(str(folder)), tmp_path / "most", seed=0)


def test_the_command_and_the_card_say_how_many_chats_do_not_fit_and_why(base: str, tmp_path: Path) -> None:
    first, second = samples(2)
    write_layout(iter([first, torn(second)]), tmp_path / "chats.jsonl")
    out, profile = tmp_path / "out", tmp_path / "plain.yaml"
    profile.write_text(PROFILE.model_dump_json())
    flags = ["-s", f"verify.profile={profile}", "-s", "train.batch_size=2"]
    done = CliRunner().invoke(
        app, ["train", str(tmp_path / "chats.jsonl"), "-o", str(out), "--model", base, *flags]
    )
    assert done.exception is None, done.output
    assert "1 chat, " in done.output and "0 too long, unfit: 1 control_token" in done.output
    assert "0 more were too long, 1 held a control token of the model" in (out / "README.md").read_text()


def test_the_last_words_of_a_launcher_are_the_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

    file = tmp_path / "error.json"
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(file))
    tell_launcher(TrainingError("no space is left", hint="free some"))
    said = str(ChildFailedError("genprm", {0: ProcessFailure(0, 1, 1, str(file))}))
    assert "traceback : error: no space is left\n  hint:  Free some" in said
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(tmp_path / "none" / "error.json"))
    tell_launcher(TrainingError("no space is left"))  # is nothing that could fail


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("command", ["train-prm", "train-grpo"])
def test_of_several_processes_one_reports_what_none_can_do(
    base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, rank: int
) -> None:
    write_layout(iter(LABELLED), tmp_path / "rows.jsonl")
    for name, value in {"WORLD_SIZE": 2, "LOCAL_RANK": rank, "RANK": rank}.items():
        monkeypatch.setenv(name, str(value))
    out = str(tmp_path / "out")
    found = CliRunner().invoke(app, [command, str(tmp_path / "rows.jsonl"), "-o", out, "--model", base])
    assert isinstance(found.exception, TrainingError if rank == 0 else SystemExit)
    assert found.exit_code == 1 and not Path(out).exists()
