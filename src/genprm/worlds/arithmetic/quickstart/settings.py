"""The quickstart's config: a whole run in the arithmetic world, and the evaluation of what it trained."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from genprm.config import Components, RunConfig, Section

LOCALISATION_MODES: tuple[Components, ...] = ("direct", "cot", "cot+code", "cot+code+execution")
POOL_SIZES = (1, 2, 4, 8, 16)


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
    reduced_votes: int = Field(default=4, gt=0)
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


def quickstart_defaults() -> dict[str, Any]:
    """What the quickstart sets apart from the defaults of `RunConfig`."""
    policy = {
        "kind": "replicated",
        "options": {"model": "builtin:policy", "device": "cpu", "batch_size": 128, "deterministic": True},
    }
    sampling = {"temperature": 0.5, "top_p": 0.95}
    verify = {
        "profile": "compact",
        "max_tokens": 160,
        "max_rounds": 2,
        "logprobs": 5,
        "sampling": {"temperature": 0.6, "top_p": 0.95, "top_k": 20},
    }
    return {
        "seed": 1,
        "concurrency": 1024,
        "problems": {"source": "arithmetic", "split": "train", "limit": 200},
        "roles": {"policy": policy, "teacher": {"kind": "tutor", "options": {"seed": 1}}},
        "sandbox": {"tier": "plain", "soft_seconds": 2.0, "hard_seconds": 3.0},
        "solutions": {
            "per_class": 2,
            "batch": 8,
            "max_samples": 16,
            "max_tokens": 200,
            # Warmer than the completer: at 0.5 most samples repeat an earlier one and are drawn again.
            "sampling": {"temperature": 0.6, "top_p": 0.95},
        },
        "montecarlo": {
            "estimator": "sequential",
            "k_start": 16,
            "k_hard": 16,
            "k_medium": 16,
            "k_easy": 16,
            "max_tokens": 200,
            "sampling": sampling,
        },
        "label": {"method": "posterior"},
        "rationales": {"profile": "tutor"},
        "chats": {"component_shares": {"cot+code+execution": 0.7, "cot+code": 0.1, "cot": 0.2}},
        "train": {
            "model": "builtin:base",
            "learning_rate": 5e-4,
            "batch_size": 2,
            "epochs": 1000,
            "max_tokens": 350_000,
            "max_length": 1024,
            "precision": "float32",
        },
        "verify": verify,
        "refine": {"max_tokens": 200, "sampling": sampling},
        "store": {"shard_size": 25, "shards_in_flight": 8},
    }
