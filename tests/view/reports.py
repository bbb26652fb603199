"""Reports with every section, for the tests of the page and of the schema."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pydantic import BaseModel

from genprm.evals.intervals import mean_share, plain_share
from genprm.records import (
    BenchmarkModel,
    BenchmarkSection,
    BestOfNSection,
    ConsensusSection,
    CostSection,
    LabelsSection,
    LocalisationFigures,
    LocalisationSection,
    Mode,
    Provenance,
    RefinementSection,
    Report,
    Sampling,
    SelectionRule,
    Share,
    TrainingSection,
)


def shares(part: object, path: str = "") -> Iterator[tuple[str, Share]]:
    """Every share anywhere in a report, with its dotted path."""
    if isinstance(part, Share):
        yield path, part
    elif isinstance(part, BaseModel):
        for name, value in part:
            yield from shares(value, f"{path}.{name}")
    elif isinstance(part, Mapping):
        for name, value in part.items():
            yield from shares(value, f"{path}.{name}")
    elif isinstance(part, tuple):
        for index, value in enumerate(part):
            yield from shares(value, f"{path}.{index}")


def share(value: float, total: int = 400) -> Share:
    return plain_share(round(value * total / 100), total)


def mean(value: float, total: int = 120) -> Share:
    """A mean over items between 0 and 1 around the value."""
    spread = min(value, 100 - value) / 100
    return mean_share([value / 100 + (spread if index % 2 else -spread) for index in range(total)])


def localised(f1: float) -> LocalisationFigures:
    return LocalisationFigures(
        error_accuracy=share(f1 - 4, 207),
        correct_accuracy=share(f1 + 4.5, 193),
        f1=mean(f1),
        unparsed=share(0.5),
        failed=share(0.25),
        erroneous=207,
        correct=193,
    )


def _voted(mode: Mode, f1: float) -> dict[str, LocalisationFigures]:
    """As in the quickstart: the full form has eight votes, others four, and the direct form one."""
    votes = {"direct": 1, "cot+code+execution": 8}.get(mode, 4)
    return {f"maj@{votes}": localised(f1)} if votes > 1 else {}


def quickstart_report() -> Report:
    f1s: dict[Mode, float] = {
        "direct": 41.2, "cot": 70.4, "cot+code": 74.9, "cot+code+execution": 85.3,
    }  # fmt: skip
    gains: dict[SelectionRule, float] = {
        "pass@1": 0, "majority": 6, "weighted": 7.4, "last": 7, "mean": 8.2, "min": 8, "pass@n": 11,
    }  # fmt: skip
    sizes = (1, 2, 4, 8, 16)
    return Report(
        title="Quickstart in the arithmetic world",
        kind="quickstart",
        notes=(
            "The teacher is a scripted tutor, not a language model.",
            "Figures are from the built-in world.",
        ),
        labels=LabelsSection(
            rows=640,
            accuracy={"hard": share(71.25, 640), "difference": share(78.8, 640), "ratio": share(84.1, 640)},
            step_accuracy={"hard": mean(88), "difference": mean(91.2), "ratio": mean(94)},
            unknown={"hard": share(0), "difference": share(1), "ratio": share(1)},
            unseen={"slip": share(4, 70), "wrong_noun": share(90, 20)},
        ),
        consensus=ConsensusSection(
            kept=402,
            dropped=238,
            reasons={"disagree": 201, "label_unknown": 37},
            accuracy_before=share(84.1, 640),
            accuracy_after=share(96.8, 402),
            step_accuracy_before=mean(94),
            step_accuracy_after=mean(98.7),
        ),
        training={
            "rationale": TrainingSection(
                samples=402,
                dropped_too_long=3,
                steps=300,
                tokens=1_200_000,
                loss_first=1.91,
                loss_last=0.084,
                ended_by="plan",
                seconds=201.5,
            ),
        },
        localisation=LocalisationSection.of(
            400,
            207,
            {mode: {"pass@1": localised(f1), **_voted(mode, f1 + 3.1)} for mode, f1 in f1s.items()},
        ),
        best_of_n=BestOfNSection.of(
            120,
            {n: {rule: mean(48.3 + gain * k) for rule, gain in gains.items()} for k, n in enumerate(sizes)},
            dict.fromkeys(sizes, 120),
            ungraded=2,
            unscored=5,
        ),
        refinement=RefinementSection(
            problems=120,
            critic=tuple(share(value, 120) for value in (48.3, 57.1, 60.4, 61.9)),
            self=tuple(share(value, 120) for value in (48.3, 47.0, 47.5, 46.9)),
            critic_changed=(55, 41, 38),
            self_changed=(120, 119, 117),
        ),
        cost=CostSection(
            tokens={"solutions": 812345, "montecarlo": 5012345, "train-rationale": 1200000},
            engine_seconds={"solutions": 40.2, "montecarlo": 201.5},
            code_seconds={"solutions": 0.0, "montecarlo": 0.0},
            wall_seconds={"solutions": 30.2, "montecarlo": 150.5, "train-rationale": 201.5},
        ),
        seconds=803.2,
        seed=7,
        versions={"genprm": "0.1.0", "python": "3.11.7"},
        provenance=provenance(),
    )


def provenance() -> Provenance:
    return Provenance(
        date="2026-01-02T03:04:05+00:00",
        git_commit="0123abcd",
        machine={"system": "Linux", "arch": "x86_64", "cores": 2},
        command="genprm quickstart --seed 7",
        config={"seed": 7, "verify": {"votes": 8}},
    )


def eval_report() -> Report:
    votes = {"pass@1": -3.0, "maj@8": 0.0, "first_error@8": -0.8}
    f1s = {"gsm8k": 81.0, "math": 85.7}
    return Report(
        title="ProcessBench",
        kind="eval",
        benchmark=BenchmarkSection(
            name="processbench",
            splits={
                name: {key: localised(f1 + less) for key, less in votes.items()} for name, f1 in f1s.items()
            },
            average={key: localised(83.3 + less) for key, less in votes.items()},
            data={"gsm8k": "gsm8k.json", "math": "math.json"},
            sampling=Sampling(limit=400, seed=3, available={"gsm8k": 400, "math": 1000}),
            model=BenchmarkModel(name="GenPRM-7B", url="http://verifier:8000/v1", votes=8),
        ),
        cost=CostSection(tokens={"processbench-gsm8k": 123456, "processbench-math": 654321}),
        seed=3,
        versions={"genprm": "0.1.0"},
        provenance=provenance(),
    )
