"""ProcessBench: its files, seeded samples of them, and the section of the report."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genprm.errors import DataError
from genprm.evals.processbench import (
    ProcessBenchItem,
    benchmark_section,
    evaluate,
    load_processbench,
    sample_items,
)
from genprm.records import NO_ERROR, BenchmarkModel, Sampling, StepVerdict, Verification, Vote
from genprm.rewards import first_error, tally

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "processbench"


def item(number: int, label: int, steps: int = 3) -> ProcessBenchItem:
    return ProcessBenchItem(f"i{number}", "P", tuple(f"s{k}" for k in range(steps)), label)


def verified(paths: list[int]) -> Verification:
    """A verification of three steps, in which each path names a first error."""
    verdicts: list[StepVerdict] = []
    for step in range(3):
        votes = [
            Vote(path=path, reward=0.2 if error == step else 0.9, judgement=error != step)
            for path, error in enumerate(paths)
        ]
        verdicts.append(tally(step, votes))
    return Verification(
        item_id="x",
        problem="P",
        steps=("s0", "s1", "s2"),
        verdicts=tuple(verdicts),
        first_error=first_error([verdict.judgement for verdict in verdicts]),
    )


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
    assert (perfect.erroneous, perfect.correct, perfect.f1.value) == (erroneous, count - erroneous, 100.0)
    optimist = evaluate(items, [NO_ERROR] * count)
    assert (optimist.error_accuracy.value, optimist.correct_accuracy.value, optimist.f1.value) == (
        0.0,
        100.0,
        0.0,
    )
    first = evaluate(items, [0] * count)
    zeros = sum(row["label"] == 0 for row in raw)
    assert first.error_accuracy.value == pytest.approx(100 * zeros / erroneous)
    silent = evaluate(items, [None] * count)
    assert (silent.unparsed.value, silent.f1.value) == (100.0, 0.0)
    sample = sample_items(items, 100)
    assert sum(item.label != NO_ERROR for item in sample) == round(100 * erroneous / count)


@pytest.mark.parametrize("label", [None, "1", 2, -2, True])
def test_bad_labels(tmp_path: Path, label: object) -> None:
    file = tmp_path / "x.jsonl"
    file.write_text(
        json.dumps({"id": "a", "problem": "P", "steps": ["s", "t"], "label": label}), encoding="utf-8"
    )
    with pytest.raises(DataError, match="label"):
        load_processbench(file)


@given(st.lists(st.integers(-1, 2), max_size=60), st.integers(1, 70), st.integers(0, 3))
def test_a_sample_keeps_the_mix_and_the_order(labels: list[int], limit: int, seed: int) -> None:
    items = [item(number, label) for number, label in enumerate(labels)]
    sample = sample_items(items, limit, seed)
    assert len(sample) == min(limit, len(items))
    numbers = [items.index(one) for one in sample]
    assert numbers == sorted(set(numbers))
    if sample:
        expected = len(sample) * sum(label != NO_ERROR for label in labels) / len(labels)
        assert abs(sum(one.label != NO_ERROR for one in sample) - expected) <= 0.5
    assert sample == sample_items(items, limit, seed)
    assert {one.id for one in sample} <= {one.id for one in sample_items(items, limit + 1, seed)}


def test_a_sample_is_not_the_first_rows() -> None:
    items = [item(number, NO_ERROR if number < 50 else 0) for number in range(100)]
    samples = [sample_items(items, 10, seed) for seed in range(5)]
    assert len({tuple(one.id for one in sample) for sample in samples}) == 5
    assert sample_items(items, None) == items


def test_the_section_has_a_row_for_each_way_of_voting() -> None:
    pairs = [
        (item(0, 1), verified([1, 1, 1])),
        (item(1, 0), verified([2, NO_ERROR, NO_ERROR])),
        (item(2, NO_ERROR), verified([NO_ERROR, NO_ERROR, 1])),
    ]
    section = benchmark_section(
        {"a": pairs, "b": pairs[::2]},
        model=BenchmarkModel(name="m", votes=3),
        data={"a": "a.json", "b": "b.json"},
        sampling=Sampling(available={"a": 3, "b": 2}),
        each_path=True,
    )
    assert set(section.average) == {"pass@1", "maj@3", "first_error@3"}
    assert section.splits["a"]["maj@3"].error_accuracy.value == 50.0
    assert section.splits["a"]["pass@1"].correct_accuracy.value == pytest.approx(200 / 3)
    assert section.splits["a"]["first_error@3"].correct_accuracy.value == 100.0
    f1s = [section.splits[name]["maj@3"].f1.value for name in ("a", "b")]
    assert f1s == pytest.approx([200 / 3, 100.0])
    assert section.average["maj@3"].f1.value == pytest.approx(sum(filter(None, f1s)) / 2)


@pytest.mark.parametrize(("votes", "key"), [(1, "pass@1"), (3, "maj@3")])
def test_without_complete_paths_only_the_verifiers_own_vote_is_measured(votes: int, key: str) -> None:
    section = benchmark_section(
        {"a": [(item(0, 1), verified([1] * votes))]},
        model=BenchmarkModel(name="m", votes=votes),
        data={"a": "a.json"},
        sampling=Sampling(),
    )
    assert list(section.average) == list(section.splits["a"]) == [key]
