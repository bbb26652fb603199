"""Best-of-N accuracies with intervals."""

from __future__ import annotations

from collections.abc import Sequence

from genprm.evals.intervals import mean_share
from genprm.records import BestOfNSection
from genprm.search.best_of_n import METHODS, Candidate, expected_accuracies


def best_of_n_section(
    problems: Sequence[Sequence[Candidate]], sizes: Sequence[int] = (1, 2, 4, 8, 16), *, seed: int = 0
) -> BestOfNSection:
    """Accuracy of every selection rule at each N, as a mean over problems of exact expectations.

    Intervals are over problems. `seed` decides their resamples, and the draws of weighted voting when there are too
    many to look at all.
    """
    found = expected_accuracies(problems, sizes, seed=seed)
    shares = {
        size: {
            rule: mean_share(
                [row[rule] for row in rows],
                seed=seed,
                reason=f"no problem has {size} graded candidates",
            )
            for rule in METHODS
        }
        for size, rows in found.rows.items()
    }
    return BestOfNSection.of(
        found.problems, shares, found.evaluated, ungraded=found.ungraded, unscored=found.unscored
    )
