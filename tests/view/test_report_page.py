"""The report page: complete, honest about what is unknown, harmless whatever a model wrote."""

from __future__ import annotations

import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import reports
from hypothesis import given, settings
from hypothesis import strategies as st

from genprm.errors import StoreError
from genprm.records import (
    CodeRound,
    CodeStatus,
    LabelsSection,
    Report,
    Share,
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
from genprm.view.figures import figure, percent
from genprm.view.highlight import highlight_python


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


def bare_report(**changes: Any) -> Report:
    """A report without a section."""
    base = {"title": "Bare", "kind": "run", "seed": 1, "versions": {}, "provenance": reports.provenance()}
    return Report.model_validate(base | changes)


def test_every_figure_of_a_quickstart_is_on_the_page() -> None:
    text = Reader(render_report(reports.quickstart_report(), [verification()])).text
    expected = ["84.1 %", "71.2 %", "402", "238", "96.8 %", "88.4 %", "85.3 %", "61.7 %", "46.7 %"]
    expected += [
        "5,012,345",
        "201.5",
        "803.2 s",
        "label unknown",
        "scripted tutor",
        "0.084",
        "weighted vote",
    ]
    expected += ["genprm quickstart --seed 7", "0123abcd", "votes: 8", "Quickstart in the arithmetic world"]
    expected += ["Error localisation, F1, Maj@8", "direct baseline", "41.2 %"]
    assert [one for one in expected if one not in text] == []


def test_every_figure_of_a_benchmark_is_on_the_page() -> None:
    text = Reader(render_report(reports.eval_report())).text
    expected = ["gsm8k, Maj@8", "math, Pass@1", "average, First-error@8", "81.0 %", "85.7 %", "83.3 %"]
    expected += [
        "at most 400 rows",
        "seed 3",
        "GenPRM-7B",
        "http://verifier:8000/v1",
        "gsm8k.json",
        "777,777",
    ]
    assert [one for one in expected if one not in text] == []
    assert "Best-of-N" not in text and "Verified solutions" not in text


@pytest.mark.parametrize(
    "report", [reports.quickstart_report(), reports.eval_report()], ids=lambda r: r.kind
)
def test_every_share_stands_beside_its_interval(report: Report) -> None:
    text = " ".join(Reader(render_report(report)).text.split())
    found = [share for _, share in reports.shares(report)]
    assert len(found) > 20
    for share in found:
        assert f"{share.value:.1f} % [{share.low:.1f}, {share.high:.1f}]" in text


def test_only_the_sections_of_the_report_are_shown() -> None:
    page = render_report(reports.quickstart_report(), [verification()])
    ids = [attributes["id"] for tag, attributes in Reader(page).tags if tag == "section"]
    names = [
        "labels",
        "consensus",
        "training",
        "localisation",
        "best-of-n",
        "refinement",
        "cost",
        "examples",
    ]
    assert ids == names
    bare = Reader(render_report(bare_report()))
    assert [tag for tag, _ in bare.tags if tag in ("section", "table", "svg")] == []


def test_every_table_says_what_it_shows() -> None:
    for report in (reports.quickstart_report(), reports.eval_report()):
        tags = Reader(render_report(report)).tags
        says = [attributes for tag, attributes in tags if tag == "p" and attributes.get("class") == "says"]
        assert len(says) == sum(tag == "table" for tag, _ in tags) > 1


def test_the_page_shows_steps_votes_code_and_output() -> None:
    text = Reader(render_report(reports.quickstart_report(), [verification()])).text
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


@pytest.mark.parametrize(
    "report", [reports.quickstart_report(), reports.eval_report()], ids=lambda r: r.kind
)
def test_the_page_needs_no_network_and_no_script(report: Report) -> None:
    page = render_report(report, [verification()])
    tags = Reader(page).tags
    assert {tag for tag, _ in tags} & {"script", "link", "img", "iframe", "object", "form"} == set()
    targets = [
        value for _, attributes in tags for name, value in attributes.items() if name in ("href", "src")
    ]
    assert all(target is not None and target.startswith("#") for target in targets)
    assert "url(" not in page and "@import" not in page
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    assert policy in [attributes.get("content") for tag, attributes in tags if tag == "meta"]


def test_unknown_shares_are_called_unknown_with_their_reason() -> None:
    lost = Share.unknown("no estimate of these solutions survived")
    vague = Share(value=47.3, total=4, reason="a bootstrap interval needs items that differ")
    by_method = {"hard": lost, "difference": vague, "ratio": lost}
    labels = LabelsSection(rows=4, accuracy=by_method, step_accuracy=by_method, unknown=by_method)
    text = Reader(render_report(bare_report(labels=labels))).text
    assert "no estimate of these solutions survived" in text
    assert "no interval: a bootstrap interval needs items that differ" in text
    assert "0.0 %" not in text


def test_a_verification_without_verdict_is_open() -> None:
    row = verification(
        first_error=None, verdicts=(StepVerdict(step=0, status="unparsed", votes=(lost_vote(0),)),)
    )
    text = Reader(render_report(bare_report(), [row])).text
    assert "the first wrong step is unknown" in text
    assert "no judgement could be read" in text


HOSTILE = "</pre></code><script>alert(1)</script><img src=x onerror=alert(2)>\"'><style>*{display:none}"


def test_model_output_is_text_everywhere() -> None:
    full = reports.quickstart_report()
    assert full.consensus and full.cost
    report = full.model_copy(
        update={
            "title": HOSTILE,
            "notes": (HOSTILE,),
            "consensus": full.consensus.model_copy(update={"reasons": {HOSTILE: 3}}),
            "cost": full.cost.model_copy(update={"tokens": {HOSTILE: 1}}),
            "versions": {HOSTILE: HOSTILE},
            "provenance": full.provenance.model_copy(
                update={"command": HOSTILE, "config": {HOSTILE: HOSTILE}}
            ),
        }
    )
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


@settings(deadline=None)
@given(st.text(max_size=200))
def test_highlighting_keeps_the_text_and_adds_nothing_but_spans(code: str) -> None:
    class Plain(HTMLParser):
        text = ""

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            assert tag == "span"
            assert [name for name, _ in attrs] == ["class"]

        def handle_data(self, data: str) -> None:
            self.text += data

    plain = Plain()
    plain.feed(str(highlight_python(code)).replace("\0", "&#65533;"))
    plain.close()
    lines = code.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    assert plain.text.rstrip("\n") == lines.replace("\0", "\ufffd").rstrip("\n")


def test_highlighting_marks_the_parts_of_python() -> None:
    html = highlight_python("for x in range(10): print('a # b')  # done")
    assert '<span class="tok-k">for</span>' in html
    assert '<span class="tok-nb">range</span>' in html
    assert '<span class="tok-mi">10</span>' in html
    assert "a # b" in html and '<span class="tok-c1"># done</span>' in html


def test_charts_draw_no_bar_and_no_point_for_unknown_figures() -> None:
    series = [Series("one", [figure(50.0), figure(None)], 1)]
    chart = bars("t", ["a", "b"], series)
    assert 'width="0.0"' in chart and "unknown" in chart
    assert lines("t", ["1", "2"], series, "x").count("<circle") == 1


def test_charts_draw_a_whisker_for_each_interval() -> None:
    values = [percent(reports.share(50)), figure(40.0), figure(None)]
    for chart in (bars("t", ["a", "b", "c"], [Series("one", values, 1)]),
                  lines("t", ["1", "2", "3"], [Series("one", values, 1)], "x")):  # fmt: skip
        assert chart.count('class="whisker') == 1
        assert "one" in chart and "[45.1, 54.9]" in chart


def test_writing_is_atomic_and_failures_have_a_type(tmp_path: Path) -> None:
    write_report(reports.quickstart_report(), [verification()], tmp_path / "report.html")
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    with pytest.raises(StoreError, match="cannot write"):
        write_report(bare_report(), [], tmp_path / "report.html" / "report.html")


def test_surrogates_in_model_output_do_not_break_writing(tmp_path: Path) -> None:
    write_report(bare_report(), [verification(problem="\ud800")], tmp_path / "report.html")
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
    write_report(reports.quickstart_report(), [verification(problem=HOSTILE)], page)
    assert CHROMIUM is not None
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert "Verified solutions" in done.stdout
    assert "&lt;script&gt;alert(1)" in done.stdout
    assert "<script" not in done.stdout
