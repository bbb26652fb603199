"""Metrics against numbers worked out by hand, and against the real ProcessBench files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genprm.errors import DataError
from genprm.evals.accuracy import pass_at_1, pass_at_n, share_correct, share_ungraded
from genprm.evals.metrics import harmonic_mean, label_quality, localisation_metrics, mean_metrics
from genprm.evals.processbench import average, evaluate, load_processbench
from genprm.records import NO_ERROR

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "processbench"


def test_localisation_by_hand() -> None:
    truth = [0, 1, 2, 3, -1, -1, -1]
    predicted = [0, 1, 1, None, -1, 2, None]
    found = localisation_metrics(truth, predicted)
    assert found.error_accuracy == 50.0
    assert found.correct_accuracy == pytest.approx(100 / 3)
    assert found.f1 == pytest.approx(2 * 50 * (100 / 3) / (50 + 100 / 3))  # 40
    assert found.f1 == pytest.approx(40.0)
    assert found.unparsed == pytest.approx(100 * 2 / 7)
    assert (found.erroneous, found.correct) == (4, 3)


def test_extremes() -> None:
    assert localisation_metrics([0, -1], [1, 0]).f1 == 0.0
    assert localisation_metrics([0, -1], [0, -1]).f1 == 100.0
    assert localisation_metrics([0, -1], [-1, -1]).f1 == 0.0
    only_errors = localisation_metrics([0, 1], [0, 0])
    assert (only_errors.error_accuracy, only_errors.correct_accuracy, only_errors.f1) == (50.0, None, None)
    nothing = localisation_metrics([], [])
    assert (nothing.f1, nothing.unparsed) == (None, None)


def test_published_figures_are_consistent() -> None:
    """GPT-4o on ProcessBench's GSM8K: 70.0 on erroneous, 91.2 on correct; the harmonic mean is 79.2."""
    assert harmonic_mean(70.0, 91.2) == pytest.approx(79.2, abs=0.05)


def test_mean_is_taken_of_f1_itself() -> None:
    one = localisation_metrics([0, -1], [0, -1])
    other = localisation_metrics([0, -1], [-1, -1])
    assert mean_metrics([one, other]).f1 == 50.0
    assert mean_metrics([one, other]).error_accuracy == 50.0
    assert mean_metrics([one, localisation_metrics([0], [0])]).f1 is None
    with pytest.raises(ValueError, match="no measurements"):
        mean_metrics([])


rows = st.lists(st.tuples(st.integers(-1, 4), st.integers(-1, 4) | st.none()), min_size=1, max_size=30)


@given(rows)
def test_localisation_properties(pairs: list[tuple[int, int | None]]) -> None:
    truth, predicted = [true for true, _ in pairs], [guess for _, guess in pairs]
    found = localisation_metrics(truth, predicted)
    assert found == localisation_metrics(truth[::-1], predicted[::-1])
    assert found.erroneous + found.correct == len(pairs)
    if found.f1 is not None:
        assert found.error_accuracy is not None and found.correct_accuracy is not None
        low, high = sorted([found.error_accuracy, found.correct_accuracy])
        assert low - 1e-9 <= found.f1 <= high + 1e-9
        assert (found.f1 == 0) == (low == 0)
    perfect = localisation_metrics(truth, list(truth))
    assert {perfect.error_accuracy, perfect.correct_accuracy} <= {100.0, None}


def test_label_quality_by_hand() -> None:
    # Solutions of four steps. Truth 2, labels 2: steps 0, 1, 2 right. Truth 1, labels 3: step 0 right, 1 not.
    # Truth none, labels none: all four. Truth none, labels 0: step 0 not. Truth 0, labels unknown.
    quality = label_quality([2, 1, NO_ERROR, NO_ERROR, 0], [2, 3, NO_ERROR, 0, None], [4, 4, 4, 4, 4])
    assert quality.rows == 5
    assert quality.accuracy == 40.0
    assert quality.step_accuracy == pytest.approx(100 * (3 + 1 + 4 + 0) / (3 + 2 + 4 + 1))
    assert quality.unknown == 20.0


def test_shares() -> None:
    assert share_correct([True, False, None, True]) == pytest.approx(200 / 3)
    assert share_correct([None]) is None
    assert share_ungraded([True, None]) == 50.0
    assert pass_at_1([[True, False], [True, None], [None]]) == 75.0
    assert pass_at_n([[True, False], [False, False], [None, True]]) == pytest.approx(200 / 3)
    assert pass_at_n([[False, None], [True]]) == 100.0
    assert pass_at_n([]) is None


@pytest.mark.parametrize(("name", "count", "erroneous"), [("gsm8k", 400, 207), ("math", 1000, 594)])
def test_real_processbench(name: str, count: int, erroneous: int) -> None:
    file = DATA / f"{name}.json"
    if not file.exists():
        pytest.skip("the shared data is not here")
    items = load_processbench(file)
    assert len(items) == count
    assert all(-1 <= item.label < len(item.steps) for item in items)
    raw = json.loads(file.read_text(encoding="utf-8"))
    assert [list(item.steps) for item in items] == [row["steps"] for row in raw]
    perfect = evaluate(items, [item.label for item in items])
    assert (perfect.erroneous, perfect.correct, perfect.f1) == (erroneous, count - erroneous, 100.0)
    optimist = evaluate(items, [NO_ERROR] * count)
    assert (optimist.error_accuracy, optimist.correct_accuracy, optimist.f1) == (0.0, 100.0, 0.0)
    first = evaluate(items, [0] * count)
    zeros = sum(row["label"] == 0 for row in raw)
    assert first.error_accuracy == pytest.approx(100 * zeros / erroneous)
    silent = evaluate(items, [None] * count)
    assert (silent.unparsed, silent.f1) == (100.0, 0.0)
    assert average({"a": perfect, "b": optimist}).f1 == 50.0


@pytest.mark.parametrize("label", [None, "1", 2, -2, True])
def test_bad_labels(tmp_path: Path, label: object) -> None:
    file = tmp_path / "x.jsonl"
    file.write_text(
        json.dumps({"id": "a", "problem": "P", "steps": ["s", "t"], "label": label}), encoding="utf-8"
    )
    with pytest.raises(DataError, match="label"):
        load_processbench(file)
