"""Prompt profiles: what models are shown, to the letter, and clear words for wrong profiles."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genprm.errors import ConfigError
from genprm.text.prompts import (
    PolicyProfile,
    Profile,
    RefineProfile,
    TeacherProfile,
    VerifierProfile,
    fill,
    list_profiles,
    load_profile,
)

STEPS = ("Step 1: 1 + 1 = 2", "Step 2: \\boxed{2} {problem}", "Step 3: end")


def rendered(profile: VerifierProfile, index: int) -> list[tuple[str, str]]:
    answers = [f"<answer {t}>" for t in range(index)]
    return [(m.role, m.content) for m in profile.messages("What is {step} + 1?", STEPS, index, answers)]


def test_the_released_checkpoints_profile_is_exact() -> None:
    profile = load_profile("genprm", VerifierProfile)
    system = "You are a math teacher. Your task is to review and critique the paragraphs in solution step by step."
    assert rendered(profile, 2) == [
        ("system", system),
        ("user", "Question: What is {step} + 1?\n\n1 + 1 = 2"),
        ("assistant", "<answer 0>"),
        ("user", "\\boxed{2} {problem}"),
        ("assistant", "<answer 1>"),
        ("user", "end"),
    ]
    assert profile.add_generation_prompt is True
    assert fill(profile.analyze_open, t=3) == "<analyze>\nLet's analyze the Paragraph 3 step by step: "
    assert profile.analyze_stop == "</analyze>\n"
    assert (
        profile.verify_open == "<verify>\nLet's use python code to find any potential error:\n```python\n"
    )
    assert profile.finish == ("</output>\n",)
    assert profile.forced_output == "<output>\n**Judgement**: $\\boxed"
    assert (profile.turn_end, profile.note_empty_output, profile.sandbox_tier) == ("\n", False, "scipy")
    assert [profile.opening(2, form) for form in ("direct", "cot", "code")] == [  # type: ignore[arg-type]
        profile.forced_output,
        "<analyze>\nLet's analyze the Paragraph 3 step by step: ",
        profile.verify_open,
    ]


@pytest.mark.parametrize(
    ("name", "differs"),
    [
        ("genprm-no-header", {"add_generation_prompt": False}),
        ("genprm-eval", {"first_user": "{problem}\n{step}"}),
        ("genprm-eval-no-header", {"first_user": "{problem}\n{step}", "add_generation_prompt": False}),
    ],
)
def test_variants_of_the_released_profile_differ_in_what_they_say_alone(
    name: str, differs: dict[str, object]
) -> None:
    texts = {"name", "description"}
    variant = load_profile(name).model_dump(exclude=texts)
    assert variant == load_profile("genprm").model_dump(exclude=texts) | differs
    assert load_profile(name).name == name


def test_the_compact_profile_is_exact() -> None:
    profile = load_profile("compact", VerifierProfile)
    assert rendered(profile, 0) == [
        ("system", "Check the solution step by step."),
        ("user", "What is {step} + 1?\nStep 1: 1 + 1 = 2"),
    ]
    assert profile.add_generation_prompt is True
    assert (profile.analyze_open, profile.analyze_stop) == ("<analyze>\n", "</analyze>\n")
    assert profile.verify_open == "<verify>\n```python\n"
    assert profile.finish == ("\\boxed{Yes}$", "\\boxed{No}$")
    assert profile.forced_output == "<output>\n**Judgement**: $\\boxed{"


def test_the_teacher_sees_tagged_paragraphs_in_one_turn() -> None:
    profile = load_profile("teacher", TeacherProfile)
    system, user = profile.messages("P?", STEPS[:2])
    assert user.content == (
        "Problem:\nP?\n\nSolution:\n<paragraph_1>\n1 + 1 = 2\n</paragraph_1>\n\n"
        "<paragraph_2>\n\\boxed{2} {problem}\n</paragraph_2>"
    )
    for word in ("<analyze>", "<verify>", "```python", "[Code Output]", "\\boxed{-1}", profile.index_open):
        assert word in system.content


def test_policy_and_feedback_are_exact() -> None:
    policy = load_profile("policy", PolicyProfile)
    assert [(m.role, m.content) for m in policy.messages("P?")] == [
        ("system", "Solve the problem step by step. Put the final answer in \\boxed{}."),
        ("user", "P?"),
    ]
    assert policy.prefix == "Step 1:"
    refine = load_profile("refine", RefineProfile)
    assert refine.critic_feedback(1, "Step 2: {analysis}", "Wrong.") == (
        "Paragraph 2 may be wrong:\nStep 2: {analysis}\nReview:\nWrong.\nPlease write the whole solution again."
    )
    assert refine.self_ == "Please check your solution and write the whole solution again."


@given(st.text(max_size=30), st.text(max_size=30))
def test_values_are_never_read_as_slots(problem: str, step: str) -> None:
    assert fill("{problem}\n{step}", problem=problem, step=step) == f"{problem}\n{step}"
    assert fill("\\boxed{a}{step}", step=step) == f"\\boxed{{a}}{step}"


def test_a_file_may_extend_a_built_in_profile(tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text("extends: genprm-no-header\nname: mine\nfirst_user: '{step}'\n")
    profile = load_profile(str(mine), VerifierProfile)
    expected = load_profile("genprm-no-header").model_copy(update={"name": "mine", "first_user": "{step}"})
    assert profile == expected


@pytest.mark.parametrize("name", ["teacher", "teacher-reasoning", "teacher-thinking"])
def test_every_teacher_is_told_to_name_its_paragraphs(name: str) -> None:
    profile = load_profile(name, TeacherProfile)
    assert "### Paragraph 1" in profile.messages("P?", STEPS)[0].content
    thinking = {"teacher": "none", "teacher-reasoning": "strip", "teacher-thinking": "review"}
    assert profile.thinking == thinking[name]
    forced = "<think>\n### Paragraph 1\n<analyze>\n" if profile.thinking == "review" else ""
    assert profile.prefix == forced


@pytest.mark.parametrize("name", ["teacher", "teacher-reasoning", "teacher-thinking"])
def test_every_teacher_derives_before_it_reads_the_claim_and_concludes_before_any_code(name: str) -> None:
    """A claim that was read first is copied; a verdict that is left to code teaches a verifier without code nothing."""
    asked = load_profile(name, TeacherProfile).messages("P?", STEPS)[0].content
    analysis = asked[asked.index("<analyze> ...") : asked.index("<verify> ...")]
    order = [analysis.index(said) for said in ("yourself before you look at", "compare", "conclude")]
    assert order == sorted(order)


def test_all_built_in_profiles_load() -> None:
    assert {"genprm", "compact", "teacher", "policy", "refine"} <= set(list_profiles())
    assert all(isinstance(load_profile(name), Profile) for name in list_profiles())


def test_a_wrong_name_gets_a_suggestion() -> None:
    with pytest.raises(ConfigError) as error:
        load_profile("compct")
    assert "compact" in error.value.hint
    with pytest.raises(ConfigError) as error:
        load_profile("zzz")
    assert "genprm" in error.value.hint


def test_a_profile_of_the_wrong_kind_is_refused() -> None:
    with pytest.raises(ConfigError, match="teacher profile; a verifier") as error:
        load_profile("teacher", VerifierProfile)
    assert "compact" in error.value.hint


def test_a_users_own_file_and_its_mistakes(tmp_path: Path) -> None:
    good = tmp_path / "mine.yaml"
    good.write_text("kind: verifier\nname: mine\nsystem: Look.\nfinish: ['</output>']\n")
    assert load_profile(str(good), VerifierProfile).system == "Look."
    as_json = tmp_path / "mine.json"
    as_json.write_text('{"kind": "policy", "name": "j", "system": "Solve."}')
    assert load_profile(str(as_json), PolicyProfile).prefix == "Step 1:"
    for text, word in [
        ("kind: verifier\nname: x\nsystm: y\n", "system"),
        ("kind: verifier\nname: x\nsystem: y\nanalyze_open: think\n", "analyze_open"),
        ("kind: verifier\nname: x\nsystem: y\nverify_open: code\n", "verify_open"),
        ("kind: verifier\nname: x\nsystem: y\nforced_output: Yes or no\n", "forced_output"),
        ("kind: verifier\nname: x\nsystem: y\nturn_end: done\n", "turn_end"),
        ("extends: nothing\nname: x\n", "not a built-in profile"),
        ("kind: other\n", "kind"),
        ("- a\n", "kind"),
        ("a: [", "YAML"),
    ]:
        bad = tmp_path / "bad.yaml"
        bad.write_text(text)
        with pytest.raises(ConfigError, match=word):
            load_profile(str(bad))
    with pytest.raises(ConfigError, match="cannot read"):
        load_profile(str(tmp_path / "missing.yaml"))
