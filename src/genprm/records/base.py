"""What every record shares: immutability, a schema version, and what a cost is."""

from __future__ import annotations

from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict

SCHEMA_VERSION: Literal[1] = 1
NO_ERROR = -1

RowT = TypeVar("RowT", bound=BaseModel)


class Record(BaseModel):
    """Base of all records."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = SCHEMA_VERSION


class Part(BaseModel):
    """A value inside a record; versioned by the record that holds it."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Usage(Part):
    """What something cost. Sums with `+`.

    Attributes:
        requests: engine calls.
        prompt_tokens: tokens sent, cached ones included.
        cached_tokens: those of them that the engine had in its prefix cache.
        completion_tokens: tokens generated.
        engine_seconds: time spent waiting for the engine, summed over requests (not wall time).
        code_seconds: time spent executing code, summed over executions (not wall time).
    """

    requests: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    engine_seconds: float = 0.0
    code_seconds: float = 0.0

    def __add__(self, other: Usage) -> Usage:
        return Usage.model_construct(  # sums of valid numbers are valid
            requests=self.requests + other.requests,
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            cached_tokens=self.cached_tokens + other.cached_tokens,
            completion_tokens=self.completion_tokens + other.completion_tokens,
            engine_seconds=self.engine_seconds + other.engine_seconds,
            code_seconds=self.code_seconds + other.code_seconds,
        )
