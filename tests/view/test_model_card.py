"""Model cards say what was recorded, and call the rest so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import reports

from genprm.config import QuickstartConfig, TrainConfig, dump_config
from genprm.errors import ConfigError
from genprm.store import RunStore
from genprm.view.model_card import course_of, model_card, write_model_card

JOB: dict[str, Any] = {
    "job": "abc",
    "seed": 3,
    "steps": 2,
    "samples": 40,
    "dropped_too_long": 1,
    "losses": [0.7, 0.5],
    "device": "cpu",
    "precision": "float32",
    "versions": {"torch": "2.13"},
}
PRM: dict[str, Any] = {
    **JOB,
    "model": "org/base",
    "options": {
        "separator": "\n\n",
        "steps": "to_first_error",
        "batch_size": 8,
        "learning_rate": 1e-5,
        "schedule": "cosine",
        "lora_rank": 0,
    },
    "solutions": 1200,
    "dropped_unlabelled": 2,
    "right_steps": 300,
    "wrong_steps": 40,
    "unknown_steps": 5,
    "cut_steps": 6,
    "sources": [f"source {n}" for n in range(7)],
}


def rows(card: str) -> dict[str, str]:
    """The rows of the card's two-column tables."""
    cells = [line.strip("|").split("|") for line in card.splitlines() if line.startswith("| ")]
    return {pair[0].strip(): pair[1].strip() for pair in cells if len(pair) == 2}


def test_a_discriminative_model_names_its_labels_and_separator(tmp_path: Path) -> None:
    (tmp_path / "genprm_prm_training.json").write_text(json.dumps(PRM))
    write_model_card(tmp_path)
    card = (tmp_path / "README.md").read_text()
    found = rows(card)
    assert card.startswith("---\nlibrary_name: transformers\npipeline_tag: token-classification\n")
    assert r"`\n\n`" not in card and r'`"\n\n"`' in card
    assert found["steps"] == "300 right, 40 wrong, 5 unknown, 6 cut off"
    assert found["labels"] == "source 0; source 1; source 2; source 3; source 4; 2 more"
    assert found["loss on"] == "labelled steps up to the first wrong one"
    assert (found["started from"], found["seed"], found["job"]) == ("org/base", "3", "abc")
    assert "Not measured" in card


def test_a_generative_model_says_what_is_not_recorded(tmp_path: Path) -> None:
    (tmp_path / "genprm_training.json").write_text(json.dumps(JOB))
    alone = rows(model_card(tmp_path))
    assert (alone["started from"], alone["chats"]) == ("not recorded", "40, 1 more were too long")
    assert alone["loss, nats"] == "0.7000 in the first step, 0.6000 in the last ones"
    options = TrainConfig(lora_rank=8).model_dump(mode="json", exclude={"model"})
    more = {"model": "org/base", "options": options, "components": {"cot": 30, "direct": 10}}
    ended = {"ended_by": "seconds", "planned_steps": 1750000}
    (tmp_path / "genprm_training.json").write_text(json.dumps({**JOB, **more, **ended}))
    found = rows(model_card(tmp_path))
    assert (found["started from"], found["components"]) == ("org/base", "cot 30, direct 10")
    assert found["adapters"] == "LoRA of rank 8, merged into the weights"
    assert found["optimizer steps"] == "2 of 1,750,000: the budget in seconds was over"


@pytest.mark.parametrize(
    ("components", "says"),
    [
        ("cot", "It analyses and then judges each step"),
        ("code", "It checks with Python that is not executed and then judges each step"),
        ("cot+code+execution", "It analyses, checks with executed Python, and then judges each step"),
        (None, "It writes about and then judges each step"),
    ],
)
def test_a_generative_model_does_what_it_is_asked_for(
    tmp_path: Path, components: str | None, says: str
) -> None:
    (tmp_path / "genprm_training.json").write_text(json.dumps(JOB))
    asked = {} if components is None else {"components": components}
    (tmp_path / "genprm.json").write_text(json.dumps({"verify": asked}))
    assert says in model_card(tmp_path)


FURTHER: dict[str, Any] = {
    **JOB,
    "model": "org/base",
    "options": {**PRM["options"], "batch_size": 32, "beta": 0.1, "paths": 4, "temperature": 1.0},
}


def test_a_step_took_no_more_pairs_than_there_were(tmp_path: Path) -> None:
    facts = {**FURTHER, "pairs": 5, "counts": {"paired": 5}, "margins": [0.0, 0.2]}
    (tmp_path / "genprm_dpo_training.json").write_text(json.dumps(facts))
    assert rows(model_card(tmp_path))["batch"] == "5 pairs per optimizer step"
    (tmp_path / "genprm_prm_training.json").write_text(json.dumps({**PRM, "solutions": 3}))
    assert rows(model_card(tmp_path))["batch"] == "3 per optimizer step"


def test_a_first_step_without_a_reward_is_unknown(tmp_path: Path) -> None:
    facts = {**FURTHER, "outcomes": [{"lost": 4}], "rewards": [None, 0.5, None], "solutions": 3}
    facts["dropped_unlabelled"] = 0
    facts["options"] = {**FURTHER["options"], "solutions": 16}
    (tmp_path / "genprm_grpo_training.json").write_text(json.dumps(facts))
    found = rows(model_card(tmp_path))
    assert found["course"] == "mean reward unknown in the first step, unknown in the last"
    assert found["batch"] == "3 solutions per optimizer step"
    assert course_of([0.25, None, 0.5]) == "0.250 in the first step, 0.500 in the last"


def test_the_run_that_made_the_data_says_nothing_of_the_training(tmp_path: Path) -> None:
    """Its section `train` may have trained another model, or none."""
    config = QuickstartConfig(seed=11)
    with RunStore(tmp_path / "run", config=dump_config(config), facts={}):
        pass
    (tmp_path / "genprm_training.json").write_text(json.dumps(JOB))
    found = rows(model_card(tmp_path, run=tmp_path / "run"))
    assert found["started from"] == "not recorded" and "batch" not in found
    (tmp_path / "genprm_training.json").unlink()
    (tmp_path / "genprm_prm_training.json").write_text(json.dumps(PRM))
    found = rows(model_card(tmp_path, run=tmp_path / "run"))
    assert (found["started from"], found["data seed"]) == ("org/base", "11")


def test_a_quickstarts_run_tells_of_its_data(tmp_path: Path) -> None:
    """Its config has a section more than other runs'."""
    config = QuickstartConfig(seed=11)
    with RunStore(tmp_path / "run", config=dump_config(config), facts={}):
        pass
    (tmp_path / "genprm_training.json").write_text(json.dumps(JOB))
    found = rows(model_card(tmp_path, run=tmp_path / "run"))
    assert found["data seed"] == "11"
    assert found["label rule"] == f"{config.label.method}, threshold {config.label.threshold:g}"
    (tmp_path / "run" / "config.yaml").write_text("{")
    with pytest.raises(ConfigError, match=r"config\.yaml is not valid YAML"):
        model_card(tmp_path, run=tmp_path / "run")


def test_measured_figures_stand_with_their_intervals(tmp_path: Path) -> None:
    (tmp_path / "genprm_training.json").write_text(json.dumps(JOB))
    report = reports.eval_report()
    card = model_card(tmp_path, report=report)
    assert report.benchmark is not None
    assert report.benchmark.model.name in card
    for split, by_votes in report.benchmark.splits.items():
        for votes, figures in by_votes.items():
            assert f"| {split} | {votes} | " in card
            assert figures.f1.value is not None and f"{figures.f1.value:.1f} [" in card


def test_another_folder_has_no_card(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no model that genprm trained"):
        model_card(tmp_path)
    (tmp_path / "genprm_training.json").write_text("{")
    with pytest.raises(ConfigError, match="cannot be read"):
        model_card(tmp_path)
