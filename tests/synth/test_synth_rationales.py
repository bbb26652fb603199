"""Rationales: executed checks, one interpreter for a solution, and a status for all that weak teachers write."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from genprm.config import RationaleConfig
from genprm.engines.base import Request
from genprm.engines.scripted import ScriptedEngine
from genprm.errors import (
    EngineError,
    EngineRequestError,
    EngineTimeout,
    EngineUnavailable,
    SandboxDied,
    SandboxError,
)
from genprm.records import CodeStatus, Problem, Rationale, Solution
from genprm.sandbox import ExecResult, IsolatedSandbox, IsolationReport, Limits, Sandbox, Session
from genprm.synth.rationales import write_rationales
from genprm.worlds.arithmetic import generate_problems
from genprm.worlds.arithmetic.tutor import make_tutor

PROBLEM = Problem(id="p", text="What is 2 + 3 + 4?", answer="9")
STEPS = ("Step 1: 2 + 3 = 5", "Step 2: 5 + 4 = 8", "Step 3: 8")
SOLUTION = Solution(id="p/0", problem_id="p", steps=STEPS)
INDEX = "The first wrong paragraph is \\boxed{"


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with IsolatedSandbox(tier="plain", workers=1) as box:
        yield box


async def review(
    respond: Callable[[Request], Any], sandbox: Sandbox, solution: Solution = SOLUTION, **options: Any
) -> Rationale:
    config = RationaleConfig.model_validate(options)
    output = await write_rationales([(PROBLEM, solution)], ScriptedEngine(respond), sandbox, config, seed=1)
    assert not output.dropped
    return output.rows[0]


def block(judgement: str) -> str:
    return f"</verify>\n<output>\n**Judgement**: $\\boxed{{{judgement}}}$\n</output>\n"


def good_teacher(request: Request) -> str:
    """Judges by what its code prints; keeps a counter in the interpreter."""
    done = request.prefix.count("</output>")
    current = request.prefix.rsplit("</output>", 1)[-1]
    if request.prefix.endswith(INDEX):
        return f"{done}}}. And then I go on and on and on."
    if "No}$" in request.prefix:
        return f"\n{INDEX}{done}}}. And then I go on and on and on."
    if "[Code Output]" in current:
        return block("Yes" if "True" in current else "No")
    claim = STEPS[done].split(": ")[1].replace("=", "==")
    count = "n = 1" if done == 0 else "n += 1"
    heading = f"\n### Paragraph {done + 1}\n<analyze>\nCheck.\n</analyze>\n"
    return f"{heading}<verify>\n```python\n{count}\nprint(n, {claim})\n```\n"


async def test_code_runs_in_one_interpreter_and_the_index_ends_the_writing(sandbox: Sandbox) -> None:
    row = await review(good_teacher, sandbox)
    assert (row.status, row.reason, row.first_error) == ("ok", None, 1)
    assert [step.judgement for step in row.steps] == [True, False]
    assert [step.rounds[0].output for step in row.steps] == ["1 True", "2 False"]
    assert [step.rounds[0].status for step in row.steps] == [CodeStatus.OK] * 2
    assert row.steps[0].analysis == "Check."
    assert row.steps[0].text.startswith("<analyze>\n") and row.steps[0].text.endswith("</output>")
    assert row.teacher == "scripted:function"
    assert row.usage.requests == 6 and row.usage.code_seconds > 0


@pytest.mark.parametrize(
    ("text", "status", "reason"),
    [
        ("I like turtles.", "no_index", "no final index"),
        ("", "no_index", "no final index"),
        (INDEX + "2}.", "no_index", "paragraph 1 missing"),
        (INDEX + "none}.", "no_index", "no final index"),
        (INDEX + "99}.", "no_index", "index out of range"),
        ("<output>\\boxed{No}</output>\n" + INDEX + "2}", "no_index", "a section names no paragraph"),
        (
            "Paragraph 1\n<output>\\boxed{No}</output>\n" + INDEX + "2}",
            "no_index",
            "index conflicts with judgements",
        ),
        ("word " * 300, "truncated", "token budget used up"),
        ("```\n```\n```\n```\n" * 5, "truncated", "token budget used up"),
        ("</output>" * 50, "no_index", "no final index"),
        ("\\boxed{1}", "no_index", "paragraph 1 missing"),
    ],
)
async def test_what_weak_teachers_write_becomes_a_status(
    sandbox: Sandbox, text: str, status: str, reason: str
) -> None:
    def respond(request: Request) -> str:
        return text.removeprefix(request.prefix) if text.startswith(request.prefix) else text

    row = await review(respond, sandbox, max_tokens=300)
    assert (row.status, row.reason, row.first_error) == (status, reason, None)


async def test_babble_never_raises_and_never_runs_away(sandbox: Sandbox) -> None:
    words = [
        "<analyze>",
        "</analyze>",
        "<verify>\n",
        "```python\nprint(1)\n",
        "\n```\n",
        "</output>",
        "x",
        "\n",
        INDEX,
        "2}",
    ]
    words += ["</verify>", "<output>", "\\boxed{Yes}", "\\boxed{No}", "[Code Output]"]

    def respond(request: Request) -> str:
        rng = random.Random(f"{request.params.seed}{request.prefix}")
        return "".join(rng.choices(words, k=rng.randint(0, 12)))

    items = [(PROBLEM, SOLUTION.model_copy(update={"id": f"p/{i}"})) for i in range(30)]
    config = RationaleConfig(samples=2, max_tokens=400)
    output = await write_rationales(items, ScriptedEngine(respond), sandbox, config, seed=1)
    assert len(output.rows) == 60
    assert [(row.solution_id, row.sample) for row in output.rows[:3]] == [
        ("p/0", 0),
        ("p/0", 1),
        ("p/1", 0),
    ]
    assert {row.status for row in output.rows} <= {"ok", "no_index", "truncated"}
    assert all((row.first_error is None) is (row.status != "ok") for row in output.rows)
    assert all(row.usage.requests < 60 for row in output.rows)


async def test_too_many_rounds_force_the_judgement_of_the_paragraph(sandbox: Sandbox) -> None:
    def respond(request: Request) -> str:
        current = request.prefix.rsplit("</output>", 1)[-1]
        if current.endswith("\\boxed{"):
            return "-1}." if "wrong paragraph" in current else "Yes}$\n</output>\n"
        if request.prefix.count("</output>") == 3:
            return f"\n{INDEX}-1}}."
        heading = "" if "###" in current else f"### Paragraph {request.prefix.count('</output>') + 1}\n"
        return f"{heading}<verify>\n```python\nprint(1)\n```\n"

    row = await review(respond, sandbox, max_rounds=2)
    assert (row.status, row.first_error) == ("ok", -1)
    assert [len(step.rounds) for step in row.steps] == [2, 2, 2]


OTHER = SOLUTION.model_copy(update={"id": "p/1", "steps": ("Step 1: other",)})
NEXT = Problem(id="q", text=PROBLEM.text, answer="9")


def failing(error: EngineError) -> ScriptedEngine:
    """A teacher that fails on `OTHER` alone."""

    def respond(request: Request) -> str:
        if "other" in request.messages[-1].content:
            raise error
        return good_teacher(request)

    return ScriptedEngine(respond)


async def test_a_rejected_request_is_a_row_of_its_solution_alone(sandbox: Sandbox) -> None:
    engine = failing(EngineRequestError("no"))
    items = [(PROBLEM, SOLUTION), (PROBLEM, OTHER)]
    output = await write_rationales(items, engine, sandbox, RationaleConfig(), seed=1)
    assert [row.status for row in output.rows] == ["ok", "engine_failed"]
    assert output.rows[1].reason == "EngineRequestError: no"
    assert not output.lost


@pytest.mark.parametrize(
    ("error", "siblings", "retryable"),
    [
        (EngineTimeout("slow"), [OTHER], True),
        (EngineTimeout("slow"), [SOLUTION, OTHER], True),
        (EngineUnavailable("down"), [SOLUTION, OTHER], True),
        (EngineRequestError("no"), [OTHER], False),
    ],
)
async def test_a_problem_that_the_engine_failed_on_is_lost_and_others_are_settled(
    sandbox: Sandbox, error: EngineError, siblings: list[Solution], retryable: bool
) -> None:
    settled = SOLUTION.model_copy(update={"id": "q/0", "problem_id": "q"})
    items = [*((PROBLEM, solution) for solution in siblings), (NEXT, settled)]
    output = await write_rationales(items, failing(error), sandbox, RationaleConfig(), seed=1)
    assert [(row.solution_id, row.status) for row in output.rows] == [("q/0", "ok")]
    assert not output.dropped
    (lost,) = output.lost
    assert (lost.problem_id, lost.reason, lost.retryable) == ("p", type(error).__name__, retryable)
    assert lost.detail == error.message
    assert lost.usage.requests == 1 + 6 * (SOLUTION in siblings)


class BrokenSandbox:
    report = IsolationReport(0)

    def __init__(self, error: SandboxError) -> None:
        self.error = error

    async def open(self) -> Session:
        return BrokenSession(self.error)

    async def aclose(self) -> None: ...

    async def __aenter__(self) -> BrokenSandbox:
        return self

    async def __aexit__(self, *exc: object) -> None: ...


class BrokenSession:
    def __init__(self, error: SandboxError) -> None:
        self.error = error

    async def run(self, code: str, limits: Limits | None = None) -> ExecResult:
        raise self.error

    def fork(self) -> Session:
        return self

    async def aclose(self) -> None: ...


async def test_a_lost_sandbox_is_kept_apart_from_failing_code() -> None:
    def respond(request: Request) -> str:
        if "<paragraph_1>\nfine" in request.messages[-1].content:
            text = "### Paragraph 1\n" + block("Yes") + f"{INDEX}-1}}."
            return text.removeprefix(request.prefix)
        return good_teacher(request)

    fine = SOLUTION.model_copy(update={"id": "p/1", "steps": ("Step 1: fine",)})
    items = [(PROBLEM, SOLUTION), (PROBLEM, fine)]
    engine, config = ScriptedEngine(respond), RationaleConfig()
    output = await write_rationales(items, engine, BrokenSandbox(SandboxError("no box")), config, seed=1)
    assert [row.status for row in output.rows] == ["sandbox_failed", "ok"]
    assert output.rows[0].reason == "SandboxError: no box"
    assert output.rows[0].first_error is None
    died = await write_rationales(items, engine, BrokenSandbox(SandboxDied("lost")), config, seed=1)
    assert not died.rows
    assert [(lost.problem_id, lost.reason, lost.retryable) for lost in died.lost] == [
        ("p", "SandboxDied", True)
    ]


async def test_the_tutor_of_the_arithmetic_world_is_understood(sandbox: Sandbox) -> None:
    from genprm.worlds.arithmetic.grammar import parse_problem
    from genprm.worlds.arithmetic.truth import judge_steps
    from genprm.worlds.arithmetic.writer import POLICY_HABITS, write_solution

    rng = random.Random(0)
    items = []
    for i, problem in enumerate(generate_problems("train", 12, 5)):
        steps = tuple(write_solution(parse_problem(problem.text), rng, POLICY_HABITS))
        items.append((problem, Solution(id=f"{problem.id}/{i}", problem_id=problem.id, steps=steps)))
    tutor = make_tutor(3, wrong_index_rate=0.0)
    options = RationaleConfig(profile="tutor")
    output = await write_rationales(items, ScriptedEngine(tutor), sandbox, options, seed=2)
    for (problem, solution), row in zip(items, output.rows, strict=True):
        truths = [t.correct for t in judge_steps(parse_problem(problem.text), solution.steps)]
        truth = truths.index(False) if False in truths else -1
        assert (row.status, row.first_error) == ("ok", truth), row
    rounds = [r for row in output.rows for step in row.steps for r in step.rounds]
    assert {r.status for r in rounds} == {CodeStatus.OK, CodeStatus.ERROR}
    assert any(len(step.rounds) == 2 for row in output.rows for step in row.steps)
    again = await write_rationales(items, ScriptedEngine(tutor), sandbox, options, seed=2, concurrency=1)
    assert [row.first_error for row in again.rows] == [row.first_error for row in output.rows]
    assert [step.text for row in again.rows for step in row.steps] == [
        step.text for row in output.rows for step in row.steps
    ]


def written(*sections: str, index: int) -> str:
    return "\n".join(sections) + f"\n{INDEX}{index}}}."


def paragraph(heading: str, judgement: str) -> str:
    return (
        f"{heading}\n<analyze>\nCheck.\n</analyze>\n<verify>\nNo code.\n</verify>\n"
        f"<output>\n**Judgement**: $\\boxed{{{judgement}}}$\n</output>"
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            written(paragraph("### Paragraph 1", "Yes"), paragraph("### Paragraph 3", "No"), index=3),
            "2 missing",
        ),
        (
            written(paragraph("### Paragraph 1", "Yes"), paragraph("### Paragraph 1", "No"), index=2),
            "1 repeated",
        ),
        (
            written(
                paragraph("### Paragraphs 1 and 2", "Yes"), paragraph("### Paragraph 3", "Yes"), index=-1
            ),
            "paragraphs 1, 2 merged",
        ),
        (written(paragraph("### Paragraph 4", "No"), index=1), "4 is not in the solution"),
        (written(paragraph("", "No"), index=1), "a section names no paragraph"),
    ],
)
async def test_sections_that_do_not_name_one_paragraph_each_make_a_review_unusable(
    sandbox: Sandbox, text: str, reason: str
) -> None:
    row = await review(lambda request: text.removeprefix(request.prefix), sandbox)
    assert (row.status, row.first_error) == ("no_index", None)
    assert row.reason is not None and row.reason.endswith(reason)


THOUGHT = (
    "I have to write <analyze> and </output> blocks. Paragraph 1 seems fine.\n```python\nn = 100\nprint(n)\n```\n"
    f"Then <output>\n**Judgement**: $\\boxed{{No}}$\n</output>\n{INDEX}1}}. No, wait.\n</think>\n"
)


async def test_a_reasoning_teachers_thinking_is_neither_executed_nor_read(sandbox: Sandbox) -> None:
    def respond(request: Request) -> str:
        if "</think>" not in request.prefix:
            return THOUGHT
        after = request.prefix.partition("</think>")[2]
        return good_teacher(Request(messages=request.messages, prefix=after, params=request.params))

    row = await review(respond, sandbox, profile="teacher-reasoning")
    assert (row.status, row.reason, row.first_error) == ("ok", None, 1)
    assert [step.rounds[0].output for step in row.steps] == ["1 True", "2 False"], "n was not set before"


async def test_thinking_that_never_ends_gives_no_review(sandbox: Sandbox) -> None:
    text = written(paragraph("### Paragraph 1", "No"), index=1)
    row = await review(lambda _: text, sandbox, profile="teacher-reasoning")
    assert (row.status, row.reason, row.first_error) == ("no_index", "the thinking never ends", None)
    row = await review(lambda _: "word " * 400, sandbox, profile="teacher-reasoning", max_tokens=100)
    assert (row.status, row.reason) == ("truncated", "token budget used up")


@pytest.mark.parametrize("profile", ["teacher", "teacher-reasoning"])
async def test_thinking_is_left_out_whether_or_not_it_was_announced(sandbox: Sandbox, profile: str) -> None:
    text = THOUGHT + written(
        paragraph("### Paragraph 1", "Yes"), paragraph("### Paragraph 2", "No"), index=2
    )

    def respond(request: Request) -> str:
        return text.removeprefix(request.prefix)

    row = await review(respond, sandbox, profile=profile, max_rounds=1)
    if profile == "teacher":
        assert row.first_error in (None, 1), (
            "code in unannounced thinking is executed, which may cost the review"
        )
    else:
        assert (row.status, row.first_error) == ("ok", 1)


async def test_a_teacher_may_be_forced_to_think_in_the_form_of_the_review(sandbox: Sandbox) -> None:
    seen: list[str] = []

    def respond(request: Request) -> str:
        seen.append(request.prefix)
        if request.prefix.endswith(INDEX):
            return "2}."
        current = request.prefix.rsplit("</output>", 1)[-1]
        if "[Code Output]" in current:
            return block("Yes" if "True" in current else "No") + "\n</think>\n\n### Paragraph 1 was right."
        if len(seen) == 1:
            return "Check.\n</analyze>\n<verify>\n```python\nprint(2 + 3 == 5)\n```\n"
        if "### Paragraph 2" in request.prefix:
            return "\nThat is all.\n</think>\n\n### Paragraph 1 again\n<output>\\boxed{No}</output>"
        return "\n### Paragraph 2\n<analyze>\nCheck.\n</analyze>\n<verify>\n```python\nprint(5 + 4 == 8)\n```\n"

    row = await review(respond, sandbox, profile="teacher-thinking")
    assert seen[0] == "<think>\n### Paragraph 1\n<analyze>\n"
    assert (row.status, row.reason, row.first_error) == ("ok", None, 1)
    assert [step.judgement for step in row.steps] == [True, False]
    assert seen[-1].endswith(f"</think>\n\n{INDEX}")


async def test_a_teacher_is_told_that_its_code_printed_nothing(sandbox: Sandbox) -> None:
    seen: list[str] = []

    def respond(request: Request) -> str:
        seen.append(request.prefix)
        if request.prefix.endswith("```\n"):
            return block("No") + f"{INDEX}1}}."
        return "### Paragraph 1\n<verify>\n```python\n2 + 3\n```\n"

    row = await review(respond, sandbox)
    assert seen[1].endswith("[Code Output]\n\n```\n(nothing was printed)\n```\n")
    assert row.steps[0].rounds[0].output == "(nothing was printed)"
