"""The final answer is the one that the text states last, and nothing is made up."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genprm.domains.math import canonical, extract_answer

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"so \boxed{5}.", "5"),
        (r"first \boxed{4}, no: \boxed{5}", "5"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{\left\{ x \right.}", r"\left\{ x \right."),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed 7", "7"),
        (r"\fbox{ 8 }", "8"),
        (r"\boxed{3} and then \boxed{12", "3"),
        (r"\boxed{}", None),
        ("a\n#### 1,234", "1,234"),
        ("#### 3\nmore\n#### 4", "4"),
        ("The answer is 12.", "12"),
        ("The answer is: $3.50. Thanks", "$3.50"),
        ("Final Answer: **42**", "42"),
        ("The answer is 5, because 2 + 3 = 5.", "5"),
        ("So the answer is 1, 2 since both fit", "1, 2"),
        ("the answer is $\\frac{1}{2}$, and we are done.", r"\frac{1}{2}"),
        ("**Answer:** 42", "42"),
        ("Final Answer: The final answer is $2F_{84}$. I hope it is correct.", "2F_{84}"),
        ("Answer:\n\n42\n\nDone", "42"),
        ("The answer is", None),
        ("the answer is $\\frac{3}{4}$.", r"\frac{3}{4}"),
        ("She has 5.\nA: 26", "26"),
        ("She has 5 apples and 6 pears.", None),
        ("", None),
    ],
)
def test_states(text: str, answer: str | None) -> None:
    assert extract_answer(text) == answer


balanced = st.recursive(
    st.text(alphabet="ab1+, ", min_size=1).filter(str.strip),
    lambda inner: st.builds(lambda a, b: f"{a}{{{b}}}", inner, inner),
    max_leaves=5,
)


@given(before=st.text(alphabet="ab{}\n "), inside=balanced, after=st.text(alphabet="ab}\n "))
def test_boxed_is_found_whatever_surrounds_it(before: str, inside: str, after: str) -> None:
    assert extract_answer(f"{before}\\boxed{{{inside}}}{after}") == inside.strip()


@given(st.text())
def test_any_text_gives_an_answer_that_is_not_blank_or_none(text: str) -> None:
    answer = extract_answer(text)
    assert answer is None or answer.strip()


def test_real_policy_outputs() -> None:
    """GPT-3's solutions of GSM8K end with `A: n`; the file itself says which of them are right."""
    file = DATA / "policy_outputs" / "gsm8k_test_gpt3_solutions.jsonl"
    if not file.exists():
        pytest.skip("the shared data is not here")
    seen = agreed = 0
    for line in file.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        gold = extract_answer(row["ground_truth"])
        assert gold is not None
        for name in ("6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification"):
            answer = extract_answer(row[name]["solution"])
            equal = answer is not None and canonical(answer) == canonical(gold)
            seen += 1
            agreed += equal == row[name]["is_correct"]
    assert seen == 4 * 1319
    assert agreed >= 0.999 * seen
