"""From Monte-Carlo counts to step labels: the rules, Beta posteriors, and when a label is decided (method, part 2)."""

from __future__ import annotations

from genprm.labels.outlook import Outlook, outlook
from genprm.labels.posterior import chance_below
from genprm.labels.rules import AFTER_ERROR, TEACHER, UNDECIDED, label_solution, label_step
from genprm.labels.search import Bracket, locate

__all__ = [
    "AFTER_ERROR",
    "TEACHER",
    "UNDECIDED",
    "Bracket",
    "Outlook",
    "chance_below",
    "label_solution",
    "label_step",
    "locate",
    "outlook",
]
