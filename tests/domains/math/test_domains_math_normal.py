"""Canonical forms: equal plain numbers share a class, different ones never do."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genprm.domains.math import canonical, compare_plain, tidy
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
    ),
    ("1/2", "0.5", ".5", r"\frac12", r"\dfrac{1}{2}", r"\(\frac{1}{2}\)", "2/4", r"50/100"),
    ("-3", "−3", "-3.0", r"-\frac{6}{2}", r"\frac{-6}{2}"),
    (
        "5/2",
        "2.5",
        "2 1/2",
        r"2\frac{1}{2}",
        r"2 \tfrac{1}{2}",
        r"2\frac{1}{2} inches",
        r"\frac{5}{2} \text{ cm}",
    ),
    ("90", r"90^\circ", r"90^{\circ}", "90°"),
    ("yes", "Yes", r"\text{Yes}"),
    ("(1,2)", "(1, 2)", r"\left(1,2\right)"),
    ("0", "-0", "0.00", "0/7"),
]


@pytest.mark.parametrize("group", SAME)
def test_one_class(group: tuple[str, ...]) -> None:
    assert {canonical(answer) for answer in group} == {group[0]}


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("12,34", "1234"),
        ("1,2", "12"),
        ("3 million", "3"),
        ("5 and 6", "5"),
        ("2 root 3", "2"),
        ("3 tenths", "3"),
        ("2 pi", "2"),
        ("3x", "3"),
        ("5 x", "5"),
        ("A", "a"),
        ("1/0", "0"),
        ("0.333", "1/3"),
        ("5:30", "5"),
        ("2^3", "23"),
        ("1 2", "12"),
        ("a b", "ab"),
    ],
)
def test_different_classes(left: str, right: str) -> None:
    assert canonical(left) != canonical(right)


@given(st.fractions(max_denominator=10**6))
def test_every_rational_survives_its_notations(value: Fraction) -> None:
    top, bottom = value.numerator, value.denominator
    forms = [str(value), f"\\frac{{{top}}}{{{bottom}}}", f"${value}$", f"{2 * top}/{2 * bottom}"]
    if bottom == 1:
        forms += [f"{top:,}", f"{top}.0", f"{top} apples", f"${top:,}"]
    assert {canonical(form) for form in forms} == {str(value)}


@given(st.decimals(allow_nan=False, allow_infinity=False, places=4, min_value=-(10**9), max_value=10**9))
def test_decimals_are_exact(value: object) -> None:
    assert as_number(tidy(str(value))) == Fraction(str(value))


@given(st.text() | st.text(alphabet="0123456789,./-$% =x{}\\fractext aples"))
def test_canonical_takes_any_text_and_settles(text: str) -> None:
    assert canonical(canonical(text)) == canonical(text)


@pytest.mark.parametrize(
    ("left", "right", "equal"),
    [
        ("18", "18.0", True),
        ("18", "19", False),
        ("1/3", "0.333333", None),
        ("1/3", "0.33", False),
        ("1/3", "2/6", True),
        ("1/3", "333333/1000000", False),
        ("x", "x", True),
        ("x", "y", None),
        ("", "", None),
        ("50%", "50", None),
    ],
)
def test_plain_comparison(left: str, right: str, equal: bool | None) -> None:
    assert compare_plain(left, right) is equal
