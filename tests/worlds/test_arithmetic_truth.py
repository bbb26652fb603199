"""The truth of a step: reference solutions are right, and every injected error is found as what it is."""

from __future__ import annotations

import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genprm.records import Problem
from genprm.worlds.arithmetic import (
    StepKind,
    first_error,
    generate_problems,
    judge_solution,
    reference_solution,
)
from genprm.worlds.arithmetic.grammar import NAMES, RESTATED, claim_text, evaluate, parse_step, quantity
from genprm.worlds.arithmetic.problems import scene_of
from genprm.worlds.arithmetic.reasoning import known_values, need
from genprm.worlds.arithmetic.writer import (
    CARELESS_HABITS,
    MAX_STEPS,
    POLICY_HABITS,
    Habits,
    write_solution,
)

# The number after an equation, and the one that it is restated as.
RESULT = re.compile(r"(\d [-+*/] \d+ = |, so [A-Z][a-z]+ = )(\d+)")
SEEDS = st.integers(0, 10**6)
PROBLEM = Problem(
    id="p",
    text=(
        "At school, Ann owns 23 apples. Bob has 14 more apples than Ann. Cid has 5 fewer apples than Ann. "
        "How many apples do Ann and Bob have together?"
    ),
    answer="60",
)
STEPS = (
    "Step 1: Bob has 14 more than Ann = 23: 23 + 14 = 37, so Bob = 37.",
    "Step 2: Ann = 23 and Bob = 37 together have 23 + 37 = 60. The answer is \\boxed{60}.",
)


def kinds(*steps: str) -> list[str]:
    return [t.kind.value for t in judge_solution(PROBLEM, steps)]


@settings(max_examples=60, deadline=None)
@given(seed=SEEDS)
def test_the_reference_solution_is_right_in_every_step(seed: int) -> None:
    (problem,) = generate_problems("eval", 1, seed)
    steps = reference_solution(problem)
    assert 3 <= len(steps) <= 5
    assert all(t.correct and t.kind is StepKind.OK for t in judge_solution(problem, steps))
    assert first_error(problem, steps) == -1
    assert steps[-1].endswith(f"The answer is \\boxed{{{problem.answer}}}.")


@settings(max_examples=60, deadline=None)
@given(seed=SEEDS, at=st.integers(0, 10), delta=st.integers(1, 50))
def test_a_slip_is_found_where_it_was_made(seed: int, at: int, delta: int) -> None:
    (problem,) = generate_problems("train", 1, seed)
    steps = list(reference_solution(problem))
    t = at % len(steps)
    steps[t] = re.sub(RESULT, lambda m: f"{m[1]}{int(m[2]) + delta}", steps[t])
    truth = judge_solution(problem, steps)
    assert truth[t].kind is StepKind.SLIP and not truth[t].correct
    assert first_error(problem, steps) == t


@settings(max_examples=60, deadline=None)
@given(seed=SEEDS, at=st.integers(0, 10))
def test_a_misread_relation_is_a_wrong_operation(seed: int, at: int) -> None:
    (problem,) = generate_problems("train", 1, seed)
    scene, steps = scene_of(problem), list(reference_solution(problem))
    people = [
        i for i, s in enumerate(steps) if (c := parse_step(s)) and c.quantity and c.quantity[0] == "has"
    ]
    t = people[at % len(people)]
    claim = parse_step(steps[t])
    assert claim is not None and claim.quantity is not None
    right = need(scene, claim.quantity, known_values(scene, steps[:t]))
    assert right is not None
    left, op, other = right.expression.split()
    wrong = f"{left} {'-' if op == '+' else '+'} {other}"
    value = evaluate(wrong)
    if value is None or value < 0 or value == claim.value:
        return
    steps[t] = f"Step {t + 1}: " + claim_text(
        scene, claim.quantity, wrong, int(value), dict.fromkeys(NAMES, "1")
    )
    assert judge_solution(problem, steps)[t].kind is StepKind.WRONG_OPERATION
    assert first_error(problem, steps) == t


def test_a_step_that_pays_for_another_thing_than_the_problem_is_wrong() -> None:
    problem = next(p for p in generate_problems("train", 40, 5) if "cost" in reference_solution(p)[-1])
    steps = list(reference_solution(problem))
    item = scene_of(problem).item
    assert {t.kind for t in judge_solution(problem, steps)} == {StepKind.OK}
    steps[-1] = steps[-1].replace(f"The {item} of", f"The {'cups' if item != 'cups' else 'pens'} of")
    assert judge_solution(problem, steps)[-1].kind is StepKind.WRONG_NOUN


@settings(max_examples=80, deadline=None)
@given(seed=SEEDS, habits=st.sampled_from([POLICY_HABITS, CARELESS_HABITS]))
def test_whatever_the_noisy_writer_does_can_be_judged(seed: int, habits: Habits) -> None:
    (problem,) = generate_problems("train", 1, seed)
    steps = write_solution(scene_of(problem), random.Random(seed), habits)
    truth = judge_solution(problem, steps)
    assert len(truth) == len(steps) <= MAX_STEPS
    assert StepKind.UNPARSABLE not in {t.kind for t in truth}
    assert truth[-1].correct == (f"\\boxed{{{problem.answer}}}" in steps[-1]) or not truth[-1].correct


@given(st.lists(st.text(max_size=120), max_size=4))
def test_garbage_is_unparsable_and_wrong(steps: list[str]) -> None:
    truth = judge_solution(PROBLEM, steps)
    assert [t.correct for t in truth] == [False] * len(steps)
    assert {t.kind for t in truth} <= {StepKind.UNPARSABLE}


def test_right_steps_of_every_kind() -> None:
    assert kinds(*STEPS) == ["ok", "ok"]
    assert kinds("Step 1: We know that Ann = 23.", *STEPS) == ["restated", "ok", "ok"]
    assert kinds("Step 1: Cid has 5 fewer than Ann = 23: 23 - 5 = 18, so Cid = 18.", *STEPS) == [
        "useless",
        "ok",
        "ok",
    ]
    assert kinds(
        STEPS[0], "Step 2: Check, Bob has 14 more than Ann = 23: 23 + 14 = 37, so Bob = 37.", STEPS[1]
    ) == [
        "ok",
        "restated",
        "ok",
    ]


def test_an_error_that_a_later_step_corrects_is_still_the_first_error() -> None:
    steps = (
        "Step 1: Bob has 14 more than Ann = 23: 23 - 14 = 9, so Bob = 9.",
        "Step 2: Wait, Bob has 14 more than Ann = 23: 23 + 14 = 37, so Bob = 37.",
        STEPS[1],
    )
    assert kinds(*steps) == ["wrong_operation", "correction", "ok"]
    assert first_error(PROBLEM, steps) == 0


def test_an_error_beside_the_point_is_an_error() -> None:
    steps = ("Step 1: Cid has 5 fewer than Ann = 23: 23 + 5 = 28, so Cid = 28.", *STEPS)
    assert kinds(*steps) == ["wrong_operation", "ok", "ok"]


def test_wrong_steps_of_every_kind() -> None:
    assert kinds("Step 1: Bob has 14 more than Ann = 23: 23 + 14 = 38, so Bob = 38.") == ["slip"]
    assert kinds("Step 1: Bob has 14 more than Ann = 23: 23 + 41 = 64, so Bob = 64.") == ["wrong_operand"]
    assert kinds("Step 1: We know that Ann = 32.") == ["wrong_operand"]
    assert kinds("Step 1: Zoe has 14 more than Ann = 23: 23 + 14 = 37, so Zoe = 37.") == ["unparsable"]
    assert kinds("Step 1: Bob has 14 more than Ann = 23: 23 + = 37, so Bob = 37.") == ["unparsable"]
    assert kinds("Step 1: Bob has 14 more than Ann = 23: 23 + 14 = 37, so Bob = 38.") == ["unparsable"]
    assert kinds("Step 1: Bob has 14 more than Ann = 23: 1 / 0 = 37, so Bob = 37.") == ["unparsable"]
    assert kinds(
        "Step 1: Bob has 14 more than Ann = 23: 23 + 14 = 37, so Bob = 37. The answer is \\boxed{37}."
    ) == ["wrong_answer"]
    wrong = "Step 1: Bob has 14 more than Ann = 23: 23 + 14 = 38, so Bob = 38."
    assert kinds(wrong, "Step 2: Ann = 23 and Bob = 38 together have 23 + 38 = 61.") == ["slip", "carried"]


@pytest.mark.parametrize("text", ["The answer is \\boxed{60}.", "Step 3: The answer is \\boxed{60}."])
def test_a_bare_answer_is_judged_by_the_answer(text: str) -> None:
    assert kinds(*STEPS[:1], text) == ["ok", "ok"]
    assert kinds(*STEPS[:1], text.replace("60", "37")) == ["ok", "wrong_answer"]


def test_two_routes_to_one_cost_are_both_right() -> None:
    text = (
        "At home, Ann owns 10 pens. Bob has 12 more pens than Ann. Each of the pens costs 3 coins. "
        "How many coins do the pens of Ann and Bob cost together?"
    )
    problem = Problem(id="c", text=text, answer="96")
    head = "Step 1: Bob has 12 more than Ann = 10: 10 + 12 = 22, so Bob = 22."
    end = " The answer is \\boxed{96}."
    apart = (
        head,
        "Step 2: The pens of Ann = 10 cost 10 * 3 = 30 coins.",
        "Step 3: The pens of Bob = 22 cost 22 * 3 = 66 coins.",
        "Step 4: The pens of Ann and Bob cost 30 + 66 = 96 coins." + end,
    )
    together = (
        head,
        "Step 2: Ann = 10 and Bob = 22 together have 10 + 22 = 32.",
        "Step 3: The pens of Ann and Bob cost 32 * 3 = 96 coins." + end,
    )
    for steps in (apart, together):
        assert {t.kind for t in judge_solution(problem, steps)} == {StepKind.OK}


def test_a_restated_value_reads_back() -> None:
    claim = parse_step("Step 4: " + RESTATED.format(S="Ann", V=7))
    assert claim is not None and claim.quantity == quantity("has", "Ann") and claim.value == 7
