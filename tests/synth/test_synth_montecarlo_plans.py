"""Which states the estimators sample, and how often; all of them through the stage's own function."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genprm.aio import derive_seed
from genprm.config import LabelConfig, MonteCarloConfig
from genprm.errors import EngineError, EngineRequestError, EngineTimeout
from genprm.labels import label_solution
from genprm.records import NO_ERROR, Problem, Solution, SolutionScores, StageOutput, StepScore, Usage
from genprm.synth.montecarlo import Estimate, estimate_with

PROBLEM = Problem(id="p", text="?", answer="1")
RULES = {
    method: LabelConfig.model_validate({"method": method}) for method in ("hard", "ratio", "posterior")
}


def solution(index: int, *steps: str, correct: bool = False) -> Solution:
    return Solution(id=f"p/{index}", problem_id="p", steps=steps, correct=correct, sample=index)


class Chances:
    """An estimator with a chance of success after each step; the same index gives the same sample."""

    name = "chances"

    def __init__(self, chances: dict[str, float], start: float = 0.6, seed: int = 0) -> None:
        self.chances, self.start, self.seed = chances, start, seed
        self.drawn: dict[tuple[str, ...], int] = {}
        self.fault: dict[str, EngineError] = {}

    async def estimate(self, problem: Problem, steps: Sequence[str], samples: range) -> Estimate:
        state = tuple(steps)
        assert samples.start == self.drawn.get(state, 0), "batches follow each other"
        self.drawn[state] = samples.stop
        usage = Usage(requests=len(samples))
        if steps and steps[-1] in self.fault:
            error = self.fault[steps[-1]]
            return Estimate(StepScore(correct=0, total=0, failed=len(samples)), usage, error=error)
        chance = self.chances[steps[-1]] if steps else self.start
        seed = derive_seed(self.seed, *steps)
        right = sum(random.Random(derive_seed(seed, index)).random() < chance for index in samples)
        return Estimate(StepScore(correct=right, total=len(samples)), usage)

    @property
    def cost(self) -> int:
        return sum(self.drawn.values())


async def score(
    oracle: Chances, solutions: Sequence[Solution], rule: str = "posterior", **options: object
) -> StageOutput[SolutionScores]:
    config = MonteCarloConfig.model_validate(options)
    return await estimate_with([(PROBLEM, solutions)], oracle, config, rule=RULES[rule])


async def test_the_start_never_has_fewer_samples_than_the_states_that_are_measured_against_it() -> None:
    oracle = Chances({"a": 0.5}, start=0.5)
    (row,) = (await score(oracle, [solution(0, "a", "b")])).rows
    assert oracle.drawn == {(): 64, ("a",): 64}
    assert (row.start.total, row.steps[0].total, row.estimator) == (64, 64, "dynamic")
    assert row.usage.requests == 128
    easy = Chances({"a": 0.5}, start=1.0)
    await score(easy, [solution(0, "a", "b")])
    assert easy.drawn == {(): 32, ("a",): 32}
    alone = Chances({}, start=0.5)
    await score(alone, [solution(0, "b")])
    assert alone.drawn == {(): 32}, "no state is measured against it"


async def test_fixed_has_one_k() -> None:
    oracle = Chances({"a": 0.5, "b": 0.0, "c": 0.0}, start=0.05)
    (row,) = (await score(oracle, [solution(0, "a", "b", "c", "d")], estimator="fixed", k_start=40)).rows
    assert oracle.drawn == {(): 40, ("a",): 40, ("a", "b"): 40}
    assert [step.origin for step in row.steps] == ["sampled", "sampled", "zero_rule", "zero_rule"]


@pytest.mark.parametrize("rule", RULES)
async def test_sequential_stops_when_a_label_is_decided_and_after_the_first_error(rule: str) -> None:
    oracle = Chances({"a": 0.6, "b": 0.0, "c": 0.0}, start=0.6)
    (row,) = (await score(oracle, [solution(0, "a", "b", "c", "d")], rule, estimator="sequential")).rows
    assert label_solution(row, RULES[rule]).first_error == 1
    assert ("a", "b", "c") not in oracle.drawn
    assert [step.origin for step in row.steps] == ["sampled", "sampled", "skipped", "answer"]
    whole = Chances(oracle.chances, start=0.6)
    await score(whole, [solution(0, "a", "b", "c", "d")], rule)
    assert oracle.cost < whole.cost


@settings(deadline=None, max_examples=40)
@given(
    chances=st.lists(st.sampled_from([0.0, 0.1, 0.4, 0.6, 0.9]), min_size=1, max_size=4),
    rule=st.sampled_from(sorted(RULES)),
    seed=st.integers(0, 99),
    correct=st.booleans(),
)
async def test_certainty_gives_the_labels_of_all_samples(
    chances: list[float], rule: str, seed: int, correct: bool
) -> None:
    """With a confidence of 1 nothing is left out that could change a first error."""
    steps = [str(number) for number in range(len(chances) + 1)]
    one = solution(0, *steps, correct=correct)
    known = dict(zip(steps, chances, strict=False))
    names = {}
    for options in ({"estimator": "sequential", "confidence": 1.0}, {"estimator": "dynamic"}):
        oracle = Chances(known, seed=seed)
        output = await score(oracle, [one], rule, **options, k_start=16, k_medium=24, k_hard=24)
        (row,) = output.rows or (None,)
        names[options["estimator"]] = (
            None if row is None else label_solution(row, RULES[rule]).first_error,
            oracle.cost,
        )
    assert names["sequential"][0] == names["dynamic"][0]
    assert names["sequential"][1] <= names["dynamic"][1]


async def test_binary_asks_for_a_logarithm_of_the_states_of_a_wrong_solution() -> None:
    steps = [f"s{number}" for number in range(16)]
    for first_error in (0, 5, 14, 15):
        chances = {step: 0.0 if index >= first_error else 0.7 for index, step in enumerate(steps)}
        oracle = Chances(chances, start=0.7)
        (row,) = (await score(oracle, [solution(0, *steps)], estimator="binary")).rows
        assert label_solution(row, RULES["posterior"]).first_error == first_error
        assert len(oracle.drawn) == 1 + 4


async def test_binary_walks_through_a_solution_with_a_right_answer() -> None:
    """It recovered from an error, so what follows the error is not bad."""
    oracle = Chances({"a": 0.7, "b": 0.0, "c": 0.9, "d": 0.9}, start=0.7)
    (row,) = (
        await score(oracle, [solution(0, "a", "b", "c", "d", "e", correct=True)], estimator="binary")
    ).rows
    assert label_solution(row, RULES["posterior"]).first_error == 1
    good = Chances({"a": 0.7, "b": 0.7}, start=0.7)
    (row,) = (await score(good, [solution(0, "a", "b", "c", correct=True)], estimator="binary")).rows
    assert label_solution(row, RULES["posterior"]).first_error == NO_ERROR


@pytest.mark.parametrize("estimator", ["fixed", "dynamic", "sequential", "binary"])
async def test_shared_states_are_sampled_once_and_charged_once(estimator: str) -> None:
    solutions = [
        solution(0, "a", "b", "c"),
        solution(1, "a", "b", "d", "e"),
        solution(2, "a", "x", "y", correct=True),
    ]
    oracle = Chances({"a": 0.6, "b": 0.1, "d": 0.5, "x": 0.7}, start=0.6)
    output = await score(oracle, solutions, estimator=estimator)
    assert sum(row.usage.requests for row in output.rows) == oracle.cost
    assert {row.start.total for row in output.rows} == {oracle.drawn[()]}
    shared = {row.steps[0].total for row in output.rows if row.steps[0].origin == "sampled"}
    assert shared == {oracle.drawn[("a",)]}
    assert await score(Chances(oracle.chances), solutions, estimator=estimator) == output


async def test_a_state_that_is_lost_after_its_first_batch_loses_those_who_need_it() -> None:
    for error, lost in ((EngineTimeout("slow"), True), (EngineRequestError("no"), False)):
        oracle = Chances({"a": 0.6, "b": 0.5}, start=0.6)
        oracle.fault = {"b": error}
        solutions = [solution(0, "a", "b", "c"), solution(1, "a", "c", correct=True)]
        output = await score(oracle, solutions, estimator="sequential")
        assert [row.solution_id for row in output.rows] == ([] if lost else ["p/1"])
        assert [row.reason for row in output.dropped] == ([] if lost else ["engine_failed"])
        assert bool(output.lost) is lost
        rows = (*output.rows, *output.dropped, *output.lost)
        assert sum(row.usage.requests for row in rows) == oracle.cost


@pytest.mark.parametrize("estimator", ["sequential", "binary"])
async def test_a_batch_of_faults_beside_right_samples_of_another_one_decides_nothing(
    estimator: str,
) -> None:
    """Counts and faults of a state add up over its batches: the zero of one of them alone is none."""

    class Faulty(Chances):
        async def estimate(self, problem: Problem, steps: Sequence[str], samples: range) -> Estimate:
            found = await super().estimate(problem, steps, samples)
            if not steps or samples.start == 0:
                return found
            graded = StepScore(correct=0, total=len(samples) - 1, failed=1)
            return Estimate(graded, found.usage, passing=(EngineTimeout("slow"),))

    solutions = [solution(0, "a", "b", "c"), solution(1, "a", "x", "c", correct=True)]
    oracle = Faulty({"a": 1.0, "b": 0.4, "x": 0.4}, start=0.6)
    output = await score(oracle, solutions, estimator=estimator, confidence=1.0)
    assert any(cost > 8 for cost in oracle.drawn.values()), "there are later batches"
    assert not output.lost
    assert any(step.failed for row in output.rows for step in row.steps)
