"""Policy test-time scaling: Best-of-N and refinement (method, part 6)."""

from genprm.search.best_of_n import (
    BestOfN,
    Candidate,
    expected_accuracies,
    majority_vote,
    select,
    weighted_vote,
)
from genprm.search.refinement import first_critique, refine_with_critic, self_refine

__all__ = [
    "BestOfN",
    "Candidate",
    "expected_accuracies",
    "first_critique",
    "majority_vote",
    "refine_with_critic",
    "select",
    "self_refine",
    "weighted_vote",
]
