"""The tutor localises exactly when told not to err, errs about as often as told, and is a pure function."""

from __future__ import annotations

import contextlib
import io
import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genprm.engines.base import Request
from genprm.errors import EngineRequestError
from genprm.records import ChatMessage, Problem
from genprm.text.prompts import TeacherProfile, load_profile
from genprm.worlds.arithmetic import first_error, generate_problems, make_tutor, reference_solution
from genprm.worlds.arithmetic.problems import scene_of
from genprm.worlds.arithmetic.tutor import Responder
from genprm.worlds.arithmetic.writer import POLICY_HABITS, write_solution

PROFILE = load_profile("teacher", TeacherProfile)
FENCE = "\n```\n"


def execute(code: str) -> str:
    """What the sandbox would show. The code is the tutor's own."""
    shown = io.StringIO()
    try:
        with contextlib.redirect_stdout(shown):
            exec(code, {})
    except Exception as error:
        return f"Code execute Error: {type(error).__name__}: {error}"
    return shown.getvalue().strip()


def ask(tutor: Responder, problem: Problem, steps: list[str], prefix: str, sample: int = 0) -> str:
    messages = PROFILE.messages(problem.text, steps)
    return tutor(Request(messages=messages, prefix=prefix, sample=sample))


def review(tutor: Responder, problem: Problem, steps: list[str], sample: int = 0) -> str:
    """The whole review, with every code block executed."""
    text = ""
    for _ in range(60):
        said = ask(tutor, problem, steps, text, sample)
        text += said
        if not said.endswith(FENCE):
            return text
        code = text.rsplit("```python\n", 1)[1].removesuffix(FENCE)
        text += f"[Code Output]\n\n```\n{execute(code)}{FENCE}"
    raise AssertionError("the tutor does not come to an end")


def index_of(text: str) -> int:
    match = re.search(r"The first wrong paragraph is \\boxed\{(-?\d+)\}\.$", text)
    assert match, text
    return int(match[1]) - 1 if int(match[1]) > 0 else -1


def noisy(seed: int) -> tuple[Problem, list[str]]:
    (problem,) = generate_problems("train", 1, seed)
    return problem, write_solution(scene_of(problem), random.Random(seed), POLICY_HABITS)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_without_noise_the_index_is_exact_and_the_output_agrees_with_every_judgement(seed: int) -> None:
    problem, steps = noisy(seed)
    tutor = make_tutor(1, wrong_index_rate=0, faulty_code_rate=0, conflict_rate=0, slip_rate=0)
    text = review(tutor, problem, steps)
    error = first_error(problem, steps)
    assert index_of(text) == error
    outputs = re.findall(r"\[Code Output\]\n\n```\n(.*?)\n```", text)
    words = re.findall(r"\*\*Judgement\*\*: \$\\boxed\{(Yes|No)\}\$", text)
    assert outputs == ["True" if word == "Yes" else "False" for word in words]
    assert len(words) == (len(steps) if error == -1 else error + 1)


def test_wrong_index_rate() -> None:
    tutor = make_tutor(2, wrong_index_rate=0.3, faulty_code_rate=0, conflict_rate=0, slip_rate=0)
    wrong = 0
    for seed in range(150):
        problem, steps = noisy(seed)
        wrong += index_of(review(tutor, problem, steps)) != first_error(problem, steps)
    assert 0.18 < wrong / 150 < 0.42


@pytest.mark.parametrize("kind", ["faulty_code_rate", "conflict_rate"])
def test_trouble_costs_a_second_round_and_changes_no_index(kind: str) -> None:
    rates = {"wrong_index_rate": 0.0, "faulty_code_rate": 0.0, "conflict_rate": 0.0, "slip_rate": 0.0}
    tutor = make_tutor(3, **{**rates, kind: 0.5})
    rounds = paragraphs = 0
    for seed in range(80):
        problem, steps = noisy(seed)
        text = review(tutor, problem, steps)
        assert index_of(text) == first_error(problem, steps)
        rounds += text.count("```python")
        paragraphs += text.count("<analyze>")
    assert 0.35 < rounds / paragraphs - 1 < 0.65


ANALYSIS = re.compile(r"<analyze>\n(.*?)\n</analyze>", re.DOTALL)
CONCLUDES_RIGHT = re.compile(r"(so this agrees|: equal)\.$")


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_every_analysis_derives_compares_and_concludes_as_the_judgement_does(seed: int) -> None:
    problem, steps = noisy(seed)
    tutor = make_tutor(1, wrong_index_rate=0, faulty_code_rate=0, conflict_rate=0, slip_rate=0)
    text = review(tutor, problem, steps)
    words = re.findall(r"\*\*Judgement\*\*: \$\\boxed\{(Yes|No)\}\$", text)
    concluded = [bool(CONCLUDES_RIGHT.search(analysis)) for analysis in ANALYSIS.findall(text)]
    assert concluded == [word == "Yes" for word in words]
    for analysis, step in zip(ANALYSIS.findall(text), steps, strict=False):
        claimed = re.findall(r"\d+", step)[-1]
        derivation, said = analysis.split("The step has ")
        assert said.startswith(claimed) or "and answer" in said or "cost" in step
        assert re.search(r"(So|This needs) ", derivation)


def test_a_slip_in_the_head_is_overruled_by_the_executed_code() -> None:
    tutor = make_tutor(3, wrong_index_rate=0, faulty_code_rate=0, conflict_rate=0, slip_rate=0.5)
    overruled = paragraphs = 0
    for seed in range(60):
        problem, steps = noisy(seed)
        text = review(tutor, problem, steps)
        assert index_of(text) == first_error(problem, steps)
        for paragraph in text.split("### Paragraph")[1:]:
            analysis, rest = paragraph.split("</analyze>", 1)
            paragraphs += "boxed{Yes}" in rest
            overruled += "boxed{Yes}" in rest and not CONCLUDES_RIGHT.search(analysis.strip())
            assert paragraph.count("```python") == 1
    assert 0.3 < overruled / paragraphs < 0.7


def test_a_step_that_pays_for_another_thing_is_reviewed_for_that() -> None:
    problems = generate_problems("train", 40, 5)
    problem = next(p for p in problems if "cost" in reference_solution(p)[-1])
    item = scene_of(problem).item
    other = "cups" if item != "cups" else "pens"
    steps = [
        *reference_solution(problem)[:-1],
        reference_solution(problem)[-1].replace(f"{item} of", f"{other} of"),
    ]
    tutor = make_tutor(1, wrong_index_rate=0, faulty_code_rate=0, conflict_rate=0, slip_rate=0)
    text = review(tutor, problem, steps)
    assert index_of(text) == len(steps) - 1
    assert f"print('{item}' == '{other}')" in text
    assert re.search(
        rf"The {item} cost \d each\. (So|This needs) {item}\. The step has {other}(, so this is wrong|: not equal)",
        text,
    )


def test_equal_requests_get_equal_answers_and_samples_differ() -> None:
    problem, steps = noisy(5)
    tutor, again = (make_tutor(4, conflict_rate=0.5) for _ in range(2))
    assert review(tutor, problem, steps) == review(again, problem, steps)
    assert len({review(tutor, problem, steps, sample) for sample in range(8)}) > 1


def test_a_forced_opening_is_not_repeated() -> None:
    problem, steps = noisy(6)
    tutor = make_tutor(0, wrong_index_rate=0, faulty_code_rate=0, conflict_rate=0, slip_rate=0)
    whole = ask(tutor, problem, steps, "")
    opening = "### Paragraph 1\n<analyze>\n"
    assert opening + ask(tutor, problem, steps, opening) == whole
    text = review(tutor, problem, steps)
    cut = text.index(PROFILE.index_open) + len(PROFILE.index_open)
    assert ask(tutor, problem, steps, text[:cut]) == text[cut:]
    forced = whole + PROFILE.forced_output
    assert re.match(r"(Yes|No)\}\$\n</output>", ask(tutor, problem, steps, forced))


def test_an_unreadable_paragraph_is_judged_wrong() -> None:
    (problem,) = generate_problems("train", 1, 9)
    steps = ["Step 1: Blue skies.", *reference_solution(problem)]
    tutor = make_tutor(0, wrong_index_rate=0, faulty_code_rate=0, conflict_rate=0, slip_rate=0)
    assert index_of(review(tutor, problem, steps)) == 0


def test_another_prompt_is_refused() -> None:
    with pytest.raises(EngineRequestError, match="teacher"):
        make_tutor()(Request(messages=(ChatMessage(role="user", content="Hello"),)))
