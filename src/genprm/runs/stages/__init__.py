"""The stages of the library: the method's data synthesis, and what evaluates policies and verifiers.

Each is a frozen dataclass that follows `genprm.runs.stage.Stage`: pure functions of the packages below, with the
options and roles that decide what they make.
"""

from genprm.runs.stages.evaluation import (
    BestOfNStage,
    GivenSolutionsStage,
    RefineStage,
    SampleStage,
    VerifyStage,
)
from genprm.runs.stages.problems import ProblemsStage
from genprm.runs.stages.synthesis import (
    ChatsStage,
    ConsensusStage,
    GivenLabelsStage,
    LabelsStage,
    MonteCarloStage,
    RationalesStage,
    SolutionsStage,
)

__all__ = [
    "BestOfNStage",
    "ChatsStage",
    "ConsensusStage",
    "GivenLabelsStage",
    "GivenSolutionsStage",
    "LabelsStage",
    "MonteCarloStage",
    "ProblemsStage",
    "RationalesStage",
    "RefineStage",
    "SampleStage",
    "SolutionsStage",
    "VerifyStage",
]
