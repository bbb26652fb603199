"""Paragraphs: the plain marker of a step goes where a profile says so, in what every model reads."""

from __future__ import annotations

import pytest

from genprm.records import Problem, Rationale, Solution
from genprm.text.paragraphs import strip_marker
from genprm.text.prompts import TeacherProfile, VerifierProfile, load_profile
from genprm.text.transcript import parse_step
from genprm.training import build_samples

STEPS = ("Step 1: 1 + 1 = 2", "Step 12:   so 2.\nStep 3: stays", "**Step 3:** end")
BARE = ("1 + 1 = 2", "so 2.\nStep 3: stays", "**Step 3:** end")
JUDGED = "<output>\n**Judgement**: $\\boxed{Yes}$\n</output>"


@pytest.mark.parametrize(
    ("step", "shown"),
    [
        *zip(STEPS, BARE, strict=True),
        ("Step 4:", "Step 4:"),
        ("Step four: x", "Step four: x"),
        ("First, Step 1: x", "First, Step 1: x"),
        ("step 1: x", "step 1: x"),
        ("", ""),
    ],
)
def test_the_plain_marker_goes_and_nothing_else(step: str, shown: str) -> None:
    assert strip_marker(step) == shown


def test_verifier_trainee_and_teacher_read_the_same_paragraphs() -> None:
    profile = load_profile("genprm", VerifierProfile)
    asked = [m.content for m in profile.messages("P?", STEPS, 2, ["a", "b"]) if m.role == "user"]
    assert asked == [f"Question: P?\n\n{BARE[0]}", *BARE[1:]]
    solution = Solution(id="s", problem_id="p", steps=STEPS)
    rationale = Rationale(
        solution_id="s", problem_id="p", steps=tuple(parse_step(JUDGED) for _ in STEPS), first_error=-1
    )
    problem = Problem(id="p", text="P?", answer="2")
    sample = build_samples(solution, problem, rationale, profile=profile)
    assert [m.content for m in sample.conversations if m.role == "user"] == asked
    _, user = load_profile("teacher", TeacherProfile).messages("P?", STEPS)
    assert all(
        f"<paragraph_{k}>\n{step}\n</paragraph_{k}>" in user.content for k, step in enumerate(BARE, 1)
    )


def test_a_profile_may_keep_the_markers() -> None:
    compact = load_profile("compact", VerifierProfile)
    assert [m.content for m in compact.messages("P?", STEPS, 1, ["a"]) if m.role == "user"] == [
        f"P?\n{STEPS[0]}",
        STEPS[1],
    ]
    _, user = load_profile("tutor", TeacherProfile).messages("P?", STEPS)
    assert all(step in user.content for step in STEPS)
