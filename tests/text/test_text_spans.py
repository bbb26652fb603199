"""Spans: every step of a split text is where its span says, whatever the line breaks."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genprm.text.spans import step_spans
from genprm.text.steps import split_steps

PIECES = st.sampled_from(
    [
        "Step 1: a",
        "Step 2: b",
        "\n",
        "\r\n",
        "\r",
        "\n\n",
        " ",
        "1. x",
        "```",
        "$$",
        "é",
        "\N{THINKING FACE}",
        "a",
    ]
)


@given(st.lists(PIECES, max_size=40).map("".join))
def test_a_span_covers_its_step_in_the_given_text(text: str) -> None:
    steps = split_steps(text)
    spans = step_spans(text, steps)
    found = [text[start:end].replace("\r\n", "\n").replace("\r", "\n") for start, end in spans]
    assert found == list(steps)
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(spans))


def test_equal_steps_have_places_of_their_own() -> None:
    assert step_spans("a\n\na", ("a", "a")) == ((0, 1), (3, 4))


@pytest.mark.parametrize("line_break", ["\n", "\r\n"])
def test_steps_that_a_thought_drafted_are_found_behind_it(line_break: str) -> None:
    answer = "First, x = 2 + 2 = 4 apples.\n\nSo the answer is 4."
    text = f"<think>\n{answer}\n</think>\n\n{answer}".replace("\n", line_break)
    steps = split_steps(text)
    spans = step_spans(text, steps)
    assert [text[start:end] for start, end in spans] == list(steps)
    assert spans[0][0] > text.index("</think>")


def test_steps_of_another_text_are_refused() -> None:
    with pytest.raises(ValueError, match="not found"):
        step_spans("a", ("b",))
