"""The quickstart's config: a whole run in the arithmetic world, and the evaluation of what it trained."""

from __future__ import annotations

from pydantic import Field

from genprm.config.models import Components, Section
from genprm.config.run import RunConfig


class EvaluationConfig(Section):
    """How much is evaluated, on problems from the world's evaluation side.

    Attributes:
        seed: of the evaluation problems; apart from the run's seed, so that another training run is
            evaluated on the same problems.
        votes: verification paths of the localisation, with all components.
        reduced_votes: the same of the forms without execution, at most `votes`. The direct form writes nothing, so that
            each of its paths would be the same.
        localisation_solutions: solutions whose first error is to be found, one per problem.
        best_of_n_problems: problems with a pool of 16 solutions each.
        best_of_n_votes: verification paths for each pool solution.
        refinement_problems: problems whose first sample is refined.
        refinement_votes: verification paths of the critic.
    """

    seed: int = 2
    votes: int = Field(default=8, gt=0)
    reduced_votes: int = Field(default=2, gt=0)
    localisation_solutions: int = Field(default=400, gt=0)
    best_of_n_problems: int = Field(default=50, gt=0)
    best_of_n_votes: int = Field(default=1, gt=0)
    refinement_problems: int = Field(default=120, gt=0)
    refinement_votes: int = Field(default=2, gt=0)
    examples: int = Field(default=6, gt=0, description="verified solutions to show in report.html")

    def votes_of(self, mode: Components) -> int:
        """How many paths a form of the verifier is asked for."""
        if mode == "direct":
            return 1
        return self.votes if mode == "cot+code+execution" else min(self.votes, self.reduced_votes)


class QuickstartConfig(RunConfig):
    """A run and its evaluation."""

    evaluation: EvaluationConfig = EvaluationConfig()
