"""Step rewards: GenPRM as verifier (method, parts 5 and 6), its votes and scores, and a scripted stand-in.

`StepReward` judges whole solutions, `IncrementalReward` also solutions that are still being written.
"""

from genprm.records import VerifyItem
from genprm.rewards.base import (
    IncrementalReward,
    Items,
    Line,
    OnStep,
    RewardFacts,
    StepReward,
    judge_all,
)
from genprm.rewards.faults import lost_entirely, raise_if_all_failed
from genprm.rewards.genprm.verifier import Verifier
from genprm.rewards.scores import score_solution
from genprm.rewards.scripted import ScriptedReward
from genprm.rewards.voting import first_error, first_error_of_path, tally

__all__ = [
    "IncrementalReward",
    "Items",
    "Line",
    "OnStep",
    "RewardFacts",
    "ScriptedReward",
    "StepReward",
    "Verifier",
    "VerifyItem",
    "first_error",
    "first_error_of_path",
    "judge_all",
    "lost_entirely",
    "raise_if_all_failed",
    "score_solution",
    "tally",
]
