"""A discriminative process reward model: what is learned, what is saved, and who can load it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import genprm
from genprm.config import PrmConfig
from genprm.errors import ConfigError, TrainingError
from genprm.records import LabelledSolution
from genprm.text.step_tokens import KEY, StepLayout, layout_of
from genprm.training.prm.data import IGNORED, encode_rows
from read_keys import leaves, watched
from tiny_prm import tiny_prm

pytest.importorskip("torch")

PROBLEM = "Add."


def solution(number: int, labels: tuple[bool | None, ...]) -> LabelledSolution:
    """Right steps end with 5, wrong ones with 7, unknown ones with neither."""
    ends = {True: "5", False: "7", None: "6"}
    return LabelledSolution(
        id=f"s{number}",
        problem=PROBLEM,
        steps=tuple(
            f"Step {place + 1}: {number % 9} = {ends[label]}" for place, label in enumerate(labels)
        ),
        labels=labels,
        source="a rule",
    )


ROWS = [
    solution(number, ((True, False, None), (False, True), (True, True, False))[number % 3])
    for number in range(24)
]
OPTIONS: dict[str, Any] = {"batch_size": 8, "learning_rate": 2e-3, "epochs": 6, "micro_batch_size": 4}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any, list[int]]:
    """A trained folder, its report, and the steps that were reported."""
    folder = tmp_path_factory.mktemp("prm") / "model"
    seen: list[int] = []
    report = genprm.train_prm(
        ROWS, folder, model=tiny_prm(), seed=3, progress=lambda state: seen.append(state.step), **OPTIONS
    )
    return folder, report, seen


def test_it_learns_from_right_and_wrong_steps(trained: tuple[Path, Any, list[int]]) -> None:
    _, report, seen = trained
    assert (report.solutions, report.right_steps, report.wrong_steps, report.unknown_steps) == (
        24,
        32,
        24,
        8,
    )
    assert seen == list(range(1, 19)) and len(report.losses) == report.steps == 18
    assert report.losses[-1] < 0.1 < report.losses[0]
    encoded = encode_rows(ROWS, _tokenizer(), StepLayout(), steps="all", max_length=10**6).rows
    assert report.tokens == 6 * sum(len(row.input_ids) for row in encoded)


def test_the_folder_is_a_model_wherever_a_model_is_named(
    trained: tuple[Path, Any, list[int]], tmp_path: Path
) -> None:
    folder, _, _ = trained
    row = ROWS[2]
    found = genprm.verify(folder, PROBLEM, row.steps)
    assert [verdict.judgement for verdict in found.verdicts] == [True, True, False]
    assert found.first_error == row.first_error == 2
    bench = tmp_path / "split.jsonl"
    rows = [
        {"id": one.id, "problem": PROBLEM, "steps": one.steps, "label": one.first_error}
        for one in ROWS[1::3]
    ]
    bench.write_text("".join(json.dumps(values) + "\n" for values in rows))
    report = genprm.evaluate("processbench", {"split": bench}, str(folder), tmp_path / "eval")
    assert report.benchmark is not None and report.benchmark.model.components == ""
    assert report.benchmark.splits["split"]["pass@1"].error_accuracy.value == 100


def test_transformers_loads_it_and_reads_the_same_rewards(trained: tuple[Path, Any, list[int]]) -> None:
    import torch
    from transformers import AutoModelForTokenClassification, AutoTokenizer

    folder, _, _ = trained
    model = AutoModelForTokenClassification.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert model.config.id2label == {0: "wrong", 1: "right"}
    layout = layout_of(getattr(model.config, KEY), "it")
    tokens = layout.encode(tokenizer, PROBLEM, ROWS[0].steps)
    with torch.inference_mode():
        rewards = model(torch.tensor([tokens.ids])).logits.softmax(-1)[0, list(tokens.ends), 1]
    verdicts = genprm.verify(folder, PROBLEM, ROWS[0].steps).verdicts
    assert rewards.tolist() == pytest.approx([verdict.reward for verdict in verdicts], abs=1e-5)


def test_a_finished_folder_is_taken_and_nothing_else_is_overwritten(
    trained: tuple[Path, Any, list[int]], tmp_path: Path
) -> None:
    folder, report, _ = trained
    assert genprm.train_prm(ROWS, folder, model=tiny_prm(), seed=3, **OPTIONS) == report
    card = (folder / "README.md").read_text()
    assert "a rule" in card and "32 right, 24 wrong" in card and report.job in card
    with pytest.raises(TrainingError, match="another training job"):
        genprm.train_prm(ROWS, folder, model=tiny_prm(), seed=4, **OPTIONS)
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "notes.txt").write_text("keep")
    with pytest.raises(TrainingError, match="not empty"):
        genprm.train_prm(ROWS, mine, model=tiny_prm(), seed=3, **OPTIONS)
    assert [path.name for path in mine.iterdir()] == ["notes.txt"]


def test_a_damaged_model_is_reported_and_trained_again(
    trained: tuple[Path, Any, list[int]], tmp_path: Path
) -> None:
    folder, report, _ = trained
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    (copy / "config.json").write_text("{}")
    (copy / "notes.txt").write_text("keep")
    told: list[str] = []
    again = genprm.train_prm(ROWS, copy, model=tiny_prm(), seed=3, on_repair=told.append, **OPTIONS)
    assert told == [f"the trained model {copy}: config.json was changed or cut; it is trained again"]
    assert again.losses == pytest.approx(report.losses, rel=1e-4)
    assert again.files["config.json"] == report.files["config.json"]
    assert (copy / "notes.txt").read_text() == "keep" and "notes.txt" not in again.files


def test_a_killed_job_resumes_to_the_same_model(
    trained: tuple[Path, Any, list[int]], tmp_path: Path
) -> None:
    _, report, _ = trained

    class Killed(BaseException):
        pass

    def kill(state: Any) -> None:
        if state.step == 11:
            raise Killed

    folder = tmp_path / "model"
    with pytest.raises(Killed):
        genprm.train_prm(ROWS, folder, model=tiny_prm(), seed=3, progress=kill, **OPTIONS)
    less_memory = {**OPTIONS, "micro_batch_size": 2, "gradient_checkpointing": True}
    resumed = genprm.train_prm(ROWS, folder, model=tiny_prm(), seed=3, **less_memory)
    assert 0 < resumed.resumed_from < 11
    assert resumed.losses == pytest.approx(report.losses, rel=1e-4) and resumed.tokens == report.tokens
    assert resumed.files.keys() == report.files.keys() and not (folder / "checkpoints").exists()


@pytest.mark.parametrize(
    ("rows", "changes", "says"),
    [
        ([], {}, "no labelled solutions"),
        ([solution(1, (None, None))], {}, "1 have no label"),
        ([solution(1, (True, True))], {}, "all 2 labelled steps are right"),
        (ROWS, {"max_length": 3}, "24 are longer than 3 tokens"),
        (ROWS, {"model": ""}, "no model to train"),
        (ROWS, {"model": "/nowhere"}, "/nowhere"),
        (ROWS, {"learning_rate": 1e30, "warmup_ratio": 0.0}, "not finite"),
    ],
)
def test_what_cannot_be_trained_is_one_error(
    rows: list[LabelledSolution], changes: dict[str, Any], says: str, tmp_path: Path
) -> None:
    with pytest.raises(TrainingError, match=says):
        genprm.train_prm(
            rows, tmp_path / "model", **{"model": tiny_prm(), "epochs": 3, "batch_size": 8, **changes}
        )


@pytest.mark.parametrize(
    ("error", "kind", "says"),
    [
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory"),
            TrainingError,
            "more memory than there",
        ),
        (MemoryError(), TrainingError, "more memory than there is"),
        (RuntimeError("shapes do not fit"), RuntimeError, "shapes do not fit"),
    ],
)
def test_too_little_memory_of_the_machine_names_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, kind: type[Exception], says: str
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr("transformers.Trainer.training_step", full)
    with pytest.raises(kind, match=says) as caught:
        genprm.train_prm(ROWS, tmp_path / "model", model=tiny_prm(), **OPTIONS)
    assert "micro_batch_size" in getattr(caught.value, "hint", "micro_batch_size")


def test_the_loss_is_that_of_the_whole_step_however_it_is_cut(tmp_path: Path) -> None:
    """Rows have one to three labelled steps, so a mean of micro-batches' means would differ."""
    rows = [
        solution(number, ((True,), (False, True, True), (None, False))[number % 3]) for number in range(6)
    ]
    losses = []
    for size in (1, 6):
        options: dict[str, Any] = {"batch_size": 6, "micro_batch_size": size, "precision": "float32"}
        report = genprm.train_prm(rows, tmp_path / str(size), model=tiny_prm(), **options)
        losses.append(report.losses)
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_every_key_has_a_reader(tmp_path: Path) -> None:
    from genprm.training.prm import train_discriminative

    options = PrmConfig(model=tiny_prm(), batch_size=2, lora_rank=2, gradient_checkpointing=True)
    with watched(options) as reads:
        report = train_discriminative(ROWS[:3], options, tmp_path / "model", seed=0)
    assert set(reads.missing()) == set() and {key for key, _, _ in leaves(PrmConfig)}
    assert report.steps == 2 and not list((tmp_path / "model").glob("adapter*"))
    merged = genprm.verify(tmp_path / "model", PROBLEM, ROWS[0].steps)
    assert all(verdict.reward is not None for verdict in merged.verdicts)


# ---------------------------------------------------------------- tokens


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return _tokenizer()


def _tokenizer() -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_prm())


TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)


@settings(max_examples=25, deadline=None)
@given(problem=TEXT, steps=st.lists(TEXT, min_size=1, max_size=5))
def test_the_beginning_of_a_solution_is_the_beginning_of_its_tokens(
    tokenizer: Any, problem: str, steps: list[str]
) -> None:
    whole = StepLayout().encode(tokenizer, problem, steps)
    for count in range(1, len(steps) + 1):
        part = StepLayout().encode(tokenizer, problem, steps[:count])
        assert whole.ids[: len(part.ids)] == part.ids and whole.ends[:count] == part.ends
        assert part.ends[-1] == len(part.ids) - 1
    assert tokenizer.decode(whole.ids) == f"{problem}\n\n" + "".join(f"{step}\n\n" for step in steps)


def test_labels_stand_at_the_last_token_and_stop_where_asked(tokenizer: Any) -> None:
    rows = [solution(1, (True, False, True)), solution(2, (None, True))]
    every = encode_rows(rows, tokenizer, StepLayout(), steps="all", max_length=10**6)
    tokens = StepLayout().encode(tokenizer, PROBLEM, rows[0].steps)
    labelled = [place for place, label in enumerate(every.rows[0].labels) if label != IGNORED]
    assert tuple(labelled) == tokens.ends
    assert [every.rows[0].labels[place] for place in labelled] == [1, 0, 1]
    first = encode_rows(rows, tokenizer, StepLayout(), steps="to_first_error", max_length=10**6)
    assert len(first.rows[0].labels) == tokens.ends[1] + 1
    assert (every.counts["unknown"], first.counts["unknown"]) == (1, 1), "a label that is left out is known"
    short = encode_rows(rows[:1], tokenizer, StepLayout(), steps="all", max_length=tokens.ends[1] + 1)
    assert (short.counts["cut"], len(short.rows[0].labels)) == (1, tokens.ends[1] + 1)


def test_a_layout_is_read_or_asked_for() -> None:
    assert layout_of(StepLayout("\n", "").facts(), "m") == StepLayout("\n", "")
    for wrong in (None, {}, {"separator": "\n"}, {"separator": 1, "after_problem": ""}, "x"):
        with pytest.raises(ConfigError, match="does not say how its steps are separated"):
            layout_of(wrong, "m")
