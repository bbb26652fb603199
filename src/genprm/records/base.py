"""What every record shares: immutability, a schema version, and what a cost is."""

from __future__ import annotations

from collections.abc import Iterable
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
        requests: engine calls; one that an engine repeats after a failure is one.
        uncounted: those of them whose tokens the engine did not count, or not all: an attempt that timed out or broke off
            may have written some. The counts below then have what else is known of them (by log-probabilities, by a
            reached limit): the tokens were at least so many.
        prompt_tokens: tokens sent, cached ones included.
        cached_tokens: those of them that the engine had in its prefix cache.
        completion_tokens: tokens generated.
        engine_seconds: time spent waiting for the engine, summed over requests (not wall time).
        code_seconds: time spent executing code, summed over executions (not wall time).
    """

    requests: int = 0
    uncounted: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    engine_seconds: float = 0.0
    code_seconds: float = 0.0

    def __add__(self, other: Usage) -> Usage:
        return Usage.total((self, other))

    @staticmethod
    def total(parts: Iterable[Usage]) -> Usage:
        """What several things cost together; cheaper than adding them one by one."""
        held = tuple(parts)
        if len(held) == 1:
            return held[0]
        return Usage(
            requests=sum([one.requests for one in held]),
            uncounted=sum([one.uncounted for one in held]),
            prompt_tokens=sum([one.prompt_tokens for one in held]),
            cached_tokens=sum([one.cached_tokens for one in held]),
            completion_tokens=sum([one.completion_tokens for one in held]),
            engine_seconds=sum([one.engine_seconds for one in held], 0.0),
            code_seconds=sum([one.code_seconds for one in held], 0.0),
        )
