"""The report page: complete, honest about what is unknown, harmless whatever a model wrote."""

from __future__ import annotations

import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genprm.errors import StoreError
from genprm.records import (
    CodeRound,
    CodeStatus,
    SolutionScore,
    StepRationale,
    StepVerdict,
    Usage,
    Verification,
    Vote,
    VoteStatus,
)
from genprm.text.transcript import Segment, Turn, build_turn
from genprm.view import render_report, write_report
from genprm.view.charts import Series, bars, lines
from genprm.view.figures import figure
from genprm.view.highlight import highlight_python

MODES = ("direct", "cot", "cot+code", "cot+code+execution")


def full_report() -> dict[str, Any]:
    def metrics(f1: float) -> dict[str, float]:
        return {"error_accuracy": f1 - 4, "correct_accuracy": f1 + 4.5, "f1": f1, "unparsed": 0.4}

    single = dict(zip(MODES, (41.2, 70.4, 74.9, 85.3), strict=True))
    return {
        "notes": [
            "The teacher is a scripted tutor, not a language model.",
            "Figures are from the built-in world.",
        ],
        "labels": {
            "rows": 640,
            "accuracy": {"hard": 71.3, "difference": 78.8, "ratio": 84.1},
            "step_accuracy": {"hard": 88.0, "difference": 91.2, "ratio": 94.0},
        },
        "consensus": {
            "kept": 402,
            "dropped": 238,
            "reasons": {"label_mismatch": 201, "no_index": 37},
            "accuracy_before": 84.1,
            "accuracy_after": 96.8,
        },
        "localisation": {
            "solutions": 400,
            **{mode: {"pass@1": metrics(f1), "maj@8": metrics(f1 + 3.1)} for mode, f1 in single.items()},
        },
        "best_of_n": {
            "problems": 120,
            **{
                str(n): {
                    "pass@1": 48.3,
                    "majority": 48.3 + 6 * k,
                    "last": 48.3 + 7 * k,
                    "mean": 48.3 + 8.2 * k,
                    "min": 48.3 + 8.0 * k,
                    "pass@n": 48.3 + 11 * k,
                }
                for k, n in enumerate((1, 2, 4, 8, 16))
            },
        },
        "refinement": {
            "problems": 120,
            "critic": [48.3, 57.1, 60.4, 61.9],
            "self": [48.3, 47.0, 47.5, 46.9],
        },
        "cost": {
            "tokens": {"solutions": 812345, "montecarlo": 5012345, "train-rationale": 1200000},
            "engine_seconds": {"solutions": 40.2, "montecarlo": 201.5},
            "code_seconds": {"solutions": 0.0, "montecarlo": 0.0},
        },
        "seconds": 803.2,
        "seed": 7,
        "versions": {"genprm": "0.1.0", "python": "3.11.7"},
        "training": {"rationale": {"samples": 402, "steps": 300, "loss_first": 1.91, "loss_last": 0.084}},
    }


def vote(path: int, yes: bool, *, analysis: str = "Tom has 4 bags of 6 pens, so 4 * 6 is needed.") -> Vote:
    code = "# the claim of the paragraph\ntotal = 4 * 6\nprint(total == 24 or 'no')"
    turn = Turn(
        analysis, (Segment("code", code), Segment("output", str(yes)), Segment("prose", "They agree.")), yes
    )
    rounds = (CodeRound(code=code, output=str(yes), status=CodeStatus.OK, seconds=0.004),)
    rationale = StepRationale(text=build_turn(turn), analysis=analysis, rounds=rounds, judgement=yes)
    return Vote(path=path, reward=0.97 if yes else 0.04, judgement=yes, rationale=rationale)


def lost_vote(path: int) -> Vote:
    return Vote(path=path, status=VoteStatus.ENGINE_FAILED, reason="the engine did not answer in 30 s")


def verification(**changes: Any) -> Verification:
    steps = ("Step 1: 4 * 6 = 24 pens.", "Step 2: 24 + 5 = 30 pens.", "Step 3: The answer is 30.")
    verdicts = (
        StepVerdict(
            step=0, reward=0.97, judgement=True, votes=(vote(0, True), vote(1, True), lost_vote(2))
        ),
        StepVerdict(step=1, reward=0.04, judgement=False, votes=(vote(0, False), vote(1, False))),
        StepVerdict(step=2, status="skipped", reason="an earlier step is wrong"),
    )
    base: dict[str, Any] = {
        "item_id": "1",
        "problem": "Tom has 4 bags of 6 pens and finds 5 more. How many pens has he?",
        "steps": steps,
        "verdicts": verdicts,
        "first_error": 1,
        "score": SolutionScore(last=None, mean=0.5, min=0.04, prod=0.039),
        "verifier": "local:genprm",
        "usage": Usage(completion_tokens=1234),
    }
    return Verification(**(base | changes))


class Reader(HTMLParser):
    """Collects tags, visible text, and checks that tags nest."""

    VOID = frozenset({"meta", "link", "br", "hr", "img", "input"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)
        self.close()
        assert not self.open, f"left open: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.text += data


def test_every_figure_of_the_report_is_on_the_page() -> None:
    text = Reader(render_report(full_report(), [verification()])).text
    expected = ["84.1 %", "71.3 %", "402", "238", "96.8 %", "88.4 %", "85.3 %", "61.9 %", "46.9 %"]
    expected += ["5,012,345", "201.5", "803.2 s", "label mismatch", "scripted tutor", "0.084"]
    assert [one for one in expected if one not in text] == []


def test_the_page_shows_steps_votes_code_and_output() -> None:
    text = Reader(render_report(full_report(), [verification()])).text
    for part in (
        "Step 2: 24 + 5 = 30 pens.",
        "first wrong step: 2",
        "3 votes, 2 counted",
        "total = 4 * 6",
        "ran in 4 ms",
        "They agree.",
        "not counted: engine failed",
        "the engine did not answer in 30 s",
        "an earlier step is wrong",
        "0.970",
    ):
        assert part in text, part


def test_the_page_needs_no_network_and_no_script() -> None:
    page = render_report(full_report(), [verification()])
    tags = Reader(page).tags
    assert {tag for tag, _ in tags} & {"script", "link", "img", "iframe", "object", "form"} == set()
    targets = [
        value for _, attributes in tags for name, value in attributes.items() if name in ("href", "src")
    ]
    assert all(target is not None and target.startswith("#") for target in targets)
    assert "http://" not in page and "https://" not in page and "url(" not in page


def test_unknown_figures_are_called_unknown_with_their_reason() -> None:
    report = full_report()
    report["labels"]["accuracy"]["hard"] = None
    report["unknown"] = {"labels.accuracy.hard": "no estimate of these solutions survived"}
    report["localisation"]["cot"]["maj@8"]["f1"] = None
    text = Reader(render_report(report, [])).text
    assert "no estimate of these solutions survived" in text
    assert "nothing could be measured" in text


def test_an_empty_report_is_all_unknown_and_has_no_zero() -> None:
    text = Reader(render_report({}, [])).text
    assert "not in this report" in text
    assert "0.0 %" not in text


def test_a_verification_without_verdict_is_open() -> None:
    row = verification(
        first_error=None, verdicts=(StepVerdict(step=0, status="unparsed", votes=(lost_vote(0),)),)
    )
    text = Reader(render_report({}, [row])).text
    assert "the first wrong step is unknown" in text
    assert "no judgement could be read" in text


HOSTILE = "</pre></code><script>alert(1)</script><img src=x onerror=alert(2)>\"'><style>*{display:none}"


def test_model_output_is_text_everywhere() -> None:
    report = full_report()
    report["notes"] = [HOSTILE]
    report["consensus"]["reasons"] = {HOSTILE: 3}
    report["cost"]["tokens"] = {HOSTILE: 1}
    report["versions"] = {HOSTILE: HOSTILE}
    code = f"print('{HOSTILE}')  # {HOSTILE}"
    rationale = StepRationale(
        text=f"<analyze>\n{HOSTILE}\n</analyze>\n<verify>\n```python\n{code}\n```\n[Code Output]\n\n```\n{HOSTILE}\n```\n"
    )
    bad = Vote(reason=HOSTILE, status=VoteStatus.NO_JUDGEMENT, rationale=rationale)
    row = verification(
        problem=HOSTILE,
        verifier=HOSTILE,
        steps=(HOSTILE,),
        verdicts=(StepVerdict(step=0, status="unparsed", reason=HOSTILE, votes=(bad,)),),
    )
    page = render_report(report, [row])
    reader = Reader(page)
    assert {tag for tag, _ in reader.tags} & {"script", "img"} == set()
    assert not [name for _, attributes in reader.tags for name in attributes if name.startswith("on")]
    assert page.count("<style>") == 1


@given(st.text(max_size=200))
def test_highlighting_keeps_the_text(code: str) -> None:
    class Plain(HTMLParser):
        text = ""

        def handle_data(self, data: str) -> None:
            self.text += data

    plain = Plain()
    plain.feed(str(highlight_python(code)).replace("\r", "&#13;").replace("\0", "&#65533;"))
    plain.close()
    assert plain.text.replace("\ufffd", "\0").replace("\r", "") == code.replace("\ufffd", "\0").replace(
        "\r", ""
    )


def test_highlighting_marks_the_parts_of_python() -> None:
    html = highlight_python("for x in range(10): print('a # b')  # done")
    assert '<span class="tok-keyword">for</span>' in html
    assert '<span class="tok-builtin">range</span>' in html
    assert '<span class="tok-number">10</span>' in html
    assert '<span class="tok-string">&#39;a # b&#39;</span>' in html
    assert '<span class="tok-comment"># done</span>' in html


def test_charts_draw_no_bar_and_no_point_for_unknown_figures() -> None:
    series = [Series("one", [figure(50.0), figure(None)], 1)]
    chart = bars("t", ["a", "b"], series)
    assert 'width="0.0"' in chart and "unknown" in chart
    assert lines("t", ["1", "2"], series, "x").count("<circle") == 1


def test_writing_is_atomic_and_failures_have_a_type(tmp_path: Path) -> None:
    write_report(full_report(), [verification()], tmp_path / "report.html")
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    with pytest.raises(StoreError, match="cannot write the report"):
        write_report({}, [], tmp_path / "no" / "such" / "report.html")


def test_surrogates_in_model_output_do_not_break_writing(tmp_path: Path) -> None:
    write_report({"notes": ["\ud800"]}, [], tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text(encoding="utf-8")


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
def test_a_real_browser_shows_the_page(tmp_path: Path) -> None:
    """The page's own policy forbids scripts; what a browser made of it still holds the hostile text as text."""
    page = tmp_path / "report.html"
    write_report(full_report(), [verification(problem=HOSTILE)], page)
    assert CHROMIUM is not None
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert "Verified solutions" in done.stdout
    assert "&lt;script&gt;alert(1)" in done.stdout
    assert "<script" not in done.stdout
