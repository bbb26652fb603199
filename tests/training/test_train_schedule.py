"""The learning rate over a job: it is never 0 at every step, and a job that had no time to train is no success."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_train_rl import DPO, ROWS, verified
from test_train_sft import options, samples, train, weights

import genprm
from genprm.config import DpoConfig, PrmConfig
from genprm.errors import TrainingError
from genprm.records import LabelledSolution
from genprm.training import sft
from genprm.training.schedule import shares
from tiny_prm import tiny_prm

torch = pytest.importorskip("torch")
pytest.importorskip("trl")
pytestmark = pytest.mark.usefixtures("one_thread")

LABELLED = [LabelledSolution(id="s", problem="Add.", steps=("1 = 1", "1 = 2"), labels=(True, False))]
Schedule = Literal["constant", "linear", "cosine"]


@given(
    st.integers(1, 300),
    st.floats(0, 0.99),
    st.sampled_from(["constant", "linear", "cosine"]),
    st.sampled_from([PrmConfig, DpoConfig]),
)
def test_every_step_has_a_rate_that_rises_and_then_falls(
    steps: int, warmup: float, schedule: Schedule, section: type[PrmConfig] | type[DpoConfig]
) -> None:
    share = shares(section(warmup_ratio=warmup, schedule=schedule), steps)
    found = [share(step) for step in range(steps)]
    assert all(0 < one <= 1 for one in found)
    top = found.index(max(found))
    assert found[: top + 1] == sorted(found[: top + 1])
    assert found[top:] == sorted(found[top:], reverse=True)


def moved(before: dict[str, Any], after: dict[str, Any]) -> bool:
    return any(not torch.equal(tensor, after[name]) for name, tensor in before.items() if "model" in name)


def test_a_discriminative_model_of_one_step_learns_in_it(tmp_path: Path) -> None:
    report = genprm.train_prm(LABELLED, tmp_path, model=tiny_prm(), warmup_ratio=0.9, learning_rate=1e-2)
    assert report.steps == 1 and moved(weights(Path(tiny_prm())), weights(tmp_path))


def test_dpo_of_one_step_learns_in_it(base: str, tmp_path: Path) -> None:
    changes = {**DPO, "batch_size": 1000, "epochs": 1, "warmup_ratio": 0.9}
    report = genprm.train_dpo(verified(ROWS, "Yes", "No"), ROWS, tmp_path, model=base, **changes)
    assert report.steps == 1 and moved(weights(Path(base)), weights(tmp_path))


@pytest.mark.parametrize("late", ["before the folder is claimed", "after it"])
def test_a_budget_that_is_over_before_the_first_step_is_an_error(
    base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, late: str
) -> None:
    """Its only step would have the rate 0, and the base would be saved as what was learned."""
    if late == "after it":
        monkeypatch.setattr(sft, "_require_time", lambda *_: None)
    out = tmp_path / "out"
    with pytest.raises(TrainingError, match=r"max_seconds=0\.001 was over before the first step") as caught:
        train(samples(4), options(base, max_seconds=1e-3), out, seed=0)
    assert "set train.max_seconds to what training is to take" in caught.value.hint
    assert not out.exists(), "it is free for a job with more time"
