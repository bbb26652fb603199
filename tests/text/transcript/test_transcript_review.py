"""A teacher's sections are matched to paragraphs by the number that they name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genprm.text.transcript import parse_review


def section(heading: str, word: str = "Yes", analysis: str = "a") -> str:
    return (
        f"{heading}<analyze>\n{analysis}\n</analyze>\n<verify>\n```python\nprint('### Paragraph 9')\n```\n"
        "[Code Output]\n\n```\n### Paragraph 9\n```\n</verify>\n"
        f"<output>\n**Judgement**: $\\boxed{{{word}}}$\n</output>\n"
    )


def index(number: int) -> str:
    return f"The first wrong paragraph is \\boxed{{{number}}}."


@pytest.mark.parametrize(
    "heading",
    [
        "### Paragraph {}\n",
        "## Paragraph {}: the sum\n",
        "**Paragraph {}**\n",
        "Paragraph {}:\n",
        "paragraph {}\n",
        "<paragraph_{}>\n",
        "> ### Paragraph {}\n",
        "### Paragraph #{}\n",
        "[Paragraph {}]\n",
        "Now to the next one.\n\n### Paragraph {}\n",
        "It rests on paragraph 1.\n### Paragraph {}\n",
    ],
)
def test_headings_of_every_kind_name_their_paragraph(heading: str) -> None:
    text = section(heading.format(1)) + section(heading.format(2), "No") + index(2)
    review = parse_review(text, 3)
    assert (review.first_error, review.reason) == (1, None)
    assert [step.judgement for step in review.steps] == [True, False]
    assert all(step.text.startswith("<analyze>") for step in review.steps)


def test_the_lead_of_an_analysis_names_its_paragraph_too() -> None:
    lead = "Let's analyze the Paragraph {} step by step: it is right."
    text = section("", analysis=lead.format(1)) + section("", "No", analysis=lead.format(2)) + index(2)
    assert parse_review(text, 2).first_error == 1
    prose = section("", analysis="It uses paragraph 1.") + index(-1)
    assert parse_review(prose, 1).reason == "a section names no paragraph"


@pytest.mark.parametrize(
    ("headings", "reason"),
    [
        (["1", "1", "2"], "paragraph 1 repeated"),
        (["1", "2", "2"], "paragraph 2 repeated"),
        (["1", "3"], "paragraph 2 missing"),
        (["2", "3"], "paragraph 1 missing"),
        (["1", "2"], "paragraph 3 missing"),
        (["1 and 2", "3"], "paragraphs 1, 2 merged"),
        (["1-2", "3"], "paragraphs 1, 2 merged"),
        (["1, 2", "3"], "paragraphs 1, 2 merged"),
        (["1", "2 & 3"], "paragraphs 2, 3 merged"),
        (["1", "2–3"], "paragraphs 2, 3 merged"),
        (["1", "2 to 3"], "paragraphs 2, 3 merged"),
        (["1", "2 and paragraph 3"], "paragraphs 2, 3 merged"),
        (["0", "1", "2"], "paragraph 0 is not in the solution"),
        (["1", "2", "3", "4"], "paragraph 4 is not in the solution"),
    ],
)
def test_repeated_merged_missing_and_foreign_numbers_have_their_reason(
    headings: list[str], reason: str
) -> None:
    text = "".join(section(f"### Paragraph {numbers}\n") for numbers in headings) + index(-1)
    review = parse_review(text, 3)
    assert (review.first_error, review.reason) == (None, reason)


@given(st.permutations([1, 2, 3, 4]), st.integers(1, 4))
def test_the_order_of_sections_is_not_what_matches_them(order: list[int], wrong: int) -> None:
    words = {number: "No" if number == wrong else "Yes" for number in order}
    text = "".join(section(f"### Paragraph {number}\n", words[number]) for number in order) + index(wrong)
    review = parse_review(text, 4)
    assert (review.first_error, review.reason) == (wrong - 1, None)
    assert [step.judgement for step in review.steps] == [True] * (wrong - 1) + [False]


def test_what_a_model_thinks_before_is_not_its_review() -> None:
    quoted = "Format: ### Paragraph 1 <output>\\boxed{No}</output> and " + index(1)
    text = f"<think>{quoted}</think>\n" + section("### Paragraph 1\n") + index(-1)
    for thinking in ("none", "strip"):
        review = parse_review(text, 1, thinking=thinking)  # type: ignore[arg-type]
        assert (review.first_error, len(review.steps)) == (-1, 1)


def test_thinking_that_is_the_review_ends_with_the_thinking() -> None:
    thought = (
        "<think>\n"
        + section("### Paragraph 1\n")
        + section("### Paragraph 2\n", "No")
        + "Done.\n</think>\n"
    )
    answer = section("### Paragraph 1\n", "No") + index(2)
    review = parse_review(thought + answer, 2, thinking="review")
    assert (review.first_error, len(review.steps)) == (1, 2)
    assert parse_review(thought + answer, 2).first_error is None
