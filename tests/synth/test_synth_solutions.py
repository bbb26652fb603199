"""Solution generation: balance, reasons, and every sample accounted for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genprm.config.models import SamplingConfig, SolutionsConfig
from genprm.domains.math import Grader, MathDomain
from genprm.engines.base import Completion, Request
from genprm.engines.scripted import ScriptedEngine
from genprm.errors import EngineError, EngineRequestError, EngineTimeout, EngineUnavailable
from genprm.records import Problem, Solution, StageOutput, Usage
from genprm.synth.solutions import generate_solutions, sample_solutions

PROBLEM = Problem(id="p", text="What is 2 * (2 + 3)?", answer="10")

WORDS = {
    "right": " 2 + 3 = 5\n\nStep 2: 2 * 5 = \\boxed{10}",
    "wrong": " 2 + 3 = 6\n\nStep 2: 2 * 6 = \\boxed{12}",
    "one_step": " it is \\boxed{10}",
    "no_answer": " 2 + 3 = 5\n\nStep 2: and so on",
    "ungraded": " 2 + 3 = 5\n\nStep 2: \\boxed{" + "1+" * 2000 + "}",
    "empty": "",
    "unfinished": " 2 + 3 = 5\n\nStep 2: \\boxed{10}",
    "fault": "",
    "rejected": "",
}
FAULTS = [
    ("fault", "EngineTimeout", True),
    ("gone", "EngineUnavailable", True),
    ("rejected", "EngineRequestError", False),
]
ERRORS: dict[str, EngineError] = {
    "fault": EngineTimeout("slow"),
    "gone": EngineUnavailable("gone"),
    "rejected": EngineRequestError("no"),
}
REASONS = {
    "one_step": "sample_too_few_steps",
    "no_answer": "sample_no_answer",
    "ungraded": "sample_ungraded",
    "empty": "sample_empty",
    "unfinished": "sample_unfinished",
}


class Recorder:
    """A policy whose sample number i comes out as `kinds[i % len(kinds)]`; remembers what it was asked."""

    def __init__(self, kinds: Sequence[str] | Callable[[Request], str]) -> None:
        self.kind = kinds if callable(kinds) else lambda request: kinds[request.sample % len(kinds)]
        self.calls: list[list[Request]] = []
        self._engine = ScriptedEngine(self._respond)
        self.name = self._engine.name
        self.usage = Usage()

    def _respond(self, request: Request) -> Completion:
        kind = self.kind(request)
        usage = Usage(requests=1, prompt_tokens=7, completion_tokens=11)
        if kind in ERRORS:
            return Completion(finish_reason="error", error=ERRORS[kind], usage=usage)
        return Completion(WORDS[kind], "length" if kind == "unfinished" else "eos", usage=usage)

    async def generate(self, requests: Sequence[Request]) -> list[Completion]:
        self.calls.append(list(requests))
        await asyncio.sleep(0)
        completions = await self._engine.generate(requests)
        self.usage = sum((completion.usage for completion in completions), self.usage)
        return completions

    async def check(self) -> None: ...

    def describe(self) -> dict[str, object]:
        return {}

    async def aclose(self) -> None: ...

    @property
    def drawn(self) -> int:
        return sum(map(len, self.calls))


async def generate(
    engine: Recorder, problems: Sequence[Problem] = (PROBLEM,), concurrency: int = 64, **more: object
) -> StageOutput[Solution]:
    options = SolutionsConfig.model_validate(
        {"per_class": 2, "batch": 4, "max_samples": 40, "duplicates": "keep", **more}
    )
    async with MathDomain(Grader(workers=1)) as domain:
        return await generate_solutions(problems, engine, domain, options, seed=3, concurrency=concurrency)


async def sample(
    engine: Recorder, n: int, problems: Sequence[Problem] = (PROBLEM,)
) -> StageOutput[Solution]:
    async with MathDomain(Grader(workers=1)) as domain:
        return await sample_solutions(problems, engine, domain, n, SolutionsConfig(), seed=1)


def reasons(output: StageOutput[Solution]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for row in output.dropped:
        counts[row.reason] = counts.get(row.reason, 0) + row.count
    return counts


async def test_first_ones_of_each_class_are_kept_and_the_rest_counted() -> None:
    engine = Recorder(["right", "right", "right", "wrong", "no_answer", "wrong", "wrong", "right"])
    output = await generate(engine)
    assert [(row.sample, row.correct) for row in output.rows] == [
        (0, True),
        (1, True),
        (3, False),
        (5, False),
    ]
    assert output.rows[0].steps == ("Step 1: 2 + 3 = 5", "Step 2: 2 * 5 = \\boxed{10}")
    assert [row.id for row in output.rows] == ["p/0", "p/1", "p/3", "p/5"]
    assert reasons(output) == {"sample_no_answer": 1, "sample_surplus": 3}
    assert engine.drawn == 8


async def test_requests_share_their_prompt_and_differ_in_sample() -> None:
    engine = Recorder(["right", "right", "right", "wrong"])
    await generate(engine)
    requests = [request for call in engine.calls for request in call]
    assert [len(call) for call in engine.calls] == [4, 4]
    assert [request.sample for request in requests] == list(range(8))
    assert len({(request.messages, request.prefix, request.params) for request in requests}) == 1
    assert requests[0].prefix == "Step 1:"
    assert requests[0].messages[-1].content == PROBLEM.text


async def test_easy_and_hard_problems_are_dropped_with_the_reason() -> None:
    easy = await generate(Recorder(["right"]))
    assert (easy.rows, reasons(easy)) == ((), {"easy": 1, "sample_problem_dropped": 40})
    hard = await generate(Recorder(["wrong"]))
    assert (hard.rows, reasons(hard)) == ((), {"hard": 1, "sample_problem_dropped": 40})
    kept = await generate(Recorder(["right"]), require_both=False)
    assert len(kept.rows) == 2
    assert reasons(kept) == {"sample_surplus": 38}


async def test_invalid_samples_alone() -> None:
    output = await generate(Recorder(["one_step"]))
    assert reasons(output) == {"no_valid_samples": 1, "sample_too_few_steps": 40}


async def test_a_problem_without_reference_costs_nothing() -> None:
    engine = Recorder(["right"])
    output = await generate(engine, [Problem(id="q", text="Why?")])
    assert reasons(output) == {"no_reference": 1}
    assert engine.drawn == 0


OTHER = Problem(id="q", text="other", answer="10")


@pytest.mark.parametrize(("fault", "error", "retryable"), FAULTS)
async def test_a_problem_whose_batch_the_engine_failed_on_is_lost_and_others_are_settled(
    fault: str, error: str, retryable: bool
) -> None:
    def kind(request: Request) -> str:
        if request.messages[-1].content == "other":
            return fault if request.sample >= 4 else "right"
        return ["right", "wrong"][request.sample % 2]

    output = await generate(Recorder(kind), [OTHER, PROBLEM])
    assert {row.problem_id for row in output.rows} == {"p"}
    assert {row.problem_id for row in output.dropped} <= {"p"}
    (lost,) = output.lost
    assert (lost.problem_id, lost.reason, lost.retryable) == ("q", error, retryable)
    assert lost.usage.requests == 8


@pytest.mark.parametrize(("fault", "error", "retryable"), FAULTS)
async def test_a_problem_without_any_of_its_n_samples_is_lost(
    fault: str, error: str, retryable: bool
) -> None:
    def kind(request: Request) -> str:
        return fault if request.messages[-1].content == "other" else "right"

    output = await sample(Recorder(kind), 3, [OTHER, PROBLEM])
    assert [row.id for row in output.rows] == ["p/0", "p/1", "p/2"]
    assert not output.dropped
    (lost,) = output.lost
    assert (lost.problem_id, lost.reason, lost.retryable) == ("q", error, retryable)
    assert lost.usage.requests == 3


async def test_one_retryable_fault_makes_the_loss_retryable() -> None:
    for output in (
        await generate(Recorder(["rejected", "fault", "rejected"])),
        await sample(Recorder(["rejected", "fault", "rejected"]), 3),
    ):
        assert [(lost.reason, lost.retryable) for lost in output.lost] == [("EngineTimeout", True)]


async def test_a_batch_that_lost_some_samples_continues() -> None:
    output = await generate(Recorder(["fault", "right", "wrong", "rejected"]))
    assert len(output.rows) == 4
    assert not output.lost
    assert reasons(output) == {"sample_engine_failed": 4}
    assert output.dropped[0].detail == "EngineRequestError: no; EngineTimeout: slow"


@given(
    kinds=st.lists(st.sampled_from(sorted(WORDS)), min_size=1, max_size=12),
    per_class=st.integers(1, 4),
    batch=st.integers(1, 7),
    both=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_every_sample_is_a_row_or_counted_once(
    kinds: list[str], per_class: int, batch: int, both: bool
) -> None:
    engine = Recorder(kinds)
    output = asyncio.run(
        generate(engine, per_class=per_class, batch=batch, max_samples=20, require_both=both)
    )
    spent = sum((row.usage for row in (*output.rows, *output.dropped, *output.lost)), Usage())
    assert spent == engine.usage
    if output.lost:
        assert not output.rows and not output.dropped
        return
    counts = reasons(output)
    samples = {reason: count for reason, count in counts.items() if reason.startswith("sample_")}
    assert len(output.rows) + sum(samples.values()) == engine.drawn <= 20
    drawn = [kinds[index % len(kinds)] for index in range(engine.drawn)]
    for kind, reason in REASONS.items():
        assert samples.get(reason, 0) == drawn.count(kind)
    assert samples.get("sample_engine_failed", 0) == drawn.count("fault") + drawn.count("rejected")
    problem_reasons = len(counts) - len(samples)
    assert problem_reasons == (0 if output.rows else 1)
    right = [row for row in output.rows if row.correct]
    assert max(len(right), len(output.rows) - len(right)) <= per_class


async def test_the_same_rows_whatever_the_concurrency() -> None:
    problems = [Problem(id=f"p{i}", text=f"problem {i}", answer="10") for i in range(6)]

    def kind(request: Request) -> str:
        return ["right", "wrong", "no_answer"][(request.params.seed or 0) * (request.sample + 1) % 3]

    one = await generate(Recorder(kind), problems, concurrency=1)
    many = await generate(Recorder(kind), problems, concurrency=64)
    assert one == many


async def test_exactly_n_samples_for_evaluation() -> None:
    kinds = ["right", "unfinished", "one_step", "no_answer", "wrong", "empty", "ungraded", "fault"]
    engine = Recorder(kinds)
    async with MathDomain(Grader(workers=1)) as domain:
        options = SolutionsConfig(sampling=SamplingConfig(temperature=0.5))
        output = await sample_solutions([PROBLEM], engine, domain, 8, options, seed=1)
    found = {row.sample: (row.correct, row.invalid) for row in output.rows}
    assert found == {
        0: (True, None),
        1: (True, "unfinished"),
        2: (True, "too_few_steps"),
        3: (False, "no_answer"),
        4: (False, None),
        6: (None, None),
    }
    assert reasons(output) == {"sample_empty": 1, "sample_engine_failed": 1}
    assert output.rows[-1].ungraded_reason == "too_long"
    assert len(engine.calls) == 1
    assert engine.calls[0][0].params.temperature == 0.5
    with pytest.raises(ValueError, match="at least one sample"):
        await sample(engine, 0)


async def test_what_a_policy_wrote_instead_is_kept_for_each_reason() -> None:
    kinds = ["right", "wrong", "no_answer", "one_step", "empty", "unfinished"] * 2
    others = [Problem(id=name, text=PROBLEM.text, answer="10") for name in ("p", "q", "r")]
    output = await generate(Recorder(kinds), others, batch=12, max_samples=12, per_class=1, keep_examples=3)
    found: dict[str, list[tuple[str, str]]] = {}
    for row in output.dropped:
        found.setdefault(row.reason, []).extend((one.id, one.text) for one in row.examples)
    no_answer = "Step 1: 2 + 3 = 5\n\nStep 2: and so on"
    assert found["sample_no_answer"] == [("p/2", no_answer), ("p/8", no_answer), ("q/2", no_answer)]
    assert found["sample_too_few_steps"][0] == ("p/3", "Step 1: it is \\boxed{10}")
    assert found["sample_empty"] == []
    assert [name for name, _ in found["sample_surplus"]] == ["p/6", "p/7", "q/6"]
    none = await generate(Recorder(kinds), others, batch=12, max_samples=12, per_class=1, keep_examples=0)
    assert {row.examples for row in none.dropped} == {()}
    assert none.rows == output.rows


async def test_duplicates_are_counted_and_others_are_drawn_in_their_place() -> None:
    """A duplicate has the steps of an earlier valid sample, however they are spaced."""
    spaced = {
        "right": "2 + 3 = 5\n\nStep 2: 2 * 5 = \\boxed{10}",
        "other": "3 + 2 = 5\n\nStep 2: \\boxed{10}",
    }
    WORDS.update({"spaced": "  " + spaced["right"], "other": " " + spaced["other"]})
    engine = Recorder(["right", "right", "spaced", "wrong", "other", "one_step", "one_step", "wrong"])
    output = await generate(engine, duplicates="drop", max_samples=8)
    assert [(row.sample, row.correct) for row in output.rows] == [(0, True), (3, False), (4, True)]
    assert reasons(output) == {"sample_duplicate": 3, "sample_too_few_steps": 2}
    assert engine.drawn == 8
    assert [call[0].sample for call in engine.calls] == [0, 4]


async def test_a_problem_of_duplicates_is_judged_by_what_is_left() -> None:
    output = await generate(Recorder(["right"]), duplicates="drop")
    assert reasons(output) == {"easy": 1, "sample_problem_dropped": 1, "sample_duplicate": 39}


@pytest.mark.parametrize("seen", ["right", "wrong", "no_answer"])
@pytest.mark.parametrize("fault", ["fault", "rejected"])
async def test_a_class_that_a_passing_fault_may_have_taken_is_not_known_to_be_missing(
    seen: str, fault: str
) -> None:
    """Of 40 samples some are lost; a later try may find there what the others lack."""
    for kinds in ([seen, *[fault] * 3], [*[seen] * 3, fault]):
        engine = Recorder(kinds)
        output = await generate(engine, require_both=seen != "no_answer")
        assert not output.rows
        if fault == "rejected":
            settled = {"right": "easy", "wrong": "hard", "no_answer": "no_valid_samples"}[seen]
            assert reasons(output)[settled] == 1, (
                "a fault that does not pass hides nothing that will be found"
            )
            continue
        assert [(lost.reason, lost.retryable) for lost in output.lost] == [("EngineTimeout", True)]
        assert not output.dropped
        assert output.lost[0].usage == engine.usage


async def test_a_class_is_missing_though_a_passing_fault_took_one_sample_of_many() -> None:
    output = await generate(Recorder(["fault", *["wrong"] * 39]))
    assert reasons(output) == {"hard": 1, "sample_problem_dropped": 39, "sample_engine_failed": 1}


async def test_n_samples_that_passing_faults_took_most_of_are_lost() -> None:
    kept = await sample(Recorder(["fault", "right"]), 4)
    assert (len(kept.rows), reasons(kept), kept.lost) == (2, {"sample_engine_failed": 2}, ())
    lost = await sample(Recorder(["fault", "fault", "right", "fault"]), 4)
    assert (lost.rows, lost.dropped) == ((), ())
    assert [(one.reason, one.retryable) for one in lost.lost] == [("EngineTimeout", True)]
    rejected = await sample(Recorder(["rejected", "rejected", "right", "rejected"]), 4)
    assert (len(rejected.rows), rejected.lost) == (1, ())


async def test_looking_for_duplicates_compares_each_sample_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from genprm.synth import solutions

    marked = 0
    real = solutions._marked

    def counted(samples: Sequence[Any], seen: set[tuple[str, ...]]) -> list[Any]:
        nonlocal marked
        marked += len(samples)
        return real(samples, seen)

    monkeypatch.setattr(solutions, "_marked", counted)
    engine = Recorder(["right", "right", "no_answer", "right"])
    output = await generate(engine, duplicates="drop", max_samples=40)
    assert reasons(output) == {
        "easy": 1,
        "sample_problem_dropped": 1,
        "sample_duplicate": 29,
        "sample_no_answer": 10,
    }
    assert marked == engine.drawn == 40
