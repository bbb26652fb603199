"""GenPRM at inference: the verifier, its votes and its scores (method, parts 5 and 6)."""

from genprm.records import VerifyItem
from genprm.rewards.faults import raise_if_all_failed
from genprm.rewards.genprm.verifier import Verifier
from genprm.rewards.scores import score_solution
from genprm.rewards.voting import first_error, first_error_of_path, tally

__all__ = [
    "Verifier",
    "VerifyItem",
    "first_error",
    "first_error_of_path",
    "raise_if_all_failed",
    "score_solution",
    "tally",
]
