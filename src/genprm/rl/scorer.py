"""Step rewards for trainers: a reward server or a reward in this process, asked from any thread and event loop.

Trainers call from loops and threads of their own making, and some from several. So a scorer's work runs on the one
background loop of the process (`genprm.aio.bridge`), where its connections and its bound on concurrency live.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from genprm.aio import await_on_bridge, cancel_all, run_sync
from genprm.errors import (
    ConfigError,
    DataError,
    EngineTimeout,
    EngineUnavailable,
    Overloaded,
    UnknownReward,
)
from genprm.rewards import StepReward, score_solution
from genprm.rl.backends import Judged, LocalBackend, ServerBackend
from genprm.serve.answers import ScoreName
from genprm.text.checked import checked_text
from genprm.text.spans import step_spans
from genprm.text.steps import StepStyle, split_steps

FAULTS = frozenset({"engine_failed", "sandbox_failed", "deadline", "overloaded", "unreachable"})
"""Unknowns that say something about the service, and nothing about the solution."""
_MARGIN_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Scored:
    """What is known about one solution.

    Attributes:
        steps: of the solution.
        spans: where they stand in its text, in characters; empty if steps were given.
        rewards: one per step, in [0, 1]; None is unknown.
        score: of the solution, by the scorer's `score`; None is unknown.
        unknown: why there is no score, as a name (`engine_failed`, `sandbox_failed`, `deadline`, `overloaded`,
            `unreachable`, `unparsed`, `skipped`, `empty_text`, `unreadable`); None if there is one.
        reason: the same in words.
    """

    steps: tuple[str, ...] = ()
    spans: tuple[tuple[int, int], ...] = ()
    rewards: tuple[float | None, ...] = ()
    score: float | None = None
    unknown: str | None = None
    reason: str | None = None

    def number(self, unknown: float | None = None) -> float:
        """The score, for a trainer that takes nothing but numbers.

        Args:
            unknown: what to give if there is no score.

        Raises:
            UnknownReward: there is no score, and no number was given for that.
        """
        if self.score is not None:
            return self.score
        if unknown is not None:
            return unknown
        raise UnknownReward(
            f"a solution has no score ({self.unknown}): {self.reason}",
            hint="This trainer cannot leave a sample out. Restart it from its checkpoint when the cause is gone, or "
            "set GENPRM_UNKNOWN to the number that such samples get.",
            retryable=self.unknown in FAULTS,
        )


class Scorer:
    """Asks for the step rewards of solutions. Usable from any thread and event loop, and after a fork.

    Args:
        source: the URL of `genprm serve`, or a reward; the reward stays the caller's.
        score: which of the solution's scores is its reward.
        deadline: seconds in which a solution is scored, waiting included. What is not, is unknown.
        concurrency: solutions in work at the same time.
        api_key: if the server asks for one.
        steps: how a text is split into steps.
        outage: so many solutions lost to faults in a row, with none scored between them, are an error: a trainer that
            runs on would learn from nothing. 0 is never.

    Raises:
        ConfigError: no URL, an unknown score, or a bound that allows nothing.
    """

    def __init__(
        self,
        source: str | StepReward,
        *,
        score: ScoreName = "min",
        deadline: float = 600.0,
        concurrency: int = 256,
        api_key: str | None = None,
        steps: StepStyle = "auto",
        outage: int = 512,
    ) -> None:
        if score not in ("last", "mean", "min", "prod"):
            raise ConfigError(f"no score is called '{score}'", hint="last, mean, min or prod.")
        if concurrency < 1 or not deadline > 0:
            raise ConfigError(
                f"a scorer with concurrency={concurrency} and deadline={deadline} scores nothing"
            )
        self._backend: ServerBackend | LocalBackend
        if isinstance(source, str):
            self._backend = ServerBackend(source, api_key, deadline)
        else:
            if not isinstance(source, StepReward):
                raise ConfigError(
                    f"a scorer cannot ask {source!r:.60}",
                    hint="Give the URL of 'genprm serve', or a reward.",
                )
            self._backend = LocalBackend(source, concurrency, deadline)
        self.score_name: ScoreName = score
        self.counts: Counter[str] = Counter()
        self._deadline, self._concurrency = deadline, concurrency
        self._style: StepStyle = steps
        self._outage, self._in_a_row = outage, 0
        self._slots: asyncio.Semaphore | None = None
        self._process = os.getpid()

    async def score(self, problem: str, solution: str | Sequence[str]) -> Scored:
        """Score one solution, a text or its steps. See `score_many`."""
        return (await self.score_many([(problem, solution)]))[0]

    async def score_many(self, pairs: Sequence[tuple[str, str | Sequence[str]]]) -> list[Scored]:
        """Score solutions, each with its problem; the answers have their order.

        Raises:
            DataError: an entry is no pair, or a problem is blank: the trainer's prompts are not where they were looked
                for.
            ConfigError: the server does not take the API key.
            EngineProtocolError: the server's answer cannot be read.
            EngineUnavailable: an outage; see the class.
        """
        return await await_on_bridge(self._all(_checked(pairs)))

    def score_many_sync(self, pairs: Sequence[tuple[str, str | Sequence[str]]]) -> list[Scored]:
        """As `score_many`, for synchronous callers."""
        return run_sync(self._all(_checked(pairs)))

    def close(self) -> None:
        """Close the connections; what still runs is cancelled. A later call opens new ones."""
        run_sync(self._backend.aclose())
        self._slots = None

    def __getstate__(self) -> dict[str, Any]:
        """For processes that are started anew; the counts begin again there."""
        return {**self.__dict__, "_slots": None, "counts": Counter(), "_process": 0}

    async def _all(self, pairs: list[tuple[str, str | Sequence[str]]]) -> list[Scored]:
        if self._process != os.getpid() or self._slots is None:
            self._backend.renew()
            self._slots, self._process = asyncio.Semaphore(self._concurrency), os.getpid()
        tasks = [asyncio.ensure_future(self._one(problem, solution)) for problem, solution in pairs]
        try:
            return list(await asyncio.gather(*tasks))
        finally:
            await cancel_all(tasks)

    async def _one(self, problem: str, solution: str | Sequence[str]) -> Scored:
        checked_text(problem, "the problem")
        text = solution if isinstance(solution, str) else None
        steps = split_steps(text, self._style) if text is not None else tuple(solution)
        spans = step_spans(text, steps) if text is not None else ()
        try:
            if not steps:
                raise DataError("the solution is empty")
            for number, step in enumerate(steps, 1):
                checked_text(step, f"step {number}")
        except DataError as error:
            return self._counted(Scored(steps, spans, unknown="empty_text", reason=str(error)))
        judged = await self._judged(problem, steps)
        score = getattr(score_solution(judged.rewards), self.score_name)
        return self._counted(Scored(steps, spans, judged.rewards, score, judged.unknown, judged.reason))

    async def _judged(self, problem: str, steps: tuple[str, ...]) -> Judged:
        """The backend's answer; a failure to get one is an answer too, unless it is the user's to mend."""
        nothing: tuple[None, ...] = (None,) * len(steps)
        assert self._slots is not None
        try:
            async with asyncio.timeout(self._deadline + _MARGIN_SECONDS), self._slots:
                return await self._backend.judge(problem, steps)
        except (TimeoutError, EngineTimeout):
            return Judged(nothing, "deadline", f"no answer within {self._deadline:g} seconds")
        except Overloaded as error:
            return Judged(nothing, "overloaded", str(error))
        except EngineUnavailable as error:
            return Judged(nothing, "unreachable", str(error))
        except DataError as error:
            return Judged(nothing, "unreadable", str(error))

    def _counted(self, found: Scored) -> Scored:
        self.counts["scored" if found.unknown is None else f"unknown/{found.unknown}"] += 1
        self._in_a_row = self._in_a_row + 1 if found.unknown in FAULTS else 0
        if self._outage and self._in_a_row >= self._outage:
            raise EngineUnavailable(
                f"{self._in_a_row} solutions in a row have no score; the last one: {found.reason}",
                hint="Check the reward service, then resume the trainer from its checkpoint.",
            )
        return found


def _checked(pairs: Iterable[Any]) -> list[tuple[str, str | Sequence[str]]]:
    found = list(pairs)
    for number, pair in enumerate(found, start=1):
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise DataError(
                f"pair {number} is no problem with a solution: {pair!r:.60}",
                hint="Give (problem, solution) pairs; 'score' takes the two of one pair.",
            )
        if not isinstance(pair[1], str | list | tuple):
            raise DataError(
                f"the solution of pair {number} cannot be {pair[1]!r:.60}",
                hint="Give a text, or a list of steps.",
            )
    return found
