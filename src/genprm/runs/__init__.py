"""Wires the stages together, through the store."""

from genprm.runs.identity import engine_identity, model_identity, resolve_model
from genprm.runs.pipeline import STAGES, Pipeline, Trained
from genprm.runs.plan import Assumptions, StagePlan, plan_run
from genprm.runs.resources import Resources, build_engine
from genprm.runs.runner import Progress, Silent, Stage, run_stage

__all__ = [
    "STAGES",
    "Assumptions",
    "Pipeline",
    "Progress",
    "Resources",
    "Silent",
    "Stage",
    "StagePlan",
    "Trained",
    "build_engine",
    "engine_identity",
    "model_identity",
    "plan_run",
    "resolve_model",
    "run_stage",
]
