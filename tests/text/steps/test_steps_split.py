"""Steps: splitting is stable, keeps the text, and reads the markers that models really write."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genprm.text.steps import StepStyle, continuation_prefix, join_steps, split_steps, step_number

STYLES: tuple[StepStyle, ...] = ("step_markers", "paragraphs", "lines")
ALL: tuple[StepStyle, ...] = ("auto", *STYLES)
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
        "```",
        "\\[",
        "\\]",
        "$$",
        "\\begin{align}",
        "\\end{align}",
        "| a |",
        "1. first",
        "2. second",
        "Therefore, 5.",
    ]
)
TEXTS = st.one_of(st.text(max_size=80), st.lists(PIECES, max_size=14).map("".join))


@given(TEXTS, st.sampled_from(STYLES))
def test_splitting_what_was_joined_gives_the_same_steps(text: str, style: StepStyle) -> None:
    steps = split_steps(text, style)
    assert split_steps(join_steps(steps, style), style) == steps


@given(TEXTS, st.sampled_from(ALL))
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
        ("Step 2. Multiply", 2),
        ("Step 2 - Multiply", 2),
        ("Step 2.5: x", None),
        ("#### Step 1.1", None),
        ("**Step 1.1:** x", None),
    ],
)
def test_markers(line: str, number: int | None) -> None:
    assert step_number(line) == number


def test_other_styles() -> None:
    text = "a\nb\n \n\nc\r\n\r\nd"
    assert split_steps(text, "paragraphs") == ("a\nb", "c", "d")
    assert split_steps(text, "lines") == ("a", "b", "c", "d")
    assert split_steps("no marker\n\nat all", "step_markers") == ("no marker\n\nat all",)
    assert split_steps(" \n ") == ()


def test_a_continuation_is_forced_to_its_own_marker() -> None:
    assert continuation_prefix(()) == "Step 1:"
    assert continuation_prefix(("Step 1: a", "Step 2: b")) == "Step 1: a\n\nStep 2: b\n\nStep 3:"
    assert continuation_prefix(("a",), "paragraphs") == "a\n\n"
    assert continuation_prefix(("a",), "lines") == "a\n"
    text = continuation_prefix(("Step 1: a",)) + " b"
    assert split_steps(text) == ("Step 1: a", "Step 2: b")


def test_real_solutions_split_at_their_lines() -> None:
    path = (
        Path(__file__).resolve().parents[4] / "shared/data/policy_outputs/gsm8k_test_gpt3_solutions.jsonl"
    )
    if not path.exists():
        pytest.skip("no real solutions here")
    with path.open(encoding="utf-8") as lines:
        rows = [json.loads(line) for _, line in zip(range(200), lines, strict=False)]
    for row in rows:
        text = row["175b_verification"]["solution"]
        steps = split_steps(text, "lines")
        assert len(steps) == len([line for line in text.split("\n") if line.strip()])
        assert split_steps(join_steps(steps, "lines"), "lines") == steps


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        (
            "First 1+2=3.\n\nThen 4*3=12.\n\nSo the answer is 12.",
            ("First 1+2=3.", "Then 4*3=12.", "So the answer is 12."),
        ),
        (
            "Step 1. Add: 1+2=3.\n\nStep 2. Multiply: 4*3=12.",
            ("Step 1. Add: 1+2=3.", "Step 2. Multiply: 4*3=12."),
        ),
        ("Step 2: b = 4\n\nStep 3: c = 5", ("Step 2: b = 4", "Step 3: c = 5")),
        (
            "Let us compute.\n\n\\[\nx = 1\n\n+ 2\n\\]\n\nSo x = 3.",
            ("Let us compute.\n\n\\[\nx = 1\n\n+ 2\n\\]", "So x = 3."),
        ),
        (
            "Step 1: run\n```python\n# Step 2: inside code\nprint(1)\n```\n\nStep 2: done",
            ("Step 1: run\n```python\n# Step 2: inside code\nprint(1)\n```", "Step 2: done"),
        ),
        (
            "#### Step 1\n\na = 1\n\n#### Step 1.1\n\nb = 2\n\n#### Step 2\n\nc = 3",
            ("#### Step 1\n\na = 1\n\n#### Step 1.1\n\nb = 2", "#### Step 2\n\nc = 3"),
        ),
        (
            "Plan:\nStep 1: add\nStep 2: halve\n\nStep 1: 1 + 3 = 4\n\nStep 2: 4 / 2 = 2",
            ("Plan:\nStep 1: add\nStep 2: halve\n\nStep 1: 1 + 3 = 4", "Step 2: 4 / 2 = 2"),
        ),
        (
            "We go on:\n\n1. **Add**\n   - 1 + 3 = 4\n\n2. **Halve**\n   \\[ 4 / 2 = 2 \\]\n\nTherefore, it is 2.",
            (
                "We go on:\n\n1. **Add**\n   - 1 + 3 = 4",
                "2. **Halve**\n   \\[ 4 / 2 = 2 \\]",
                "Therefore, it is 2.",
            ),
        ),
        (
            "We need:\n1. The sum.\n2. Its half.\n\nFirst, the sum is 1 + 3, which is 4.\n\nIts half is 4 / 2 = 2.",
            (
                "We need:\n1. The sum.\n2. Its half.",
                "First, the sum is 1 + 3, which is 4.",
                "Its half is 4 / 2 = 2.",
            ),
        ),
        (
            "**Add the numbers**\n\n1 + 3 = 4 in all.\n\n## Halve\n\n\\begin{align}\na\n\n\\end{align}\n\nwhere a = 2.",
            (
                "**Add the numbers**\n\n1 + 3 = 4 in all.",
                "## Halve\n\n\\begin{align}\na\n\n\\end{align}\n\nwhere a = 2.",
            ),
        ),
        (
            "The table:\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\nThus,\n\n$$a\n\n+ b = 3$$\n\nThe end is near.",
            (
                "The table:\n\n| a | b |\n|---|---|\n| 1 | 2 |",
                "Thus,\n\n$$a\n\n+ b = 3$$",
                "The end is near.",
            ),
        ),
        (
            "60 - 40 = 20 minutes.\nSo he is 20 minutes early.",
            ("60 - 40 = 20 minutes.", "So he is 20 minutes early."),
        ),
        ("All in one line.", ("All in one line.",)),
    ],
)
def test_how_a_solution_is_written_is_found_out(text: str, steps: tuple[str, ...]) -> None:
    assert split_steps(text) == steps
    assert split_steps(text.replace("\n", "\r\n")) == steps
    assert split_steps(join_steps(steps)) == steps


def test_a_continuation_of_found_steps_has_a_marker_if_they_have() -> None:
    assert continuation_prefix((), "auto") == "Step 1:"
    assert continuation_prefix(("Step 2: a", "Step 3: b"), "auto") == "Step 2: a\n\nStep 3: b\n\nStep 4:"
    assert continuation_prefix(("a = 1.", "b = 2."), "auto") == "a = 1.\n\nb = 2.\n\n"


def test_real_solutions_are_split_and_nothing_is_cut() -> None:
    path = Path(__file__).resolve().parents[4] / "shared/data/real_solutions/qwen_solutions.jsonl"
    if not path.exists():
        pytest.skip("no real solutions here")
    texts = [json.loads(line)["solution"] for line in path.read_text(encoding="utf-8").splitlines()]
    found = [split_steps(text) for text in texts]
    assert sum(len(steps) == 1 for steps in found) <= 0.03 * len(texts)
    for text, steps in zip(texts, found, strict=True):
        assert split_steps(join_steps(steps)) == steps
        for left, right in (("\\[", "\\]"), ("\\begin{", "\\end{")):
            if text.count(left) == text.count(right):
                assert all(step.count(left) == step.count(right) for step in steps)
        for fence in ("```", "$$"):
            if text.count(fence) % 2 == 0:
                assert all(step.count(fence) % 2 == 0 for step in steps)


@pytest.mark.parametrize(
    "text",
    [
        "Step 7: so\n" * 20_000,
        "\n" * 300_000,
        "1. a\n" * 50_000,
        "\\[\n\n" * 50_000,
        "```\n" * 50_000,
        "| a\n" * 50_000,
        "$$\n\n" * 50_001,
    ],
    ids=range(7),
)
def test_no_text_is_split_for_long(text: str) -> None:
    """Each of these takes a quadratic splitter minutes; the limit here is that of the whole test run."""
    assert "".join("".join(split_steps(text + "end")).split()) == "".join((text + "end").split())


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        (
            "<think>\nHm.\n\nStep 1: no\n\nStep 2: no\n</think>\n\nStep 1: a\n\nStep 2: b",
            ("Step 1: a", "Step 2: b"),
        ),
        ("<think>\nI only think, at length.\n\nAnd stop here.\n</think>", None),
        ("Step 1 of 2: a\n\nx = 2.\n\nStep 2 of 2: b", ("Step 1 of 2: a\n\nx = 2.", "Step 2 of 2: b")),
        ("[Step 1] a\n\nx = 2.\n\n[Step 2] b", ("[Step 1] a\n\nx = 2.", "[Step 2] b")),
        ("Step #1: a\n\nx = 2.\n\nStep #2: b", ("Step #1: a\n\nx = 2.", "Step #2: b")),
        ("Step (1): a\n\nx = 2.\n\nStep (2): b", ("Step (1): a\n\nx = 2.", "Step (2): b")),
        ("🔹 Step 1: a\n\nx = 2.\n\n🔹 Step 2: b", ("🔹 Step 1: a\n\nx = 2.", "🔹 Step 2: b")),
        ("步骤 1：a\n\nx = 2.\n\n**步骤 2：** b", ("步骤 1：a\n\nx = 2.", "**步骤 2：** b")),
        ("第一步：a\n\nx = 2.\n\n第二步，b", ("第一步：a\n\nx = 2.", "第二步，b")),
        ("(1) Divide: x=2.\n(2) Check: 2*2=4.", ("(1) Divide: x=2.", "(2) Check: 2*2=4.")),
        ("(a) x is 2.\n\nAs we saw.\n\n(b) y is 3.", ("(a) x is 2.\n\nAs we saw.", "(b) y is 3.")),
        (
            "1. **Eggs**:\n   1. She eats 3.\n   2. She bakes 4.\n2. **Sell**:\n   1. 16-7=9.\n   2. 9*2=18.",
            (
                "1. **Eggs**:\n   1. She eats 3.\n   2. She bakes 4.",
                "2. **Sell**:\n   1. 16-7=9.\n   2. 9*2=18.",
            ),
        ),
    ],
)
def test_more_styles_of_steps(text: str, steps: tuple[str, ...] | None) -> None:
    found = split_steps(text)
    if steps is None:  # nothing but thoughts: they are the text
        assert "\n\n".join(found) == text
    else:
        assert found == steps
        assert split_steps(join_steps(steps)) == steps


@pytest.mark.parametrize(
    ("step", "number"),
    [
        ("第十步：a", 10),
        ("第十二步：a", 12),
        ("第二十一步：a", 21),
        ("第 3 步：a", 3),
        ("[Step 4] a", 4),
        ("Step (5): a", 5),
    ],
)
def test_the_number_of_a_marker(step: str, number: int) -> None:
    assert step_number(step) == number


@pytest.mark.parametrize(
    "numbers", [(1, 2, 2, 3), (1, 3, 2), (1, 2, 4, 3, 5), (2, 3, 3), (1, 2, 2, 1, 2)], ids=str
)
def test_a_slip_in_the_numbers_merges_no_steps(numbers: tuple[int, ...]) -> None:
    steps = tuple(f"Step {number}: a b." for number in numbers)
    assert split_steps("\n\n".join(steps)) == steps
