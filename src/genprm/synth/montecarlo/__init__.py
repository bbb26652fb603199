"""Monte-Carlo step rewards (method, part 1; equations 8 and 9).

`estimators` completes single states and counts, `plans` decides which states are sampled and how often, `problem` brings
both together for the solutions of one problem, `stage` for many problems.
"""

from __future__ import annotations

from genprm.synth.montecarlo.estimators import CompletionEstimator, Estimate, Estimator
from genprm.synth.montecarlo.plans import choose_k
from genprm.synth.montecarlo.stage import estimate, estimate_with

__all__ = ["CompletionEstimator", "Estimate", "Estimator", "choose_k", "estimate", "estimate_with"]
