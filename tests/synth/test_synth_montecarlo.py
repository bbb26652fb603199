"""Monte-Carlo estimates: counts, dynamic K, the zero rule, and one call for each state."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from fractions import Fraction

import pytest

from genprm.config.models import MonteCarloConfig
from genprm.domains.math import Grader, MathDomain
from genprm.engines.base import Completion, Request
from genprm.errors import EngineError, EngineRequestError, EngineTimeout, EngineUnavailable
from genprm.labels.rules import exact_value
from genprm.records import (
    Example,
    KeptCompletion,
    Problem,
    Solution,
    SolutionScores,
    StageOutput,
    StepScore,
    Usage,
)
from genprm.synth.montecarlo import Estimate, choose_k, estimate, estimate_with

PROBLEM = Problem(id="p", text="What is 2 * (2 + 3) - 1?", answer="9")


def solution(index: int, *steps: str, correct: bool | None = True) -> Solution:
    marked = tuple(f"Step {number}: {step}" for number, step in enumerate(steps, start=1))
    return Solution(
        id=f"p/{index}", problem_id="p", steps=marked, answer="9", correct=correct, sample=index
    )


class Completer:
    """A completer whose answers are `answers(prefix, sample)`; None is a fault, "" an answerless text."""

    name = "scripted:completer"

    def __init__(self, answers: Callable[[str, int], str | None]) -> None:
        self.answers = answers
        self.prefixes: list[str] = []
        self.sizes: list[int] = []
        self.usage = Usage()
        self.in_flight = self.most_in_flight = 0
        self.fault: Callable[[Request], EngineError | None] = lambda request: None

    async def generate(self, requests: Sequence[Request]) -> list[Completion]:
        assert len({(request.messages, request.prefix, request.params) for request in requests}) == 1
        first = requests[0].sample
        assert [request.sample for request in requests] == list(range(first, first + len(requests)))
        self.prefixes.append(requests[0].prefix)
        self.sizes.append(len(requests))
        self.in_flight += len(requests)
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        await asyncio.sleep(0.001)
        self.in_flight -= len(requests)
        completions = [self._complete(request) for request in requests]
        self.usage = sum((completion.usage for completion in completions), self.usage)
        return completions

    def _complete(self, request: Request) -> Completion:
        answer = self.answers(request.prefix, request.sample)
        usage = Usage(requests=1, prompt_tokens=5, completion_tokens=2)
        error = EngineTimeout("slow") if answer is None else self.fault(request)
        if error is not None:
            return Completion(finish_reason="error", error=error, usage=usage)
        return Completion(f" so \\boxed{{{answer}}}" if answer else " hm", "eos", usage=usage)

    async def check(self) -> None: ...

    def describe(self) -> dict[str, object]:
        return {}

    async def aclose(self) -> None: ...


async def score(
    completer: Completer,
    solutions: Sequence[Solution],
    concurrency: int = 256,
    more: Sequence[tuple[Problem, Sequence[Solution]]] = (),
    **options: object,
) -> StageOutput[SolutionScores]:
    config = MonteCarloConfig.model_validate(
        {"k_start": 4, "k_hard": 8, "k_medium": 3, "k_easy": 2, **options}
    )
    async with MathDomain(Grader(workers=1)) as domain:
        items = [(PROBLEM, solutions), *more]
        return await estimate(items, completer, domain, config, seed=0, concurrency=concurrency)


async def test_the_frameworks_own_example() -> None:
    """The framework figure: two of three completions from a step reach the answer, so MC is 2/3."""

    def answers(prefix: str, sample: int) -> str:
        if prefix == "Step 1:":
            return "9" if sample < 2 else "8"
        return ["9", "11", "9"][sample]

    output = await score(Completer(answers), [solution(0, "2 + 3 = 5", "2 * 5 - 1 = 9")])
    (row,) = output.rows
    assert row.start == StepScore(correct=2, total=4)
    assert row.steps[0] == StepScore(correct=2, total=3)
    assert exact_value(row.steps[0]) == Fraction(2, 3)
    assert row.steps[1] == StepScore(correct=1, total=1, origin="answer")
    assert row.completer == "scripted:completer"


async def test_a_continuation_starts_after_the_steps_with_the_next_marker() -> None:
    completer = Completer(lambda prefix, sample: "9")
    await score(completer, [solution(0, "a", "b", "c")])
    assert completer.prefixes == ["Step 1:", "Step 1: a\n\nStep 2:", "Step 1: a\n\nStep 2: b\n\nStep 3:"]


@pytest.mark.parametrize(
    ("start", "k"), [(0.0, 128), (0.0999, 128), (0.1, 64), (0.5, 64), (0.8999, 64), (0.9, 32), (1.0, 32)]
)
def test_k_by_pass_at_1(start: float, k: int) -> None:
    assert choose_k(start, MonteCarloConfig()) == k


@pytest.mark.parametrize(("right", "k"), [(1, 8), (2, 3), (17, 3), (18, 2), (20, 2)])
async def test_k_is_used_for_every_state_but_the_start(right: int, k: int) -> None:
    completer = Completer(lambda prefix, sample: "9" if prefix != "Step 1:" or sample < right else "0")
    await score(completer, [solution(0, "a", "b", "c")], k_start=20)
    assert completer.sizes == [20, k, k]


async def test_after_a_zero_nothing_is_sampled() -> None:
    completer = Completer(lambda prefix, sample: "0" if "Step 2: wrong" in prefix else "9")
    output = await score(completer, [solution(0, "a", "wrong", "c", "d", correct=False)])
    (row,) = output.rows
    assert [step.origin for step in row.steps] == ["sampled", "sampled", "zero_rule", "zero_rule"]
    assert [step.value for step in row.steps] == [1.0, 0.0, 0.0, 0.0]
    assert len(completer.prefixes) == 3


async def test_the_last_step_is_judged_by_its_own_answer() -> None:
    solutions = [
        solution(0, "a", correct=True),
        solution(1, "b", correct=False),
        solution(2, "c", correct=None),
    ]
    completer = Completer(lambda prefix, sample: "9")
    output = await score(completer, solutions)
    assert [row.steps[0].value for row in output.rows] == [1.0, 0.0, None]
    assert completer.sizes == [4]


async def test_a_problem_that_the_completer_never_solves_is_dropped() -> None:
    completer = Completer(lambda prefix, sample: ["0", ""][sample % 2])
    output = await score(completer, [solution(0, "a", "b"), solution(1, "c", "d")])
    assert not output.rows
    assert [(row.item_id, row.reason) for row in output.dropped] == [
        ("p/0", "start_zero"),
        ("p/1", "start_zero"),
    ]
    assert output.dropped[0].usage == completer.usage
    assert output.dropped[1].usage == Usage()


async def test_common_steps_are_estimated_once_and_charged_once() -> None:
    solutions = [
        solution(0, "a", "b", "c"),
        solution(1, "a", "b", "x"),
        solution(2, "a", "y", "z"),
        solution(3, "a", "b", "c", "d"),
    ]
    completer = Completer(lambda prefix, sample: ["9", "0"][sample % 2])
    output = await score(completer, solutions)
    assert sorted(completer.prefixes) == sorted(
        [
            "Step 1:",
            "Step 1: a\n\nStep 2:",
            "Step 1: a\n\nStep 2: b\n\nStep 3:",
            "Step 1: a\n\nStep 2: y\n\nStep 3:",
            "Step 1: a\n\nStep 2: b\n\nStep 3: c\n\nStep 4:",
        ]
    )
    assert sum((row.usage for row in output.rows), Usage()) == completer.usage
    assert [row.usage.requests for row in output.rows] == [10, 0, 3, 3]
    serial = await score(Completer(completer.answers), solutions, concurrency=1)
    assert serial == output


async def test_faults_and_unknown_answers_are_failed_not_wrong() -> None:
    long = "1+" * 2000

    def answers(prefix: str, sample: int) -> str | None:
        return "9" if prefix == "Step 1:" else ["9", None, long, ""][sample]

    output = await score(Completer(answers), [solution(0, "a", "b")], k_easy=4)
    assert output.rows[0].steps[0] == StepScore(correct=1, total=2, failed=2)


async def test_a_state_that_nothing_is_known_about_stays_unknown() -> None:
    long = "1+" * 2000

    def answers(prefix: str, sample: int) -> str:
        return long if prefix.endswith("Step 2:") else "9"

    output = await score(Completer(answers), [solution(0, "a", "b", "c")])
    (row,) = output.rows
    assert [step.value for step in row.steps] == [None, 1.0, 1.0]
    unknown = await score(Completer(lambda prefix, sample: long), [solution(0, "a", "b")])
    assert [row.reason for row in unknown.dropped] == ["start_unknown"]


OTHER = Problem(id="q", text="What is 3 * 3?", answer="9")


@pytest.mark.parametrize(
    ("error", "retryable"),
    [(EngineTimeout("slow"), True), (EngineUnavailable("gone"), True), (EngineRequestError("no"), False)],
)
@pytest.mark.parametrize("state", ["Step 1:", "Step 1: x\n\nStep 2:"])
async def test_a_problem_that_the_engine_failed_on_is_lost_and_others_are_settled(
    state: str, error: EngineError, retryable: bool
) -> None:
    completer = Completer(lambda prefix, sample: "9")
    completer.fault = lambda request: (
        error if request.messages[-1].content == PROBLEM.text and request.prefix == state else None
    )
    other = solution(0, "x", "b").model_copy(update={"id": "q/0", "problem_id": "q"})
    output = await score(completer, [solution(0, "x", "b")], more=[(OTHER, [other])])
    assert [row.solution_id for row in output.rows] == ["q/0"]
    assert not output.dropped
    (lost,) = output.lost
    assert (lost.problem_id, lost.reason, lost.retryable) == ("p", type(error).__name__, retryable)
    assert sum((row.usage for row in (*output.rows, *output.lost)), Usage()) == completer.usage


async def test_a_rejected_state_drops_its_solution_alone() -> None:
    completer = Completer(lambda prefix, sample: "9")
    completer.fault = lambda request: EngineRequestError("no") if "Step 1: x" in request.prefix else None
    output = await score(completer, [solution(0, "a", "b"), solution(1, "x", "b")])
    assert [row.solution_id for row in output.rows] == ["p/0"]
    assert [(row.item_id, row.problem_id, row.reason) for row in output.dropped] == [
        ("p/1", "p", "engine_failed")
    ]
    assert output.dropped[0].detail == "EngineRequestError: no"
    assert not output.lost
    assert sum((row.usage for row in (*output.rows, *output.dropped)), Usage()) == completer.usage


async def test_a_retryable_fault_on_one_solution_loses_the_problem() -> None:
    completer = Completer(lambda prefix, sample: "9")
    completer.fault = lambda request: EngineTimeout("slow") if "Step 1: x" in request.prefix else None
    output = await score(completer, [solution(0, "a", "b"), solution(1, "x", "b")])
    assert (output.rows, output.dropped) == ((), ())
    assert [(lost.problem_id, lost.retryable) for lost in output.lost] == [("p", True)]
    assert output.lost[0].usage == completer.usage


async def test_one_retryable_fault_makes_the_loss_retryable() -> None:
    completer = Completer(lambda prefix, sample: "9")
    completer.fault = lambda request: (
        EngineTimeout("slow") if request.sample == 1 else EngineRequestError("no")
    )
    output = await score(completer, [solution(0, "a", "b")])
    assert [(lost.reason, lost.retryable) for lost in output.lost] == [("EngineTimeout", True)]


async def test_a_zero_that_rests_on_faults_that_may_pass_is_not_known() -> None:
    """All samples of a state but one were lost, and that one is wrong: later it may be another one."""
    solutions = [solution(0, "a", "b", correct=True), solution(1, "x", "y", "z")]
    for state in ("Step 1:", "Step 1: x\n\nStep 2:"):
        completer = Completer(
            lambda prefix, sample, state=state: "9" if prefix != state else None if sample else "0"
        )
        output = await score(completer, solutions, k_start=32, k_easy=32)
        assert (output.rows, output.dropped) == ((), ()), "no start_zero, and no zero rule"
        assert [(lost.reason, lost.retryable) for lost in output.lost] == [("EngineTimeout", True)]
        assert output.lost[0].usage == completer.usage


@pytest.mark.parametrize(
    ("word", "taken", "k", "lost"),
    [("0", 1, 8, True), ("9", 1, 8, False), ("0", 3, 64, False), ("0", 4, 64, True)],
)
async def test_a_zero_is_in_doubt_if_what_was_lost_may_well_have_been_right(
    word: str, taken: int, k: int, lost: bool
) -> None:
    def answers(prefix: str, sample: int) -> str | None:
        if prefix == "Step 1:":
            return "9"
        return None if sample < taken else word

    output = await score(Completer(answers), [solution(0, "x", "b")], k_easy=k)
    assert bool(output.lost) is lost
    if not lost:
        right = k - taken if word == "9" else 0
        assert output.rows[0].steps[0] == StepScore(correct=right, total=k - taken, failed=taken)


@pytest.mark.parametrize("taken", [4, 5])
async def test_a_share_of_what_passing_faults_left_counts_if_it_is_at_least_half(taken: int) -> None:
    completer = Completer(lambda prefix, sample: None if prefix != "Step 1:" and sample < taken else "9")
    output = await score(completer, [solution(0, "a", "b")], k_easy=8)
    if taken == 4:
        assert output.rows[0].steps[0] == StepScore(correct=4, total=4, failed=4)
    else:
        assert [lost.reason for lost in output.lost] == ["EngineTimeout"]


async def test_a_zero_beside_rejected_samples_is_settled() -> None:
    completer = Completer(lambda prefix, sample: "0")
    completer.fault = lambda request: EngineRequestError("no") if request.sample else None
    output = await score(completer, [solution(0, "a", "b")])
    assert [(row.reason, row.detail) for row in output.dropped] == [("start_zero", "3 of 4 failed")]


async def test_a_problem_without_solutions_costs_nothing() -> None:
    completer = Completer(lambda prefix, sample: "9")
    output = await score(completer, [])
    assert (output.rows, output.dropped, output.lost) == ((), (), ())
    assert completer.usage == Usage()


async def test_a_cancelled_stage_leaves_nothing_running() -> None:
    asked, ended = asyncio.Event(), asyncio.Event()

    class Hanging:
        name = "hanging"

        async def estimate(self, problem: Problem, steps: Sequence[str], samples: range) -> Estimate:
            asked.set()
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()
            raise AssertionError

    stage = asyncio.ensure_future(
        estimate_with([(PROBLEM, [solution(0, "a", "b")])], Hanging(), MonteCarloConfig())
    )
    await asked.wait()
    stage.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stage
    assert ended.is_set()


async def test_requests_in_flight_are_bounded() -> None:
    completer = Completer(lambda prefix, sample: "9")
    solutions = [solution(index, f"a{index}", f"b{index}", "c") for index in range(12)]
    output = await score(completer, solutions, concurrency=8, k_easy=3)
    assert len(output.rows) == 12
    assert 3 <= completer.most_in_flight <= 8
    # A state that needs more than the bound runs alone instead of never.
    assert len((await score(Completer(completer.answers), solutions[:1], concurrency=1)).rows) == 1


async def test_other_estimators_fit_in() -> None:
    class Known:
        name = "known"

        async def estimate(self, problem: Problem, steps: Sequence[str], samples: range) -> Estimate:
            return Estimate(StepScore(correct=len(samples) - len(steps), total=len(samples)), Usage())

    output = await estimate_with([(PROBLEM, [solution(0, "a", "b", "c")])], Known(), MonteCarloConfig())
    assert [(step.correct, step.total) for step in output.rows[0].steps] == [(31, 32), (30, 32), (1, 1)]


async def test_completions_are_kept_on_request() -> None:
    def answers(prefix: str, sample: int) -> str | None:
        return ["8", None, "9"][sample % 3]

    solutions = [solution(0, "2 + 3 = 5", "2 * 5 - 1 = 9")]
    (plain,) = (await score(Completer(answers), solutions, k_medium=3)).rows
    assert [step.completions for step in (plain.start, *plain.steps)] == [(), (), ()]
    (row,) = (await score(Completer(answers), solutions, k_medium=3, keep_completions=2)).rows
    assert row.steps[0].completions == (
        KeptCompletion(text="Step 1: 2 + 3 = 5\n\nStep 2: so \\boxed{8}", correct=False),
        KeptCompletion(text="Step 1: 2 + 3 = 5\n\nStep 2: so \\boxed{9}", correct=True),
    )
    assert len(row.start.completions) == 2
    assert (row.steps[0].correct, row.steps[0].total) == (plain.steps[0].correct, plain.steps[0].total)
    assert row.steps[1].completions == ()


async def test_what_a_completer_wrote_instead_is_kept() -> None:
    solutions = [solution(0, "a", "b"), solution(1, "c", "d")]
    output = await score(Completer(lambda prefix, sample: str(sample)), solutions, keep_examples=2)
    first, second = output.dropped
    assert (first.reason, second.examples) == ("start_zero", ())
    assert first.examples == (
        Example(id="p/start/0", text="Step 1: so \\boxed{0}"),
        Example(id="p/start/1", text="Step 1: so \\boxed{1}"),
    )
    nothing = await score(Completer(lambda prefix, sample: str(sample)), solutions, keep_examples=0)
    assert [row.examples for row in nothing.dropped] == [(), ()]
