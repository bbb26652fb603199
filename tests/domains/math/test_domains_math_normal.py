"""Typography changes no value: equal plain numbers are equal in every notation, different ones never are."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genprm.domains.base import Graded
from genprm.domains.math import compare_plain, tidy
from genprm.domains.math.equality import Members, comparison
from genprm.domains.math.normal import as_number

SAME = [
    (
        "1000",
        "1,000",
        "1{,}000",
        r"1\,000",
        "1 000",
        "$1000",
        r"\$1,000.00",
        "1000.0",
        "2000/2",
        "x = 1000",
        "+1000",
        "1e3",
        "(1,000)",
        r"1 \times 10^{3}",
        "1*10^3",
        "10.0E+02",
    ),
    (
        "18",
        "18 apples",
        "18 dollars",
        r"18\text{ apples}",
        "$18$",
        "**18**",
        "18.",
        " 18\n",
        r"18 \text{ cm}",
        "18%",
        "18th",
        r"18^{\text{th}}",
        "eighteen",
        "18 km/h",
        r"18 \mbox{ inches}^2",
        "18 cm^2",
        r"\18",
    ),
    (
        "1/2",
        "0.5",
        ".5",
        r"\frac12",
        r"\dfrac{1}{2}",
        r"\(\frac{1}{2}\)",
        "2/4",
        r"50/100",
        "½",
        "one half",
        "50%",
    ),
    ("-3", "−3", "-3.0", r"-\frac{6}{2}", r"\frac{-6}{2}"),
    (
        "5/2",
        "2.5",
        "2 1/2",
        r"2\frac{1}{2}",
        r"2 \tfrac{1}{2}",
        r"2\frac{1}{2} inches",
        r"\frac{5}{2} \text{ cm}",
        "2½",
        "5 halves",
    ),
    ("5/7", "5 sevenths", "five sevenths", r"\frac5{7}"),
    ("90", r"90^\circ", r"90^{\circ}", "90°"),
    ("yes", "Yes", r"\text{Yes}"),
    ("(1,2)", "(1, 2)", r"\left(1,2\right)"),
    ("0", "-0", "0.00", "0/7"),
    ("0.00001", "1e-05", "1/100000"),
    ("21", "twenty-one", "21st"),
    ("413_5", "413_{5}", "413"),
]


def settled(pred: str, gold: str) -> bool | None:
    """The verdict that needs no algebra, of members too."""
    found = comparison(pred, gold, 2000)
    if isinstance(found, Graded):
        return found.equal
    assert isinstance(found, Members)
    return all(settled(*pair) for pair in zip(found.preds, found.golds, strict=True))


@pytest.mark.parametrize("group", SAME)
def test_one_value(group: tuple[str, ...]) -> None:
    for answer in group:
        assert settled(answer, group[0]) is True, answer
        assert settled(group[0], answer) is True, answer


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("12,34", "1234"),
        ("1,2", "12"),
        ("3 million", "3"),
        ("5 and 6", "5"),
        ("3 tenths", "3"),
        ("0.333", "1/3"),
        ("1331 and 1728", "1728"),
        ("(3,500)", "3500"),
        ("(3,5)", "[3,5]"),
        ("[3,5)", "[3,5]"),
        ("1, 2, 3", "1, 2"),
        (r"(0,9) \cup (9,36)", "(0,36)"),
        (r"\{1, 2\}", "(1, 2)"),
        ("413_5", "413_7"),
        ("1e-7", "2e-7"),
        ("0.0000001", "0"),
        ("Monday", "Tuesday"),
        ("-3 cats and dogs", "3 cats and dogs"),
        ("1.5 cats and dogs", "15 cats and dogs"),
    ],
)
def test_different_values(left: str, right: str) -> None:
    assert settled(left, right) is False
    assert settled(right, left) is False


@pytest.mark.parametrize(
    ("phrase", "value"),
    [
        ("that the combined weight of 3 items equals the weight of one", "3"),
        (r"\text{No such integers}", "1, -2"),
    ],
)
def test_a_phrase_is_no_value_and_as_a_reference_leaves_others_unknown(phrase: str, value: str) -> None:
    assert settled(phrase, value) is False
    assert settled(value, phrase) is None


@pytest.mark.parametrize(
    ("left", "right"),
    [("2 root 3", "2"), ("2 pi", "2"), ("3x", "3"), ("5 x", "5"), ("1/0", "0"), ("2^3", "23")],
)
def test_an_expression_is_no_plain_number(left: str, right: str) -> None:
    assert compare_plain(tidy(left), tidy(right)) is None


@given(st.fractions(max_denominator=10**6))
def test_every_rational_survives_its_notations(value: Fraction) -> None:
    top, bottom = value.numerator, value.denominator
    forms = [str(value), f"\\frac{{{top}}}{{{bottom}}}", f"${value}$", f"{2 * top}/{2 * bottom}"]
    if bottom == 1:
        forms += [f"{top:,}", f"{top}.0", f"{top} apples", f"${top:,}"]
    assert {as_number(tidy(form)) for form in forms} == {value}


@given(st.decimals(allow_nan=False, allow_infinity=False, places=4, min_value=-(10**9), max_value=10**9))
def test_decimals_are_exact(value: object) -> None:
    assert as_number(tidy(str(value))) == Fraction(str(value))


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_as_json_writers_spell_them(value: float) -> None:
    assert as_number(tidy(repr(value))) == Fraction(repr(value))


ANSWERS = st.text() | st.text(alphabet="0123456789,./-$% =x{}()[]\\fractextcup pm∞√½² aples")


@given(left=ANSWERS, right=ANSWERS)
def test_any_texts_can_be_compared_and_are_equal_to_themselves(left: str, right: str) -> None:
    comparison(left, right, 2000)
    same = comparison(left, left, 2000)
    assert not left.strip() or same == Graded(True) or not tidy(left)


@pytest.mark.parametrize(
    ("left", "right", "equal"),
    [
        ("18", "18.0", True),
        ("18", "19", False),
        ("1/3", "0.333333", True),
        ("1/3", "0.33", False),
        ("1/3", "2/6", True),
        ("1/3", "333333/1000000", False),
        ("0.0000012", "0.0000013", False),
        ("123456.7", "123456.75", False),
        ("x", "x", True),
        ("x", "y", None),
        ("", "", None),
        ("50%", "50", True),
        ("50%", "0.5", True),
        ("50%", "5", False),
        ("50%", "50 %", True),
    ],
)
def test_plain_comparison(left: str, right: str, equal: bool | None) -> None:
    assert compare_plain(left, right) is equal
    assert compare_plain(right, left) is equal
