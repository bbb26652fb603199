"""The scores of one problem's solutions, which share its start and any common first steps."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass

from genprm.aio import cancel_all
from genprm.config.models import MonteCarloConfig
from genprm.errors import EngineError
from genprm.generate.examples import examples_of
from genprm.generate.rollout import failure_text
from genprm.records import Dropped, Problem, Solution, SolutionScores, Usage
from genprm.synth.montecarlo.estimators import Estimate, Estimator
from genprm.synth.montecarlo.plans import Known, Plan, State

STAGE = "montecarlo"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one solution came to: scores, or why there are none."""

    scores: SolutionScores | None = None
    dropped: Dropped | None = None
    error: EngineError | None = None

    @property
    def usage(self) -> Usage:
        """What it cost."""
        row = self.scores or self.dropped
        return row.usage if row is not None else Usage()


class ProblemScorer:
    """Samples the states of one problem, round after round, until the plan wants no more for any solution."""

    def __init__(
        self,
        problem: Problem,
        solutions: Sequence[Solution],
        estimator: Estimator,
        options: MonteCarloConfig,
        plan: Plan,
        gate: Gate,
    ) -> None:
        self._problem = problem
        self._solutions = solutions
        self._estimator = estimator
        self._options = options
        self._plan = plan
        self._gate = gate
        self._known = Known()
        self._estimates: dict[State, Estimate] = {}
        self._faults: dict[int, EngineError] = {}
        # Which solution carries a state's cost must not depend on which of them needs it first.
        self._carrier: dict[State, int] = {}
        for index, solution in enumerate(solutions):
            for length in range(len(solution.steps)):
                self._carrier.setdefault(solution.steps[:length], index)

    async def run(self) -> list[Outcome]:
        """One outcome per solution, in order."""
        if not self._solutions:
            return []
        await self._draw({(): self._options.k_start})
        start = self._estimates[()]
        if start.fault is not None:
            return self._all_dropped(start, "engine_failed", failure_text(start.fault))
        value = start.score.value
        if not value:
            reason = "start_unknown" if value is None else "start_zero"
            return self._all_dropped(
                start, reason, f"{start.score.failed} of {self._options.k_start} failed"
            )
        k = self._plan.k(value)
        while wanted := self._wanted(k):
            await self._draw(wanted)
        return [self._outcome(index, solution) for index, solution in enumerate(self._solutions)]

    def _wanted(self, k: int) -> dict[State, int]:
        """What the solutions need together. One that needs a state on which the engine failed needs no more."""
        wanted: dict[State, int] = {}
        for index, solution in enumerate(self._solutions):
            if index in self._faults:
                continue
            needed = self._plan.wanted(solution, self._known, k)
            met = [self._estimates[state].fault for state in needed if state in self._estimates]
            fault = next((fault for fault in met if fault is not None), None)
            if fault is not None:
                self._faults[index] = fault
                continue
            for state, samples in needed.items():
                wanted[state] = max(samples, wanted.get(state, 0))
        return wanted

    async def _draw(self, wanted: Mapping[State, int]) -> None:
        """Bring states to these numbers of samples, all at once."""
        jobs = [
            asyncio.ensure_future(self._ask(state, range(self._known.drawn.get(state, 0), samples)))
            for state, samples in wanted.items()
        ]
        try:
            found = await asyncio.gather(*jobs)
        finally:
            await cancel_all(jobs)
        for (state, samples), more in zip(wanted.items(), found, strict=True):
            before = self._estimates.get(state, Estimate())
            self._estimates[state] = before.plus(more, self._options.keep_completions)
            self._known.scores[state] = self._estimates[state].score
            # A fault leaves the state as wanting as it was, so that whoever needs it meets the fault.
            if self._estimates[state].fault is None:
                self._known.drawn[state] = samples

    async def _ask(self, steps: State, samples: range) -> Estimate:
        async with self._gate.hold(len(samples)):
            return await self._estimator.estimate(self._problem, steps, samples)

    def _all_dropped(self, start: Estimate, reason: str, detail: str) -> list[Outcome]:
        outcomes = []
        texts = [(f"{self._problem.id}/start/{number}", text) for number, text in enumerate(start.texts)]
        for index, solution in enumerate(self._solutions):
            dropped = _drop(solution, reason, detail, self._cost(index))
            if index == 0:
                kept = examples_of(texts, self._options.keep_examples)
                dropped = dropped.model_copy(update={"examples": kept})
            outcomes.append(Outcome(None, dropped, start.fault))
        return outcomes

    def _outcome(self, index: int, solution: Solution) -> Outcome:
        fault = self._faults.get(index)
        if fault is not None:
            return Outcome(
                None, _drop(solution, "engine_failed", failure_text(fault), self._cost(index)), fault
            )
        return Outcome(
            SolutionScores(
                solution_id=solution.id,
                problem_id=self._problem.id,
                start=self._estimates[()].score,
                steps=self._plan.scores(solution, self._known),
                estimator=self._options.estimator,
                completer=self._estimator.name,
                usage=self._cost(index),
            )
        )

    def _cost(self, index: int) -> Usage:
        """The cost of the states that this solution is the first to have."""
        carried = (
            estimate.usage for state, estimate in self._estimates.items() if self._carrier[state] == index
        )
        return sum(carried, Usage())


def _drop(solution: Solution, reason: str, detail: str, usage: Usage) -> Dropped:
    return Dropped(
        item_id=solution.id,
        problem_id=solution.problem_id,
        stage=STAGE,
        reason=reason,
        detail=detail,
        usage=usage,
    )


class Gate:
    """Bounds the requests in flight over states that need different numbers of them."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held = 0
        self._free = asyncio.Condition()

    @contextlib.asynccontextmanager
    async def hold(self, count: int) -> AsyncIterator[None]:
        """A context in which `count` requests are in flight; more than the limit run alone."""
        count = min(count, self._limit)
        async with self._free:
            await self._free.wait_for(lambda: self._held + count <= self._limit)
            self._held += count
        try:
            yield
        finally:
            async with self._free:
                self._held -= count
                self._free.notify_all()
