"""What every domain promises, whatever its subject."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import get_args

import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from genprm.domains import DOMAINS, Domain, Extracted, Graded, Role, load_domain, register_domain
from genprm.errors import ConfigError
from genprm.records import Problem
from genprm.text.prompts import PolicyProfile, RefineProfile, TeacherProfile, VerifierProfile, load_profile

PROFILES = {
    "policy": PolicyProfile,
    "teacher": TeacherProfile,
    "verifier": VerifierProfile,
    "refine": RefineProfile,
}


@dataclass(frozen=True)
class Samples:
    """A reference answer with equal and other answers, and a text that states an answer.

    Attributes:
        equal: equal to the reference; the first is written differently but in the same class of votes.
        steps: a solution's text, and the steps that it has.
    """

    reference: str
    equal: tuple[str, ...]
    other: tuple[str, ...]
    text: tuple[str, str]
    silent: str
    steps: tuple[str, tuple[str, ...]]


MATH = Samples(
    reference="1/2",
    equal=("0.5", "1/2", r"\frac{1}{2}", r"\frac{\sqrt{4}}{4}"),
    other=("2", r"\sqrt{2}", "x"),
    text=("First 3, so the answer is \\boxed{0.5}.", "0.5"),
    silent="I do not know.",
    steps=("Step 1: 1 + 1 = 2\n\nStep 2: \\boxed{2}", ("Step 1: 1 + 1 = 2", "Step 2: \\boxed{2}")),
)
SAMPLES = {
    "math": MATH,
    "math-announced": dataclasses.replace(MATH, silent="So he has 5 left."),
    "math-last-number": MATH,
}
NAMES = sorted(DOMAINS)


@pytest.fixture(params=NAMES)
async def domain(request: pytest.FixtureRequest) -> AsyncIterator[Domain]:
    found = load_domain(request.param)
    yield found
    await found.aclose()


def problem(domain: Domain, reference: str | None = "") -> Problem:
    answer = SAMPLES[domain.name].reference if reference == "" else reference
    return Problem(id="p", text="x?", answer=answer)


def test_every_domain_has_samples() -> None:
    assert SAMPLES.keys() == DOMAINS.keys()


async def test_it_is_the_domain_that_was_asked_for(domain: Domain) -> None:
    assert isinstance(domain, Domain)
    assert domain.name in DOMAINS
    assert domain.sandbox_tier in ("plain", "sympy", "numpy", "scipy")


async def test_every_role_has_a_default_profile_that_exists(domain: Domain) -> None:
    assert set(domain.profiles) == set(get_args(Role))
    for role, name in domain.profiles.items():
        load_profile(name, PROFILES[role])


async def test_an_answer_that_is_stated_is_extracted(domain: Domain) -> None:
    text, answer = SAMPLES[domain.name].text
    found = domain.extract(text)
    assert found.answer == answer and found.how != "none"
    for silent in ("", SAMPLES[domain.name].silent):
        assert domain.extract(silent) == Extracted(None, "none")


async def test_equal_answers_are_equal_and_others_are_not(domain: Domain) -> None:
    samples = SAMPLES[domain.name]
    for answer in samples.equal:
        assert await domain.grade(answer, problem(domain)) == Graded(True)
    for answer in samples.other:
        assert (await domain.grade(answer, problem(domain))).equal is False


async def test_no_answer_is_wrong_and_without_a_reference_nothing_is_known(domain: Domain) -> None:
    for answer in (None, "", " "):
        assert await domain.grade(answer, problem(domain)) == Graded(False, "no_answer")
    for answer in (None, "2"):
        assert await domain.grade(answer, problem(domain, None)) == Graded(None, "no_reference")


async def test_many_are_graded_like_one_in_order(domain: Domain) -> None:
    samples = SAMPLES[domain.name]
    known, unknown = problem(domain), problem(domain, None)
    pairs = [(answer, known) for answer in (*samples.equal, None, *samples.other, samples.equal[0])]
    pairs += [(samples.reference, unknown), (samples.other[0], known)]
    assert await domain.grade_many(pairs) == [await domain.grade(*pair) for pair in pairs]
    assert await domain.grade_many([]) == []


async def test_grading_in_parallel_gives_the_same_verdicts(domain: Domain) -> None:
    samples = SAMPLES[domain.name]
    answers = [*samples.equal, *samples.other] * 3
    found = await asyncio.gather(*(domain.grade(answer, problem(domain)) for answer in answers))
    assert [graded.equal for graded in found] == (
        [True] * len(samples.equal) + [False] * len(samples.other)
    ) * 3


async def test_votes_for_equal_answers_meet_in_one_class(domain: Domain) -> None:
    samples = SAMPLES[domain.name]
    answers = [samples.reference, None, *samples.equal, *samples.other, samples.equal[0]]
    classes = await domain.vote_classes(answers)
    assert classes[:2] == [samples.reference, None]
    assert set(classes[2 : 2 + len(samples.equal)]) == {samples.reference} == {classes[-1]}
    for answer, name in zip(answers, classes, strict=True):
        assert (name == samples.reference) is (answer not in (None, *samples.other))
    assert await domain.vote_classes([]) == []


async def test_a_solution_is_split_into_its_steps(domain: Domain) -> None:
    text, steps = SAMPLES[domain.name].steps
    assert domain.split(text) == steps
    for nothing in ("", " \n\n\t"):
        assert domain.split(nothing) == ()


async def test_closing_twice_is_closing_once(domain: Domain) -> None:
    before = set(psutil.Process().children())
    await domain.grade(SAMPLES[domain.name].equal[-1], problem(domain))
    await domain.aclose()
    await domain.aclose()
    assert set(psutil.Process().children()) <= before


@pytest.mark.parametrize("name", NAMES)
@given(text=st.text(st.sampled_from("Step 12:.#\n\r\t *-{}\\boxed$é￿")) | st.text())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_text_is_split_and_searched(name: str, text: str) -> None:
    domain = load_domain(name)
    steps = domain.split(text)
    assert all(isinstance(step, str) and step.strip() for step in steps)
    assert bool(steps) is bool(text.strip())
    found = domain.extract(text)
    assert (found.answer is None) is (found.how == "none")
    assert found == domain.extract(text)
    if found.answer is not None:
        assert found.answer.strip()


def test_an_unknown_domain_is_a_mistake_with_a_suggestion() -> None:
    with pytest.raises(ConfigError, match="'maths'") as error:
        load_domain("maths")
    assert "did you mean 'math'?" in error.value.hint


class Partial:
    name = "partial"


def test_domains_are_registered_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("genprm.domains.DOMAINS", dict(DOMAINS))
    register_domain("more", "genprm.domains.math:MathDomain")
    assert load_domain("more").name == "math"
    register_domain("partial", f"{__name__}:Partial")
    with pytest.raises(ConfigError, match="Partial"):
        load_domain("partial")
    register_domain("gone", "genprm.nowhere:Domain")
    with pytest.raises(ConfigError, match=r"genprm\.nowhere"):
        load_domain("gone")
