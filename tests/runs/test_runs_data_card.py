"""Exported sets: their cards say what the files hold and how they were made, and what was exported can be trained on."""

from __future__ import annotations

import asyncio
import json
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path

import pytest
import sums

from genprm.api.labelled import run_labelled
from genprm.config import RunConfig, load_config
from genprm.engines import resolve_model
from genprm.records import DataCard
from genprm.runs import run_pipeline
from genprm.sources import iterate_chats, iterate_rows, write_layout
from genprm.store import RunReader, file_checksum
from genprm.text.prompts import VerifierProfile, load_profile
from genprm.view.data_card import write_data_card

PROFILE = "compact"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with everything scripted, one of whose problems is in an evaluation set."""
    sums.register()
    folder = tmp_path_factory.mktemp("made")
    problems = sums.write_problems(folder / "problems.jsonl", 7)
    bench = folder / "bench.jsonl"
    bench.write_text(json.dumps({"problem": "What is 2 + 5?"}) + "\n")
    overrides = [f"problems.decontaminate={{bench: {bench}}}", f"verify.profile={PROFILE}", "seed=5"]
    config = load_config(None, overrides, model=RunConfig, base=sums.config(problems))
    asyncio.run(run_pipeline(config, folder / "run", until="chats"))
    return folder / "run"


def card_of(path: Path) -> DataCard:
    return DataCard.model_validate_json(Path(f"{path}.card.json").read_text())


def test_a_card_says_what_the_chats_are_and_how_they_were_made(run: Path, tmp_path: Path) -> None:
    path, chats = tmp_path / "chats.parquet", list(RunReader(run).rows("chats"))
    written = write_layout(chats, path, "messages")
    text = write_data_card(path, "messages", written, run).read_text()
    card, stages = card_of(path), {row.stage: row for row in RunReader(run).stages()}
    contents = card.contents
    assert (contents.kind, contents.rows, contents.checksum) == ("chats", len(chats), file_checksum(path))
    judged = Counter(
        "right" if "{Yes}" in turn.content else "wrong"
        for chat in chats for turn in chat.conversations if turn.role == "assistant"
    )  # fmt: skip
    assert contents.steps == {"right": judged["right"], "wrong": judged["wrong"], "unknown": 0}
    assert judged["wrong"] and contents.first_errors == {
        "none": len(chats) - judged["wrong"], "2": judged["wrong"],
    }  # fmt: skip
    assert contents.components == {"cot+code+execution": len(chats)}
    assert card.origin is not None and (card.origin.seed, card.origin.estimator) == (5, "dynamic")
    assert card.origin.label_rule == {"method": "ratio", "threshold": 0.8}
    assert set(card.origin.roles) == {"policy", "completer", "teacher"}
    for one in card.origin.stages:
        known = stages[one.stage]
        assert (one.problems, one.rows, one.reasons) == (known.problems, known.rows, known.reasons)
        assert one.usage == known.usage
    assert card.origin.stages[0].reasons == {"contaminated": 1}
    for said in (
        "contaminated 1",
        "| label rule | ratio, threshold 0.8 |",
        "| not in | bench |",
        contents.checksum,
    ):
        assert said in text, said


def test_a_card_of_labels_counts_what_the_layout_could_not_hold(run: Path, tmp_path: Path) -> None:
    path, labels = tmp_path / "labels.jsonl", list(run_labelled(run))
    cut = [row.model_copy(update={"labels": (True, None)}) for row in labels[:3]]
    lost = [row.model_copy(update={"labels": (None, None)}) for row in labels[3:4]]
    written = write_layout([*cut, *lost, *labels[4:]], path, "stepwise")
    write_data_card(path, "stepwise", written)
    card = card_of(path)
    assert (card.left_out, card.shortened, card.origin) == (1, 3, None)
    assert card.contents.rows == len(labels) - 1 and not card.contents.components
    found = Counter(label for row in iterate_rows(path, repeats=True) for label in row.labels)
    assert card.contents.steps == {"right": found[True], "wrong": found[False], "unknown": 0}


@pytest.mark.parametrize("layout", ["genprm", "stepwise"])
def test_a_card_counts_the_rows_that_cannot_be_read_back(run: Path, tmp_path: Path, layout: str) -> None:
    path, labels = tmp_path / "labels.jsonl", list(run_labelled(run))
    blank = [
        labels[0].model_copy(update={"problem": " "}),
        labels[1].model_copy(update={"steps": ("a", " ")}),
    ]
    written = write_layout([*blank, *labels[2:]], path, layout)
    text = write_data_card(path, layout, written).read_text()
    contents = card_of(path).contents
    assert written.rows == len(labels) == contents.rows + 2
    assert contents.rejected == {"blank_step": 1, "no_problem": 1}
    assert "| not readable | 2 rows more: blank_step 1, no_problem 1 |" in text


def test_a_card_is_the_same_whenever_it_is_made(run: Path, tmp_path: Path) -> None:
    path = tmp_path / "chats.jsonl"
    written = write_layout(RunReader(run).rows("chats"), path, "genprm")
    write_data_card(path, "genprm", written, run)
    first = {one.name: one.read_bytes() for one in tmp_path.iterdir()}
    assert {name.removeprefix("chats.jsonl") for name in first} == {
        "", ".card.md", ".card.json", ".card.labels.svg", ".card.first-errors.svg", ".card.kept.svg",
    }  # fmt: skip
    write_data_card(path, "genprm", written, run)
    assert {one.name: one.read_bytes() for one in tmp_path.iterdir()} == first
    for name, data in first.items():
        if name.endswith(".svg"):
            assert ET.fromstring(data).tag == "{http://www.w3.org/2000/svg}svg"
            assert f"]({name})".encode() in first["chats.jsonl.card.md"]


@pytest.mark.parametrize("layout", ["genprm", "conversations", "messages"])
@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_exported_chats_pass_the_encoder_as_the_run_made_them(
    run: Path, tmp_path: Path, layout: str, suffix: str
) -> None:
    """Another program writes them down again, and the training stage sees the same tokens and the same loss."""
    pytest.importorskip("torch")
    from transformers import AutoTokenizer

    from genprm.training.chat_data import ChatEncoder
    from genprm.training.prompt_check import PromptCheck

    tokenizer = AutoTokenizer.from_pretrained(resolve_model("builtin:base"))
    encoder = ChatEncoder(tokenizer)
    check = PromptCheck(tokenizer, load_profile(PROFILE, VerifierProfile))
    path, chats = tmp_path / f"chats.{suffix}", list(RunReader(run).rows("chats"))
    write_layout(chats, path, layout)
    back = list(iterate_chats(path))
    assert [row.conversations for row in back] == [row.conversations for row in chats]
    assert [(row.form, row.components) for row in back] == [(row.form, row.components) for row in chats]
    for own, other in zip(encoder.encode_many(chats), encoder.encode_many(back), strict=True):
        assert own is not None and other is not None
        assert own.input_ids.tolist() == other.input_ids.tolist()
        assert own.loss_mask.tolist() == other.loss_mask.tolist()
        assert own.loss_mask.any() and not own.loss_mask.all()
    check.check_many([(row, encoder.trained_spans(row.conversations)[0]) for row in back])
