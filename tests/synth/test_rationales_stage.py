"""Rationales: executed checks, one interpreter for a solution, and a status for all that weak teachers write."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from genprm.config import RationaleConfig
from genprm.engines.base import Request
from genprm.engines.scripted import ScriptedEngine
from genprm.errors import EngineError, EngineTimeout, EngineUnavailable, SandboxDied
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
    return f"\n<analyze>\nCheck.\n</analyze>\n<verify>\n```python\n{count}\nprint(n, {claim})\n```\n"


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
        (INDEX + "2}.", "no_index", "paragraphs missing"),
        (INDEX + "none}.", "no_index", "no final index"),
        (INDEX + "99}.", "no_index", "index out of range"),
        ("<output>\\boxed{No}</output>\n" + INDEX + "2}", "no_index", "index conflicts with judgements"),
        ("word " * 300, "truncated", "token budget used up"),
        ("```\n```\n```\n```\n" * 5, "truncated", "token budget used up"),
        ("</output>" * 50, "no_index", "no final index"),
        ("\\boxed{1}", "no_index", "paragraphs missing"),
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
        return "<verify>\n```python\nprint(1)\n```\n"

    row = await review(respond, sandbox, max_rounds=2)
    assert (row.status, row.first_error) == ("ok", -1)
    assert [len(step.rounds) for step in row.steps] == [2, 2, 2]


async def test_a_fault_on_some_solutions_is_a_row_and_on_all_is_raised(sandbox: Sandbox) -> None:
    other = SOLUTION.model_copy(update={"id": "p/1", "steps": ("Step 1: other",)})

    failure: EngineError = EngineTimeout("slow")

    def respond(request: Request) -> str:
        if "other" in request.messages[-1].content:
            raise failure
        return good_teacher(request)

    items = [(PROBLEM, SOLUTION), (PROBLEM, other)]
    output = await write_rationales(items, ScriptedEngine(respond), sandbox, RationaleConfig(), seed=1)
    assert [row.status for row in output.rows] == ["ok", "engine_failed"]
    assert output.rows[1].reason == "EngineTimeout: slow"
    with pytest.raises(EngineTimeout):
        await write_rationales(items[1:], ScriptedEngine(respond), sandbox, RationaleConfig(), seed=1)
    failure = EngineUnavailable("down")  # says nothing about the item: the batch must be tried again
    with pytest.raises(EngineUnavailable):
        await write_rationales(items, ScriptedEngine(respond), sandbox, RationaleConfig(), seed=1)


class BrokenSandbox:
    report = IsolationReport(0)

    async def open(self) -> Session:
        return BrokenSession()

    async def aclose(self) -> None: ...

    async def __aenter__(self) -> BrokenSandbox:
        return self

    async def __aexit__(self, *exc: object) -> None: ...


class BrokenSession:
    async def run(self, code: str, limits: Limits | None = None) -> ExecResult:
        raise SandboxDied("lost")

    def fork(self) -> Session:
        return self

    async def aclose(self) -> None: ...


async def test_a_lost_sandbox_is_told_apart_from_failing_code() -> None:
    def respond(request: Request) -> str:
        if "Step 1: fine" in request.messages[-1].content:
            text = block("Yes") + f"{INDEX}-1}}."
            return text.removeprefix(request.prefix)
        return good_teacher(request)

    fine = SOLUTION.model_copy(update={"id": "p/1", "steps": ("Step 1: fine",)})
    items = [(PROBLEM, SOLUTION), (PROBLEM, fine)]
    output = await write_rationales(
        items, ScriptedEngine(respond), BrokenSandbox(), RationaleConfig(), seed=1
    )
    assert [row.status for row in output.rows] == ["sandbox_failed", "ok"]
    assert output.rows[0].reason == "SandboxDied: lost"
    assert output.rows[0].first_error is None
    with pytest.raises(SandboxDied):
        await write_rationales(
            items[:1], ScriptedEngine(respond), BrokenSandbox(), RationaleConfig(), seed=1
        )


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
    output = await write_rationales(items, ScriptedEngine(tutor), sandbox, RationaleConfig(), seed=2)
    for (problem, solution), row in zip(items, output.rows, strict=True):
        truths = [t.correct for t in judge_steps(parse_problem(problem.text), solution.steps)]
        truth = truths.index(False) if False in truths else -1
        assert (row.status, row.first_error) == ("ok", truth), row
    rounds = [r for row in output.rows for step in row.steps for r in step.rounds]
    assert {r.status for r in rounds} == {CodeStatus.OK, CodeStatus.ERROR}
    assert any(len(step.rounds) == 2 for row in output.rows for step in row.steps)
    again = await write_rationales(
        items, ScriptedEngine(tutor), sandbox, RationaleConfig(), seed=2, concurrency=1
    )
    assert [row.first_error for row in again.rows] == [row.first_error for row in output.rows]
    assert [step.text for row in again.rows for step in row.steps] == [
        step.text for row in output.rows for step in row.steps
    ]
