"""Steps: splitting is stable, keeps the text, and reads the markers that models really write."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genprm.text.steps import StepStyle, continuation_prefix, join_steps, split_steps, step_number

STYLES: tuple[StepStyle, ...] = ("step_markers", "paragraphs", "lines")
PIECES = st.sampled_from(
    [
        "Step 1:",
        "Step 2: x = 3",
        "**Step 2:** go",
        "**Step 3**",
        "## Step 4",
        "### Step 5: End",
        "Step 2 is",
        "- Step 1: a",
        "\n",
        "\n\n",
        " ",
        "\t",
        "\r\n",
        "text",
        "So from Step 2: we get",
        "step 7 :",
        "\u2028",
        "\x0b",
        "*",
        "#",
    ]
)
TEXTS = st.one_of(st.text(max_size=80), st.lists(PIECES, max_size=14).map("".join))


@given(TEXTS, st.sampled_from(STYLES))
def test_splitting_what_was_joined_gives_the_same_steps(text: str, style: StepStyle) -> None:
    steps = split_steps(text, style)
    assert split_steps(join_steps(steps, style), style) == steps


@given(TEXTS, st.sampled_from(STYLES))
def test_steps_are_never_empty_and_lose_nothing_but_white_space(text: str, style: StepStyle) -> None:
    steps = split_steps(text, style)
    assert all(step and step == step.strip() for step in steps)
    assert "".join("".join(steps).split()) == "".join(text.split())


def test_a_step_keeps_its_marker_and_a_preamble_joins_the_first_step() -> None:
    text = "Let us begin.\n\nStep 1: a\nmore\n\n**Step 2:** b\n## Step 3\nc\nAs Step 2: said, fine."
    assert split_steps(text) == (
        "Let us begin.\n\nStep 1: a\nmore",
        "**Step 2:** b",
        "## Step 3\nc\nAs Step 2: said, fine.",
    )


@pytest.mark.parametrize(
    ("line", "number"),
    [
        ("Step 12: x", 12),
        ("step 3 : x", 3),
        ("**Step 4**: x", 4),
        ("**Step 4:** x", 4),
        ("### Step 5 - x", 5),
        ("### **Step 6**", 6),
        ("- Step 7: x", 7),
        ("Step 2 is wrong", None),
        ("Steps 2: x", None),
        ("So Step 2: x", None),
        ("Step two: x", None),
    ],
)
def test_markers(line: str, number: int | None) -> None:
    assert step_number(line) == number


def test_other_styles() -> None:
    text = "a\nb\n \n\nc\r\n\r\nd"
    assert split_steps(text, "paragraphs") == ("a\nb", "c", "d")
    assert split_steps(text, "lines") == ("a", "b", "c", "d")
    assert split_steps("no marker\n\nat all") == ("no marker\n\nat all",)
    assert split_steps(" \n ") == ()


def test_a_continuation_is_forced_to_its_own_marker() -> None:
    assert continuation_prefix(()) == "Step 1:"
    assert continuation_prefix(("Step 1: a", "Step 2: b")) == "Step 1: a\n\nStep 2: b\n\nStep 3:"
    assert continuation_prefix(("a",), "paragraphs") == "a\n\n"
    assert continuation_prefix(("a",), "lines") == "a\n"
    text = continuation_prefix(("Step 1: a",)) + " b"
    assert split_steps(text) == ("Step 1: a", "Step 2: b")


def test_real_solutions_split_at_their_lines() -> None:
    path = Path(__file__).parents[3] / "shared/data/policy_outputs/gsm8k_test_gpt3_solutions.jsonl"
    if not path.exists():
        pytest.skip("no real solutions here")
    with path.open(encoding="utf-8") as lines:
        rows = [json.loads(line) for _, line in zip(range(200), lines, strict=False)]
    for row in rows:
        text = row["175b_verification"]["solution"]
        steps = split_steps(text, "lines")
        assert len(steps) == len([line for line in text.split("\n") if line.strip()])
        assert split_steps(join_steps(steps, "lines"), "lines") == steps
