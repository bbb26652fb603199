"""What a text that somebody else wrote may not do to splitting: take for ever, or end in an error of Python's own."""

from __future__ import annotations

import subprocess
import sys

import pytest

from genprm.text.steps import split_steps, step_number

# Each makes a text of about a million characters. Time that grew with the square of that would be minutes or hours.
TEXTS = {
    "fragments": "'a\\n\\n' * 300_000",
    "fences": "'```\\n' * 250_000",
    "openers": "''.join(f'\\\\begin{{{chr(97 + n % 26)}{chr(97 + n // 26 % 26)}{chr(97 + n // 676 % 26)}"
    "{chr(97 + n // 17576)}}}' for n in range(80_000))",
    "plans": "'1. a\\n2. b\\n' * 100_000",
    "one long line": "'x' * 500_000 + '\\nwhere b' * 60_000",
    "white lines": "'so:\\n \\n' * 150_000",
    "spaces": "'a' + ' ' * 1_000_000 + 'b'",
}


@pytest.mark.parametrize("name", TEXTS)
def test_no_text_takes_long_to_split(name: str) -> None:
    code = f"""
from genprm.text.steps import split_steps
text = {TEXTS[name]}
steps = split_steps(text)
assert "".join("".join(steps).split()) == "".join(text.split())
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_number_of_any_length_is_no_error() -> None:
    number = "1" * 5000
    text = f"Step {number}: a\n\n## Step {number}\n\n**Step {number}:** b"
    assert "".join("".join(split_steps(text)).split()) == "".join(text.split())
    assert step_number(text) is None and step_number("Step 123456789: a") == 123456789


# Of 40,000 to 150,000 characters each; they took from one second to hours.
OUTPUTS = {
    "openings": "'```python\\n' * 4_000",
    "openings with code": "'```python\\nx\\n' * 10_000",
    "openings of two kinds": "'```py\\nx\\n~~~py\\nx\\n' * 2_500",
    "openings in sections": "'```python\\nx\\n</output>\\n' * 6_000",
    "marks": "'`' * 40_000 + '\\n' + '~' * 40_000",
    "blanks": "'The answer is 5.' + ' ' * 40_000 + 'x'",
}


@pytest.mark.parametrize("name", OUTPUTS)
def test_no_output_of_a_model_takes_long_to_read(name: str) -> None:
    code = f"""
import time
from genprm.domains.math.extract import extract
from genprm.text.transcript import find_code, parse_review, parse_turn
text = {OUTPUTS[name]}
start = time.process_time()
find_code(text), parse_review(text, 3), parse_turn("<verify>" + text), extract(text)
assert time.process_time() - start < 1, time.process_time() - start
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
