"""The typed records that stages exchange. Stages never import each other: they meet here and in `store`.

Conventions, everywhere in genprm:

- step indices are 0-based; a *first error* is the 0-based index of the first wrong step, `NO_ERROR`
  (-1) where every step is right, and `None` where it is unknown;
- unknown is `None` next to a reason, never 0, 0.5 or False;
- Monte-Carlo estimates store counts, not ratios.

Every record is immutable, carries `schema_version`, and rejects unknown fields, so that a file
written by another version fails loudly.
"""

from genprm.records.base import NO_ERROR, SCHEMA_VERSION, Part, Record, RowT, Usage
from genprm.records.data_card import DataCard, DataOrigin, SetContents, StageCounts
from genprm.records.labels import (
    KeptCompletion,
    LabelledSolution,
    SolutionLabels,
    SolutionScores,
    StepLabel,
    StepScore,
)
from genprm.records.plan import RunPrediction, StagePrediction
from genprm.records.rationales import (
    ChatMessage,
    CodeRound,
    CodeStatus,
    Consensus,
    Rationale,
    StepRationale,
    TrainingSample,
)
from genprm.records.refinement import Critique, RefinementTrace, RefinementTurn
from genprm.records.report import (
    BenchmarkModel,
    BenchmarkSection,
    BestOfNSection,
    ConsensusSection,
    CostSection,
    LabelMethod,
    LabelsSection,
    LocalisationFigures,
    LocalisationSection,
    Mode,
    Provenance,
    RefinementSection,
    Report,
    Sampling,
    SelectionRule,
    Share,
    TrainingSection,
)
from genprm.records.selection import Choice, Selection
from genprm.records.solutions import LEFT_OUT, Problem, Solution, problem_of
from genprm.records.stage import Dropped, Example, Lost, StageOutput
from genprm.records.verdicts import SolutionScore, StepVerdict, Verification, VerifyItem, Vote, VoteStatus

__all__ = [
    "LEFT_OUT",
    "NO_ERROR",
    "SCHEMA_VERSION",
    "BenchmarkModel",
    "BenchmarkSection",
    "BestOfNSection",
    "ChatMessage",
    "Choice",
    "CodeRound",
    "CodeStatus",
    "Consensus",
    "ConsensusSection",
    "CostSection",
    "Critique",
    "DataCard",
    "DataOrigin",
    "Dropped",
    "Example",
    "KeptCompletion",
    "LabelMethod",
    "LabelledSolution",
    "LabelsSection",
    "LocalisationFigures",
    "LocalisationSection",
    "Lost",
    "Mode",
    "Part",
    "Problem",
    "Provenance",
    "Rationale",
    "Record",
    "RefinementSection",
    "RefinementTrace",
    "RefinementTurn",
    "Report",
    "RowT",
    "RunPrediction",
    "Sampling",
    "Selection",
    "SelectionRule",
    "SetContents",
    "Share",
    "Solution",
    "SolutionLabels",
    "SolutionScore",
    "SolutionScores",
    "StageCounts",
    "StageOutput",
    "StagePrediction",
    "StepLabel",
    "StepRationale",
    "StepScore",
    "StepVerdict",
    "TrainingSample",
    "TrainingSection",
    "Usage",
    "Verification",
    "VerifyItem",
    "Vote",
    "VoteStatus",
    "problem_of",
]
