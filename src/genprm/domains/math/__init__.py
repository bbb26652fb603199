"""Final answers: find them in a text, decide whether two are equal.

`extract_answer` reads the final answer out of a solution. `Grader` decides equality with a reference answer; it runs
math-verify in worker processes that can be killed, because symbolic algebra has inputs on which it
never comes back.
"""

from __future__ import annotations

from genprm.domains.base import Graded
from genprm.domains.math.domain import MathDomain
from genprm.domains.math.extract import extract, extract_answer
from genprm.domains.math.grader import Grader
from genprm.domains.math.normal import compare_plain, tidy

__all__ = [
    "Graded",
    "Grader",
    "MathDomain",
    "compare_plain",
    "extract",
    "extract_answer",
    "tidy",
]
