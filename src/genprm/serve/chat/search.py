"""The searches behind the model names of the chat endpoint (method, policy test-time scaling)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from genprm.aio import cancel_all
from genprm.config import RunConfig, SamplingConfig, SolutionsConfig, StrategyConfig
from genprm.domains import Domain
from genprm.engines import Engine
from genprm.identity import content_key
from genprm.records import Problem, Solution, StepVerdict, Usage, Verification, VerifyItem
from genprm.rewards.base import judge_all
from genprm.search.refinement import fault_of, refine_with_critic
from genprm.search.selection import choose
from genprm.serve.answers import Answer, Unknown
from genprm.serve.chat.metered import MeteredEngine
from genprm.serve.chat.shared import SharedReward
from genprm.serve.service import RewardService, shutting_down
from genprm.serve.tracing import span
from genprm.synth.solutions import sample_solutions
from genprm.text.prompts import PolicyProfile, load_profile

Report = Callable[[str], None]
"""Is given a line about what has just happened."""


@dataclass(frozen=True, slots=True)
class Question:
    """What a chat asks.

    Attributes:
        problem: the text that policy and verifier see.
        system: the policy's system turn, in place of its profile's.
        max_tokens: of one solution.
        seed: equal questions with equal seeds have equal samples, if the engine is seeded.
    """

    problem: str
    system: str | None
    sampling: SamplingConfig
    max_tokens: int
    seed: int


@dataclass(frozen=True, slots=True)
class Candidate:
    """A solution that was looked at; without a verification it was the last rewriting, which nobody judges."""

    solution: Solution
    verification: Verification | None


@dataclass(frozen=True, slots=True)
class Found:
    """What a search came to.

    Attributes:
        solution: the answer; None if there is none that the verifier stands for (`unknown` says why).
        candidates: what it was chosen from, in order.
        policy, verifier: what both cost, whatever came of it.
    """

    solution: Solution | None = None
    unknown: Unknown | None = None
    candidates: tuple[Candidate, ...] = ()
    policy: Usage = field(default_factory=Usage)
    verifier: Usage = field(default_factory=Usage)


class Searcher:
    """Answers questions by the strategies of a config. The service judges, so that load and sharing are its matter.

    Args:
        policy: writes solutions; it stays the caller's, as the service and the domain do.
        config: `serve.strategies`, and the sections `solutions` and `refine`.
    """

    def __init__(self, policy: Engine, service: RewardService, domain: Domain, config: RunConfig) -> None:
        self._policy, self._service, self._domain = policy, service, domain
        self.config = config
        self._profile = load_profile(config.solutions.profile, PolicyProfile)

    @property
    def strategies(self) -> dict[str, StrategyConfig]:
        """By the name that a request calls its model."""
        return self.config.serve.strategies

    def described(self, name: str) -> dict[str, Any]:
        """A strategy as answers show it: the settings that decided, without those that its kind ignores."""
        strategy = self.strategies[name]
        shown: dict[str, Any] = {"kind": strategy.kind}
        if strategy.kind == "refine":
            return {**shown, "turns": strategy.turns or self.config.refine.turns}
        score = "mean" if strategy.kind == "weighted" else strategy.score
        return {**shown, "n": strategy.n, "score": score}

    @property
    def verifier(self) -> str:
        """Who judges."""
        return self._service.facts().name

    def metered(self) -> MeteredEngine:
        """The policy for one search, with what it costs."""
        return MeteredEngine(self._policy)

    async def search(
        self, name: str, question: Question, policy: MeteredEngine
    ) -> AsyncGenerator[str | Found, None]:
        """Search, yielding lines about what happens, and at the end what was found.

        Closing the generator ends the search and all its work.

        Args:
            policy: from `metered`.

        Raises:
            Overloaded: the service has too much to do, or closes.
        """
        lines: asyncio.Queue[str | None] = asyncio.Queue()
        task = asyncio.create_task(self._found(self.strategies[name], question, lines.put_nowait, policy))
        self._service.adopt(task)
        task.add_done_callback(lambda _: lines.put_nowait(None))
        try:
            while (line := await lines.get()) is not None:
                yield line
            if task.cancelled():
                raise shutting_down()
            yield task.result()
        finally:
            await cancel_all([task])

    async def _found(
        self, strategy: StrategyConfig, question: Question, report: Report, policy: MeteredEngine
    ) -> Found:
        seconds = self.config.serve.deadline_seconds
        search = _Search(policy, self._service, self._domain, self.config, strategy, question, report)
        try:
            with span("genprm.search", strategy=strategy.kind):
                async with asyncio.timeout(seconds):
                    return await search.run(self._profile)
        except TimeoutError:
            late = Unknown("deadline", f"no answer was found within {seconds:g} seconds", transient=True)
            return Found(unknown=late, policy=policy.spent)


@dataclass(frozen=True, slots=True)
class _Search:
    """One search."""

    policy: MeteredEngine
    service: RewardService
    domain: Domain
    config: RunConfig
    strategy: StrategyConfig
    question: Question
    report: Report

    async def run(self, profile: PolicyProfile) -> Found:
        """Sample, then choose or refine."""
        question, refining = self.question, self.strategy.kind == "refine"
        if question.system is not None:
            profile = profile.model_copy(update={"system": question.system})
        problem = Problem(id=content_key(question.problem), text=question.problem)
        count = 1 if refining else self.strategy.n
        self.report(f"Writing {count} solution{'s' if count > 1 else ''}.\n")
        made = await sample_solutions(
            [problem],
            self.policy,
            self.domain,
            count,
            self._sampling(),
            seed=question.seed,
            profile=profile,
            concurrency=count,
        )
        if made.lost:
            fault = made.lost[0]
            lost = Unknown("engine_failed", f"the policy: {fault.detail}", transient=fault.retryable)
            return Found(unknown=lost, policy=self.policy.spent)
        if not made.rows:
            return Found(
                unknown=Unknown("empty_text", "the policy wrote nothing"), policy=self.policy.spent
            )
        if refining:
            return await self._refined(problem, made.rows[0], profile)
        return await self._chosen(problem, made.rows)

    def _sampling(self) -> SolutionsConfig:
        changed = {"sampling": self.question.sampling, "max_tokens": self.question.max_tokens}
        return self.config.solutions.model_copy(update=changed)

    async def _chosen(self, problem: Problem, rows: Sequence[Solution]) -> Found:
        """The choice among samples."""
        names = {row.id: f"Solution {number}" for number, row in enumerate(rows, start=1)}

        def heard(item_id: str, verdict: StepVerdict) -> None:
            self.report(f"{names[item_id]}, {_told(verdict)}\n")

        items = [VerifyItem(id=row.id, problem=problem.text, steps=row.steps) for row in rows]
        verified = await judge_all(SharedReward(self.service), items, on_step=heard)
        weighted = self.strategy.kind == "weighted"
        answers = [row.answer for row in rows]
        classes = await self.domain.vote_classes(answers) if weighted else [None] * len(rows)
        selection = choose(problem.id, rows, [one.score for one in verified], classes)
        choice = selection.choices["weighted" if weighted else self.strategy.score]
        solution = next((row for row in rows if row.id == choice.solution_id), None)
        if solution is not None:
            self.report(f"{names[solution.id]} is chosen.\n")
        return Found(
            solution,
            None if solution is not None else _why_no_choice(verified),
            tuple(Candidate(row, one) for row, one in zip(rows, verified, strict=True)),
            policy=self.policy.spent,
            verifier=sum((one.usage for one in verified), Usage()),
        )

    async def _refined(self, problem: Problem, start: Solution, profile: PolicyProfile) -> Found:
        """The solution after the critic's turns."""
        changed = {"sampling": self.question.sampling, "max_tokens": self.question.max_tokens}
        turns = self.strategy.turns or self.config.refine.turns
        options = self.config.refine.model_copy(update={**changed, "turns": turns})

        def heard(item_id: str, verdict: StepVerdict) -> None:
            turn = item_id.rpartition("#turn")[2]
            self.report(f"Version {int(turn) + 1}, {_told(verdict)}\n")

        critic = SharedReward(self.service, heard)
        (trace,) = await refine_with_critic(
            [(problem, start)],
            self.policy,
            critic,
            self.domain,
            options,
            seed=self.question.seed,
            profile=profile,
        )
        judged = [turn.verification for turn in trace.turns if turn.verification is not None]
        candidates = tuple(
            Candidate(turn.solution, turn.verification)
            for turn in trace.turns
            if turn.changed or turn.turn == 0
        )
        # A version that nobody could judge, or a rewriting that was lost, is no result of the critic's.
        unknown = next(_unjudged(judged), None)
        fault = fault_of(trace)
        if unknown is None and fault is not None:
            unknown = Unknown("engine_failed", f"the policy: {fault[0]}: {fault[1]}", transient=fault[2])
        return Found(
            trace.turns[-1].solution if unknown is None else None,
            unknown,
            candidates,
            policy=self.policy.spent,
            verifier=sum((one.usage for one in judged), Usage()),
        )


def _told(verdict: StepVerdict) -> str:
    step = f"step {verdict.step + 1}"
    if verdict.reward is None:
        return f"{step}: not known ({verdict.status})"
    return f"{step}: {verdict.reward:.2f}"


def _why_no_choice(verified: Sequence[Verification]) -> Unknown:
    """Why nothing could be chosen: no solution has a score, or, in a vote, none that has one states an answer."""
    missing = [unknown for one in verified if (unknown := Answer(one).unknown) is not None]
    if not missing:
        return Unknown("no_answer", "no solution states an answer")
    return next((unknown for unknown in missing if unknown.transient), missing[0])


def _unjudged(verified: Sequence[Verification]) -> Iterator[Unknown]:
    """Why the critic neither flagged a step nor judged all of them right."""
    for one in verified:
        unknown = Answer(one).unknown
        if unknown is not None and not any(verdict.judgement is False for verdict in one.verdicts):
            yield unknown
