"""GenPRM at inference: the verifier, its votes and its scores (method, parts 5 and 6)."""

from genprm.records import VerifyItem
from genprm.verify.faults import raise_if_all_failed
from genprm.verify.scores import score_solution
from genprm.verify.verifier import Verifier
from genprm.verify.voting import first_error, first_error_of_path, tally

__all__ = [
    "Verifier",
    "VerifyItem",
    "first_error",
    "first_error_of_path",
    "raise_if_all_failed",
    "score_solution",
    "tally",
]
