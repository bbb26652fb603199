"""Training of a verifier beyond imitation: GRPO on its own rollouts, DPO on its own votes."""

from genprm.training.rl.dpo import DpoProgress, DpoReport, train_dpo
from genprm.training.rl.grpo import GrpoReport, train_grpo
from genprm.training.rl.grpo_trainer import StepFigures
from genprm.training.rl.pairs import Pairs, preference_pairs

__all__ = [
    "DpoProgress",
    "DpoReport",
    "GrpoReport",
    "Pairs",
    "StepFigures",
    "preference_pairs",
    "train_dpo",
    "train_grpo",
]
