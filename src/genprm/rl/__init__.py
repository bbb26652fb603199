"""Rewards inside of RL trainers: a scorer that never turns a failure into a number, credit rules, and steps as tokens.

Each trainer has a module of its own here (`genprm.rl.trl`, `genprm.rl.verl`, ...), which imports the trainer only when
the trainer uses it.
"""

from __future__ import annotations

from genprm.rl.credit import CreditRule, learnable, place, returns, step_credits
from genprm.rl.scorer import Scored, Scorer
from genprm.rl.tokens import step_ends, token_ends

__all__ = [
    "CreditRule",
    "Scored",
    "Scorer",
    "learnable",
    "place",
    "returns",
    "step_credits",
    "step_ends",
    "token_ends",
]
