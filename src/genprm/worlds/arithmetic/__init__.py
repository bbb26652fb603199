"""The built-in arithmetic world: problems whose every step has a computable truth, a tutor, tiny models.

It is what `genprm quickstart` runs in. Problems come from a seeded generator (`generate_problems`), the
truth from reading the text (`judge_solution`, `first_error`), the teacher is a scripted tutor
(`make_tutor`), and policy and base are tiny transformers that ship with the package.
"""

from __future__ import annotations

from genprm.worlds.arithmetic.problems import generate_problems
from genprm.worlds.arithmetic.tiny import base_checkpoint, policy_checkpoint
from genprm.worlds.arithmetic.truth import StepKind, StepTruth, first_error, judge_solution
from genprm.worlds.arithmetic.tutor import make_tutor
from genprm.worlds.arithmetic.writer import reference_solution

__all__ = [
    "StepKind",
    "StepTruth",
    "base_checkpoint",
    "first_error",
    "generate_problems",
    "judge_solution",
    "make_tutor",
    "policy_checkpoint",
    "reference_solution",
]
