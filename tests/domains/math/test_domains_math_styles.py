"""Answers as models of many styles write them: what is found must grade equal to what the text states."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from genprm.domains.base import Extracted
from genprm.domains.math import Grader, compare_plain, extract, extract_answer, tidy

DATA = Path(__file__).resolve().parents[4] / "shared" / "data"

STATED: dict[str, list[tuple[str, str]]] = {
    "headings": [
        ("#### Step 1\n\n4 + 20 = 24\n\n#### Step 2\n\nTherefore she has 24 apples.", "24"),
        ("#### Conclusion\n\nTherefore she has 24 apples.", "24"),
        ("#### Final Answer\n\n24 apples", "24"),
        ("#### Answer: 24", "24"),
        ("#### The answer is 24", "24"),
        ("#### Total = 24", "24"),
        ("#### 24\n\n#### Explanation\n\nIt is 4 * 6.", "24"),
        ("### Conclusion\nThe total number of apples is **24 apples**.", "24"),
        ("✅ Final Answer:\n\n$$\n24\n$$", "24"),
    ],
    "thoughts and tags": [
        ("<think>\nmaybe \\boxed{7}\n</think>\n\nThe answer is 24.", "24"),
        ("<think>the answer is 7</think>\n\n**24**", "24"),
        ("<|channel|>analysis<|message|>It is \\boxed{7}<|channel|>final<|message|>It is 24.", "24"),
        ("<answer> 24 </answer>", "24"),
        ("I first got \\boxed{7}. <answer>The answer is 24.</answer>", "24"),
        ("The answer is 24.<|im_end|>\n", "24"),
        ("The answer is 24</s><|endoftext|>", "24"),
        ("Step 1: It is 4 * 6. ки\nStep 2: The answer is: 24 ки", "24"),
    ],
    "boxes": [
        (r"\boxed\frac{1}{2}", "1/2"),
        (r"\boxed 24", "24"),
        ("\\boxed{24}, that is $\\boxed{...}$ filled in.", "24"),
        ("Put it into \\boxed{}. The answer is 24.", "24"),
        ("\x08oxed{24} in a string whose backslash was an escape.", "24"),
        ("So $a + b = \\boxed{7}$.\n\n# Answer\n\n24", "24"),
        ("It is \\boxed{7}. Wait: actually, the answer is 24.", "24"),
        ("It is \\boxed{24}. A wrong answer is 7.", "24"),
    ],
    "announcements": [
        ("**Final Answer:** The farmer has 24 sheep.", "24"),
        ("The answer is that she has 24 apples.", "24"),
        ("Ans: 24", "24"),
        ("Ans. 24", "24"),
        ("Answer 24", "24"),
        ("24 is the answer.", "24"),
        (r"\(\frac{27 \cdot 2}{8}\) is our answer.", r"\frac{27}{4}"),
        ("The answers are 3 and 5.", "3, 5"),
        ("The answer is approximately $3.14$.", "3.14"),
        ("The answer is therefore 24.", "24"),
        ("The answer is 24 (since 4 * 6 = 24).", "24"),
        ("The answer is 24 — which makes sense.", "24"),
        ("The answer is 2 1/2 cups.", "5/2"),
    ],
    "choices": [
        ("The answer is (C).", "C"),
        ("**Answer: (C) 24**", "C"),
        ("Thus the answer is C) 24", "C"),
        ("Therefore the correct answer is option D.", "D"),
        ("The correct option is (B) 12.", "(B)"),
        (r"\boxed{\textbf{(C)}\ 24}", "C"),
        ("\\boxed{C. 24}", "C"),
    ],
    "other languages": [
        ("因此，小明一共有 24 个苹果。", "24"),
        ("所以，答案是 24。", "24"),
        ("答案：$\\frac{3}{4}$。", "3/4"),
        ("综上所述，答案为：24元", "24"),
        ("因此，他一共需要支付 3 × 8 = 24 元。", "24"),
        ("故选：B。", "B"),
        ("答えは24です。", "24"),
        ("La respuesta es 24.", "24"),
        ("La réponse est 24.", "24"),
        ("Die Antwort lautet 24.", "24"),
        ("Ответ: 24", "24"),
    ],
    "sentences that end with their value": [
        ("The value of x is 24.", "24"),
        ("Therefore, the remainder when 1024 is divided by 7 is 2.", "2"),
        ("Therefore, the sum of the first 10 positive integers is 55.", "55"),
        ("Therefore, the value of $3x + 2$ when $x = 5$ is 17.", "17"),
        ("Thus, 20% of 50 is 10.", "10"),
        ("So the intersection point is (2, -3).", "(2,-3)"),
        ("Therefore, the interval is [2, 5).", "[2,5)"),
        ("Therefore, the set is {3, 5}.", r"\{3,5\}"),
        ("Therefore, x > 5.", "x > 5"),
        ("So the equation is y = 2x + 3.", "2x+3"),
        ("Therefore, the area is 25π square units.", r"25\pi"),
        ("Therefore, the ratio is 3:4.", "3:4"),
        ("**Total cost:** $24", "24"),
    ],
    "several equations": [
        ("Thus $a = 2$, $b = 3$, and $c = 5$.", "(2, 3, 5)"),
        ("So the solutions are $x = 3$ and $x = -5$.", "3, -5"),
        ("Thus, x = 24 or x = -3.", "24, -3"),
        ("Thus x = 24, -3.", "24, -3"),
        ("Therefore the solution is (x, y) = (3, 4).", "(3, 4)"),
        ("Thus $n = 6$, $m = 4$ and $m + n = 10$.", "10"),
        ("So x = 24 or x = -3, but x must be positive, so x = 24.", "24"),
        ("Solving, x = 24 (rejecting x = -3).", "24"),
        ("So\n\\begin{align*}\nx &= 4 \\times 6 \\\\\n&= 24.\n\\end{align*}", "24"),
        (
            "Therefore, the matrix is\n\\[\n\\begin{pmatrix} 1 & 2 \\\\ 3 & 4 \\end{pmatrix}\n\\]",
            r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}",
        ),
    ],
    "word problems": [
        ("Therefore, she has 24 apples.\n\nCheck: 24 / 6 = 4. ✓", "24"),
        ("So she has 24 apples.\n\n**Verification:** 24 - 4 = 20 and 20 + 4 = 24.", "24"),
        ("Janet makes **$18** every day at the market.", "18"),
        ("| pens | 4 |\n| **Total** | **24** |", "24"),
        ("Therefore, each of the 3 friends gets 4 cookies.", "4"),
        ("Therefore, of the 20 students, 12 passed.", "12"),
        ("14 + 11 = 25\nEach room has 25 seats because 14 chairs plus 11 stools equal 25 seats.", "25"),
        ("So he pays 36 / 10 = 3.6 tens, which rounds up to 4.", "4"),
        ("So the mean is 3.14159, which is rounded to 2 decimal places as $3.14$.", "3.14"),
        ("She earns 18 dollars a day, so that is 9 * 2 = 18 dollars (9 eggs are sold at $2 each).", "18"),
        ("He drives 75*10=<<75*10=750>>750 miles\nThat means he lifted a total of 352 kg", "352"),
        ("So he uses 750/50=<<750/50=15>>15 gallons", "15"),
        ("So the train leaves at 7:30.", "7:30"),
        ("Therefore, the train arrives at 3:45 PM.", "3:45 p.m."),
    ],
}


async def test_what_a_text_states_is_found() -> None:
    async with Grader(workers=1, seconds=20) as grader:
        for kind, texts in STATED.items():
            for text, gold in texts:
                found = extract(text)
                assert (await grader.equal(found.answer, gold)).equal is True, (kind, text, found)


@pytest.mark.parametrize(
    ("text", "answer", "how"),
    [
        ("<answer> 24 </answer>", "24", "tag"),
        ("\\boxed{7}\n\n# Answer\n\n24", "24", "phrase"),
        ("24 is the answer.", "24", "phrase"),
        ("Thus, the total is 4 * 6 = 24.", "24", "conclusion"),
        # One quantity in two units is neither of its numbers.
        ("Therefore, it takes 1 hour and 15 minutes.", "1 hour and 15 minutes", "conclusion"),
    ],
)
def test_the_way_is_named(text: str, answer: str, how: str) -> None:
    assert extract(text) == Extracted(answer, how)


@pytest.mark.parametrize(
    "text",
    [
        "<think>The answer is 7.</think>",
        "\\boxed{\\text{Your answer}}",
        "\\boxed{...}",
        "#### Step 2: Multiply",
        "There is no solution.",
        "So we do not know whether it is 5.",
        "What is the answer?",
        "Now we compute the values at x = 3:",
    ],
)
def test_nothing_is_made_up(text: str) -> None:
    assert extract(text) == Extracted(None)


def test_the_prose_of_reference_solutions() -> None:
    """GSM8K's solutions without their `#### n`: prose by people that mostly announces nothing and lacks full stops."""
    file = DATA / "gsm8k" / "train.jsonl"
    if not file.exists():
        pytest.skip("the shared data is not here")
    rows = [json.loads(line)["answer"] for line in file.read_text(encoding="utf-8").splitlines()[:2000]]
    seen = [(extract_answer(prose), gold) for prose, _, gold in (row.partition("####") for row in rows)]
    found = [(answer, gold) for answer, gold in seen if answer is not None]
    right = sum(bool(compare_plain(tidy(answer), tidy(gold))) for answer, gold in found)
    assert len(found) >= 0.85 * len(rows)
    assert right >= 0.99 * len(found)


def test_the_answer_heading_of_prm800k_overrules_boxes_before_it() -> None:
    file = DATA / "prm800k" / "openr_multi-step.json"
    if not file.exists():
        pytest.skip("the shared data is not here")
    texts = [row["process"] for row in json.loads(file.read_text(encoding="utf-8"))]
    headed = [(text, text.rpartition("\n# Answer\n\n")[2].removesuffix("ки").strip()) for text in texts]
    headed = [(text, last) for text, last in headed if last and "\n" not in last and len(last) < 40]
    assert len(headed) > 100
    for text, last in headed:
        assert compare_plain(tidy(extract_answer(text) or ""), tidy(last)), text


EQUAL: dict[str, list[tuple[str, ...]]] = {
    "currencies": [("5", "US$5", "5 USD", "5€", "€5", "¥5", "5元", "5円", "₹5", "A$5"), ("A", "$A$")],
    "per cent": [("50", "50 percent", "50 per cent", r"50\text{ percent}", "50%"), ("0.5", "50 percent")],
    "numbers in words": [
        ("100", "one hundred", "a hundred"),
        ("123", "one hundred and twenty-three", "one hundred twenty-three"),
        ("2005", "two thousand and five"),
        ("1200000", "1.2 million", "$1.2 million", "one million two hundred thousand"),
        ("24", "two dozen", "2 dozen eggs", "twenty-four apples"),
        ("3/2", "one and a half", "1 1/2 cups", "three halves"),
        ("35", "thirty five", "thirty-fifth"),
        ("-5", "minus 5", "negative five"),
        ("0.05", "5 hundredths"),
    ],
    "hedges and remarks": [
        (
            "18",
            "about 18",
            "approximately $18$",
            "≈18",
            "18 (dollars)",
            "18 (not 19)",
            "exactly 18",
            "18\\\\",
        ),
        ("18", "18 dollars a day", "$18/day", "18 sq. cm", "18L", "18°C", r"18^\circ\text{C}"),
    ],
    "macros": [("18", r"\boldsymbol{18}", r"\underline{18}", r"\textsf{18}", "{18}")],
    "full width": [
        ("1/2", "１／２"),
        ("-3.5", "－３．５"),
        ("(3,4)", "（３，４）"),
        ("1000", "１，０００"),
    ],
    "repeating decimals": [
        ("1/3", r"0.\overline{3}", r"0.\bar3"),
        ("1/6", r"0.1\overline{6}"),
        ("1", r"0.\overline{9}"),
    ],
    "times of day": [("3:45 PM", "3:45 p.m.", "03:45pm", r"3:45 \text{ PM}")],
    "empty sets": [(r"\emptyset", "∅", r"\varnothing", r"\{\}")],
    "choices": [
        ("C", "(C)", "(C) 24", "C) 24", "C. 24", "C: 24", "option C", "choice (C)", r"\textbf{(C)}\ 24")
    ],
    "roots and pi with units": [
        (r"\sqrt{5}", r"\sqrt{5} units"),
        (r"3\pi", "3π cm²", r"3\pi \text{ square units}"),
    ],
    "tuples of names": [("(3,4)", "(x, y) = (3, 4)", "x=3, y=4")],
    "braces": [(r"\{1,2\}", "{1, 2}", "{2,1}")],
    "inequalities": [
        (r"(-\infty,3)\cup(5,\infty)", "x<3 or x>5"),
        (r"(-\infty,3]\cup[5,\infty)", r"x\le3 or x\ge5"),
    ],
    "equations": [("y=2x+3", "2x-y+3=0", "y-3=2x"), ("5=x", "x=5")],
}
DIFFERENT = [
    ("3:45 PM", "3:45 AM"), ("12:05 PM", "12:50 PM"), ("5 million", "5"), ("5 to 7 days", "5"), ("5–7", "-2"),
    ("less than 20", "20"), ("at least 20", "20"), ("20 or more", "20"), ("not 20", "20"), ("about 20 or 30", "20"),
    (r"0.\overline{3}", "0.333"), ("2(x+1)", "2"), ("two less than twelve", "2"), ("1 hour and 15 minutes", "1"),
    ("3 ft 5 in", "3"), ("{1,2}", "(1,2)"), ("(D) 24", "C"), ("(C) + 1", "C"), ("A: 5, B: 6", "A"), ("A dog", "A"),
    ("A and C", "A"), ("x<3 or x>5", r"(-\infty,3]\cup(5,\infty)"), ("y=2x+3", "2x-y+4=0"), ("x=5", "y=5"),
    ("(x,y)=(3,4)", "(x,y)=(4,3)"), ("12/5/2024", "12"), ("5k", "5"), ("$A$", "B"), ("thirty-fifth", "6"),
]  # fmt: skip


async def test_spellings_of_one_answer_are_equal_in_both_directions() -> None:
    async with Grader(workers=1, seconds=20) as grader:
        for kind, rows in EQUAL.items():
            for first, other in [(row[0], other) for row in rows for other in row[1:]]:
                assert (await grader.equal(first, other)).equal is True, (kind, first, other)
                assert (await grader.equal(other, first)).equal is True, (kind, other, first)


async def test_what_looks_alike_is_different() -> None:
    async with Grader(workers=1, seconds=20) as grader:
        for pair in DIFFERENT:
            assert (await grader.equal(*pair)).equal is not True, pair


async def test_no_answer_is_compared_for_long() -> None:
    long = ("one " * 400, "one-" * 400, "½" * 1900, "1" * 1900, "a hundred and " * 100, "(a" * 900)
    async with Grader(workers=1, seconds=20) as grader:
        for text in long:
            assert (await grader.equal(text, "5")).equal is not True
