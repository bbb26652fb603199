"""Refinement: the critic's words reach the policy, right solutions stay, and faults are reasons."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from genprm.config import RefineConfig
from genprm.domains.math import Grader, MathDomain
from genprm.engines.base import Request
from genprm.engines.scripted import Scripted, ScriptedEngine
from genprm.errors import EngineTimeout
from genprm.records import (
    Problem,
    RefinementTrace,
    Solution,
    StepRationale,
    StepVerdict,
    Usage,
    Verification,
    VerifyItem,
    Vote,
)
from genprm.rewards.base import Items, OnStep, RewardFacts, StepReward
from genprm.search.refinement import first_critique, refine_with_critic, self_refine

PROBLEM = Problem(id="p", text="What is 2 + 3 + 4?", answer="9")
WRONG = Solution(
    id="p/0",
    problem_id="p",
    steps=("Step 1: 2 + 3 = 5", "Step 2: 5 + 4 = 8", "Step 3: \\boxed{8}"),
    answer="8",
    correct=False,
)
RIGHT = "Step 1: 2 + 3 = 5\n\nStep 2: 5 + 4 = 9\n\nStep 3: \\boxed{9}"


class Critic:
    """Judges each step by itself, up to the first that it flags."""

    def __init__(self, judge: Callable[[str], bool | None]) -> None:
        self._judge = judge
        self.seen: list[VerifyItem] = []

    def facts(self) -> RewardFacts:
        return RewardFacts(kind="scripted", name="scripted:critic", critiques=True)

    async def judge(self, items: Items, *, on_step: OnStep | None = None) -> AsyncIterator[Verification]:
        assert not hasattr(items, "__aiter__")
        for item in items:
            self.seen.append(item)
            verdicts: list[StepVerdict] = []
            for index, step in enumerate(item.steps):
                if any(verdict.judgement is False for verdict in verdicts):
                    verdicts.append(StepVerdict(step=index, status="skipped"))
                    continue
                verdicts.append(self._verdict(index, self._judge(step)))
            yield Verification(
                item_id=item.id,
                problem=item.problem,
                steps=item.steps,
                verdicts=tuple(verdicts),
                usage=Usage(requests=sum(len(verdict.votes) for verdict in verdicts)),
            )

    def _verdict(self, index: int, judgement: bool | None) -> StepVerdict:
        if judgement is None:
            return StepVerdict(step=index, status="failed")
        rationale = StepRationale(text="t", analysis="Look at the sum.", judgement=judgement)
        vote = Vote(reward=float(judgement), judgement=judgement, rationale=rationale)
        return StepVerdict(step=index, reward=vote.reward, judgement=judgement, votes=(vote,))

    async def aclose(self) -> None: ...


def no_eights() -> Critic:
    return Critic(lambda step: "8" not in step)


async def refine(
    respond: Callable[[Request], Any], solution: Solution = WRONG, **options: Any
) -> tuple[RefinementTrace, list[Request]]:
    seen: list[Request] = []

    def recorded(request: Request) -> Any:
        seen.append(request)
        return respond(request)

    config = RefineConfig.model_validate(options)
    (trace,) = await refine_with_critic(
        [(PROBLEM, solution)], ScriptedEngine(recorded), no_eights(), MathDomain(), config, seed=3
    )
    return trace, seen


async def test_the_first_wrong_step_is_quoted_and_the_whole_rewritten() -> None:
    trace, seen = await refine(lambda request: RIGHT.removeprefix("Step 1:"))
    (request,) = seen
    assert [(m.role, m.content) for m in request.messages] == [
        ("system", "Solve the problem step by step. Put the final answer in \\boxed{}."),
        ("user", "What is 2 + 3 + 4?"),
        ("assistant", "Step 1: 2 + 3 = 5\n\nStep 2: 5 + 4 = 8\n\nStep 3: \\boxed{8}"),
        (
            "user",
            "Paragraph 2 may be wrong:\nStep 2: 5 + 4 = 8\nReview:\nLook at the sum.\n"
            "Please write the whole solution again.",
        ),
    ]
    assert request.prefix == "Step 1:"
    assert [turn.solution.correct for turn in trace.turns] == [False, True, True, True]
    assert [turn.changed for turn in trace.turns] == [False, True, False, False]
    assert [turn.reason for turn in trace.turns] == [None, None, "no_flag", "no_flag"]
    first = trace.turns[0].critique
    assert first is not None and (first.step, first.analysis) == (1, "Look at the sum.")
    assert trace.turns[1].solution.steps == tuple(RIGHT.split("\n\n"))
    assert trace.turns[1].solution.id == "p/0#turn1"
    assert trace.turns[0].verification is not None and trace.turns[1].verification is not None
    assert trace.turns[2].verification is None
    assert trace.mode == "dialogue"
    assert trace.usage.requests == 1 + 2 + 3


async def test_restart_continues_from_the_steps_before_the_flagged_one() -> None:
    trace, seen = await refine(lambda request: " 5 + 4 = 9\n\nStep 3: \\boxed{9}", mode="restart", turns=1)
    assert len(seen[0].messages) == 2
    assert seen[0].prefix == "Step 1: 2 + 3 = 5\n\nStep 2:"
    assert trace.turns[1].solution.steps == tuple(RIGHT.split("\n\n"))
    assert trace.turns[1].solution.correct is True
    first = WRONG.model_copy(update={"steps": ("Step 1: 8", "Step 2: \\boxed{8}")})
    _, seen = await refine(lambda request: " \\boxed{9}", first, mode="restart", turns=1)
    assert seen[0].prefix == "Step 1:"


async def test_a_stubborn_policy_is_asked_in_every_turn_with_another_seed() -> None:
    trace, seen = await refine(lambda request: " \\boxed{8}")
    assert len(seen) == 3 and len({request.params.seed for request in seen}) == 3
    assert [turn.changed for turn in trace.turns] == [False, True, True, True]
    assert trace.turns[3].verification is None and trace.turns[3].critique is None
    assert trace.turns[3].solution.id == "p/0#turn3"


async def test_faults_keep_the_solution_with_a_reason_and_are_tried_again() -> None:
    def respond(request: Request) -> str:
        if request.sample == 1:
            raise EngineTimeout("slow")
        return "word " * 100 if request.sample == 2 else RIGHT.removeprefix("Step 1:")

    trace, _ = await refine(respond, max_tokens=50)
    assert [turn.reason for turn in trace.turns] == [None, "EngineTimeout: slow", "truncated", None]
    assert [turn.solution.answer for turn in trace.turns] == ["8", "8", "8", "9"]


async def test_self_refinement_rewrites_every_time() -> None:
    seen: list[Request] = []

    def respond(request: Request) -> str:
        seen.append(request)
        return f" \\boxed{{{request.sample}}}"

    (trace,) = await self_refine(
        [(PROBLEM, WRONG)], ScriptedEngine(respond), MathDomain(), RefineConfig(), seed=3
    )
    assert [turn.solution.answer for turn in trace.turns] == ["8", "1", "2", "3"]
    assert trace.mode == "self"
    assert seen[1].messages[2].content == "Step 1: \\boxed{1}"
    assert seen[1].messages[3].content == "Please check your solution and write the whole solution again."
    assert all(turn.verification is None and turn.critique is None for turn in trace.turns)


async def test_answers_are_graded_by_the_domain() -> None:
    problem = PROBLEM.model_copy(update={"answer": "\\sqrt{4}"})

    def respond(request: Request) -> str:
        return " \\boxed{2}"

    engine = ScriptedEngine(respond)
    options = RefineConfig(turns=1)
    async with MathDomain(Grader(workers=1)) as domain:
        (graded,) = await self_refine([(problem, WRONG)], engine, domain, options, seed=0)
    assert graded.turns[1].solution.correct is True
    silent = ScriptedEngine(lambda request: " I do not know.")
    (none,) = await self_refine([(problem, WRONG)], silent, MathDomain(), options, seed=0)
    assert (none.turns[1].solution.answer, none.turns[1].solution.correct) == (None, False)
    unknown = problem.model_copy(update={"answer": None})
    (trace,) = await self_refine([(unknown, WRONG)], engine, MathDomain(), options, seed=0)
    assert trace.turns[1].solution.ungraded_reason == "no_reference"


@pytest.mark.parametrize("judge", [lambda step: None, lambda step: None if "Step 2" in step else True])
async def test_a_critic_with_missing_verdicts_changes_nothing_and_says_so(
    judge: Callable[[str], bool | None],
) -> None:
    critic = Critic(judge)
    assert isinstance(critic, StepReward)
    (trace,) = await refine_with_critic(
        [(PROBLEM, WRONG)],
        ScriptedEngine(lambda request: ""),
        critic,
        MathDomain(),
        RefineConfig(turns=2),
        seed=0,
    )
    assert [turn.reason for turn in trace.turns] == [None, "no_critique", "no_critique"]
    assert not any(turn.changed for turn in trace.turns)
    assert [item.id for item in critic.seen] == ["p/0#turn0"]


async def test_ids_and_seeds_come_from_the_whole_id_that_an_item_started_with() -> None:
    seeds: list[int | None] = []

    def respond(request: Request) -> str:
        seeds.append(request.params.seed)
        return " \\boxed{8}"

    items = [(PROBLEM, WRONG.model_copy(update={"id": f"p#{i}"})) for i in range(2)]
    traces = await refine_with_critic(
        items, ScriptedEngine(respond), no_eights(), MathDomain(), RefineConfig(turns=2), seed=0
    )
    assert [turn.solution.id for trace in traces for turn in trace.turns] == [
        f"p#{i}{turn}" for i in range(2) for turn in ("", "#turn1", "#turn2")
    ]
    assert len(set(seeds)) == 4


def test_the_surest_votes_analysis_is_quoted() -> None:
    def vote(path: int, reward: float) -> Vote:
        rationale = StepRationale(text="t", analysis=f"analysis {path}")
        return Vote(path=path, reward=reward, rationale=rationale)

    verdicts = (
        StepVerdict(step=0, status="unparsed"),
        StepVerdict(step=1, reward=0.9, judgement=True),
        StepVerdict(step=2, reward=0.2, judgement=False, votes=(vote(0, 0.4), vote(1, 0.0), vote(2, 0.2))),
    )
    item = Verification(item_id="i", problem="p", steps=("a", "b", "c"), verdicts=verdicts)
    critique = first_critique(item)
    assert critique is not None
    assert (critique.step, critique.paragraph, critique.analysis, critique.reward) == (
        2,
        "c",
        "analysis 1",
        0.2,
    )
    assert first_critique(item.model_copy(update={"verdicts": verdicts[:2]})) is None


@pytest.mark.parametrize("concurrency", [1, 16])
async def test_traces_are_in_order_and_do_not_depend_on_concurrency(concurrency: int) -> None:
    def respond(request: Request) -> Scripted:
        return Scripted(f" \\boxed{{{(request.params.seed or 0) % 7}8}}")

    items = [(PROBLEM, WRONG.model_copy(update={"id": f"p/{i}"})) for i in range(4)]
    traces = await refine_with_critic(
        items,
        ScriptedEngine(respond),
        no_eights(),
        MathDomain(),
        RefineConfig(turns=2),
        seed=1,
        concurrency=concurrency,
    )
    assert [trace.solution_id for trace in traces] == ["p/0", "p/1", "p/2", "p/3"]
    answers = [[turn.solution.answer for turn in trace.turns] for trace in traces]
    alone = await refine_with_critic(
        items[2:3], ScriptedEngine(respond), no_eights(), MathDomain(), RefineConfig(turns=2), seed=1
    )
    assert [turn.solution.answer for turn in alone[0].turns] == answers[2]
