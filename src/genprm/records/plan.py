"""What a run is predicted to cost, as `plan.json` in its directory."""

from __future__ import annotations

from pydantic import Field

from genprm.records.base import Part, Record


class StagePrediction(Part):
    """What a stage is predicted to make and to cost over all problems, those of the pilot included.

    Attributes:
        recipe: what decided the stage's rows in the pilot; of another recipe nothing is predicted.
        rows: rows passed on.
        requests: engine calls.
        prompt_tokens, completion_tokens: tokens read and written.
        uncounted: requests of the pilot whose tokens the engine did not count; the run has at least so many tokens.
        tokens_low, tokens_high: 95 % interval of `completion_tokens`, from how much the pilot's problems differ; None
            for a pilot of one problem.
        engine_seconds: time spent waiting for the engine, summed over requests.
        seconds: wall time at the pilot's pace; a pilot that does not fill the engine overestimates it.
    """

    stage: str
    recipe: str
    rows: int = Field(ge=0)
    requests: int = Field(ge=0)
    prompt_tokens: int = Field(ge=0)
    completion_tokens: int = Field(ge=0)
    uncounted: int = Field(default=0, ge=0)
    tokens_low: int | None = Field(default=None, ge=0)
    tokens_high: int | None = Field(default=None, ge=0)
    engine_seconds: float = Field(ge=0)
    seconds: float = Field(ge=0)


class RunPrediction(Record):
    """What a run is predicted to cost, from a pilot.

    Attributes:
        problems: of the whole run, those that are left out not counted.
        pilot: of the pilot.
    """

    problems: int = Field(ge=0)
    pilot: int = Field(ge=1)
    stages: tuple[StagePrediction, ...]
