"""What a dialect is: how a trainer's request is read, and how it is answered."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict

from genprm.config import ServeConfig
from genprm.serve.answers import Answer, Unknown
from genprm.serve.wire import failure

BodyT = TypeVar("BodyT", bound="Body")


class Body(BaseModel):
    """Base of the dialects' requests: keys that nobody needs here are let through."""

    model_config = ConfigDict(frozen=True, extra="allow")


@dataclass(frozen=True, slots=True)
class Asked:
    """A solution that a request asks about: its steps, or a text that is to be split into them."""

    problem: str
    solution: str = ""
    steps: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """What is known about one solution of a request.

    Attributes:
        answer: the service's; None if it was not asked, because the text cannot be verified or the queue was full.
        unknown: why there is no score; None if there is one.
        spans: of the steps in the solution's text, in characters; empty if it was not split.
        retry_after: seconds after which to try again.
    """

    answer: Answer | None = None
    unknown: Unknown | None = None
    spans: tuple[tuple[int, int], ...] = ()
    retry_after: float = 1.0

    @property
    def rewards(self) -> list[float | None]:
        """Of the steps."""
        return [verdict.reward for verdict in self.answer.verification.verdicts] if self.answer else []

    def score(self, config: ServeConfig) -> float | None:
        """The solution's score that `serve.score` names; None if it is unknown."""
        if self.answer is None or self.unknown is not None:
            return None
        found: float | None = getattr(self.answer.verification.score, config.score)
        return found


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP answer. Its content has no number that stands for something unknown."""

    content: Any
    status: int = 200
    retry_after: float | None = None


@dataclass(frozen=True)
class Dialect(Generic[BodyT]):
    """One trainer's way of asking.

    Attributes:
        path: where it asks.
        body: its request's JSON.
        deadline: seconds in which it must be answered, less than the trainer's own time-out; infinite if it has none.
        read: the solutions that a request asks about, or why one cannot be verified.
        write: the answer, from one result for each of them.
    """

    name: str
    path: str
    body: type[BodyT]
    deadline: float
    read: Callable[[BodyT], list[Asked | Unknown]]
    write: Callable[[BodyT, Sequence[Result], ServeConfig], Reply]


def failed(results: Sequence[Result]) -> Reply | None:
    """For dialects that cannot say "unknown": the whole request fails, with the first reason; None if nothing is unknown.

    429 when the queue was full, 503 when another try may help, 422 when it will not.
    """
    for result in results:
        if result.unknown is not None:
            return refused(result, result.unknown)
    return None


def refused(result: Result, unknown: Unknown) -> Reply:
    """A request's failure because of one solution."""
    status = 429 if unknown.kind == "overloaded" else 503 if unknown.transient else 422
    retry_after = result.retry_after if unknown.transient else None
    found = failure(status, unknown.kind, f"a solution has no score: {unknown.detail}")
    return Reply({"error": found.model_dump()}, status, retry_after)
