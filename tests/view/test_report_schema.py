"""The report's schema: nothing unknown without a reason, nothing certain without an interval, stable JSON keys."""

from __future__ import annotations

import json
from typing import Any, get_args

import pytest
import reports
from pydantic import ValidationError

from genprm.config import Components
from genprm.records import (
    BenchmarkModel,
    BenchmarkSection,
    BestOfNSection,
    LocalisationSection,
    Mode,
    Report,
    Sampling,
    Share,
)
from genprm.view import render_report

REPORTS = [reports.quickstart_report(), reports.eval_report()]


@pytest.mark.parametrize("report", REPORTS, ids=lambda r: r.kind)
def test_every_share_has_an_interval_or_a_reason(report: Report) -> None:
    found = list(reports.shares(report))
    assert len(found) > 20
    for path, share in found:
        if share.low is None:
            assert share.reason, path
        else:
            assert share.value is not None and share.high is not None, path
            assert share.low <= share.value <= share.high, path


@pytest.mark.parametrize("report", REPORTS, ids=lambda r: r.kind)
def test_a_report_survives_json_and_renders_the_same(report: Report) -> None:
    again = Report.model_validate_json(report.model_dump_json())
    assert again == report
    assert render_report(again) == render_report(report)
    with pytest.raises(ValidationError):
        Report.model_validate(json.loads(report.model_dump_json()) | {"surprise": 1})


def test_the_keys_of_a_quickstart_report() -> None:
    report = REPORTS[0].model_dump(mode="json")
    paths = [f"labels.accuracy.{method}.value" for method in ("hard", "difference", "ratio")]
    paths += ["labels.rows", "consensus.kept", "consensus.dropped", "consensus.accuracy_before.value"]
    paths += ["consensus.accuracy_after.value", "localisation.solutions", "best_of_n.problems"]
    paths += [
        "refinement.problems",
        "cost.tokens",
        "cost.engine_seconds",
        "cost.code_seconds",
        "seconds",
        "seed",
    ]
    paths += ["versions.genprm", "best_of_n.evaluated.16", "training.rationale.loss_last"]
    paths += [
        f"localisation.{mode}.{votes}.{figure}.value"
        for mode, n in {"direct": 1, "cot": 4, "cot+code": 4, "cot+code+execution": 8}.items()
        for votes in ("pass@1", *([f"maj@{n}"] if n > 1 else []))
        for figure in ("error_accuracy", "correct_accuracy", "f1", "unparsed", "failed")
    ]
    paths += [
        f"best_of_n.{n}.{rule}.value"
        for n in (1, 2, 4, 8, 16)
        for rule in ("pass@1", "majority", "weighted", "last", "mean", "min", "pass@n")
    ]
    for path in paths:
        value: Any = report
        for key in path.split("."):
            assert key in value, path
            value = value[key]
        assert value is not None, path
    for kind in ("critic", "self"):
        assert [type(turn["value"]) for turn in report["refinement"][kind]] == [float] * 4


@pytest.mark.parametrize(
    "fields",
    [
        {"value": 50.0},
        {"value": None},
        {"value": 50.0, "reason": ""},
        {"value": 50.0, "low": 40.0, "high": 60.0},
        {"value": 50.0, "low": 40.0, "method": "wilson"},
        {"value": None, "low": 40.0, "high": 60.0, "method": "wilson"},
        {"value": 70.0, "low": 40.0, "high": 60.0, "method": "wilson"},
        {"value": 50.0, "low": 40.0, "high": 60.0, "method": "wilson", "reason": "why"},
        {"value": 101.0, "low": 40.0, "high": 110.0, "method": "wilson"},
        {"value": float("nan"), "reason": "why"},
    ],
)
def test_half_known_shares_are_rejected(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Share(**fields)


def test_a_share_may_be_known_without_an_interval() -> None:
    assert Share(value=50, total=3, reason="why").low is None
    assert Share.unknown("why", total=3) == Share(value=None, total=3, reason="why")


def test_keys_that_are_data_are_checked() -> None:
    figures = {"pass@1": reports.localised(60)}
    for modes in (
        {"guess": figures},
        {"cot": {"maj@0": figures["pass@1"]}},
        {"cot": {"best": figures["pass@1"]}},
    ):
        with pytest.raises(ValidationError):
            LocalisationSection.model_validate({"solutions": 3, "erroneous": 1, **modes})
    share = {"mean": reports.share(50)}
    for sizes in ({"0": share}, {"two": share}, {"2": {"luck": reports.share(50)}}, {"4": share}):
        with pytest.raises(ValidationError):
            BestOfNSection.model_validate(
                {"problems": 3, "evaluated": {2: 3}, "ungraded": 0, "unscored": 0, **sizes}
            )


def test_splits_and_their_average_are_voted_on_alike() -> None:
    one = reports.localised(60)
    with pytest.raises(ValidationError, match="differently"):
        BenchmarkSection(
            name="b",
            splits={"a": {"pass@1": one}},
            average={"maj@8": one},
            data={},
            sampling=Sampling(),
            model=BenchmarkModel(name="m"),
        )


def test_a_report_is_frozen() -> None:
    with pytest.raises(ValidationError):
        REPORTS[0].title = "other"  # type: ignore[misc]
    section = REPORTS[0].localisation
    assert section is not None
    with pytest.raises(ValidationError):
        section.solutions = 1


def test_modes_are_the_components_of_the_config() -> None:
    assert set(get_args(Mode)) == set(get_args(Components))
