"""Refinement of solutions over turns, by a critic or by the policy alone (method, test-time scaling).

The critic is the verifier: the first step that it judges wrong is quoted to the policy together with its
analysis, and the policy writes again; a solution without a flagged step stays as it is. In `dialogue`
mode the policy sees its last solution and the feedback on it, and rewrites the whole; in `restart` mode it
sees no feedback and goes on from the steps before the flagged one. Every item goes its own way; none
waits for another.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from genprm.aio import bounded_map
from genprm.config.models import RefineConfig
from genprm.domains.math import Graded, compare_plain, extract_answer, tidy
from genprm.engines.base import Engine, Request, SamplingParams
from genprm.generate.rollout import derive_seed, failure_text
from genprm.records import (
    ChatMessage,
    Critique,
    Problem,
    RefinementTrace,
    RefinementTurn,
    Solution,
    Usage,
    Verification,
    VerifyItem,
    VoteStatus,
)
from genprm.text.prompts import PolicyProfile, RefineProfile, load_profile
from genprm.text.steps import continuation_prefix, join_steps, split_steps, step_number

Item = tuple[Problem, Solution]


class Critic(Protocol):
    """What verifies; `genprm.rewards.Verifier` does."""

    async def verify_many(self, items: Iterable[VerifyItem]) -> list[Verification]:
        """Verifications in the order of the items."""
        ...


class AnswerGrader(Protocol):
    """What compares answers; `genprm.domains.math.Grader` does."""

    async def equal(self, pred: str | None, gold: str | None) -> Graded:
        """Whether `pred` equals the reference `gold`."""
        ...


async def refine_with_critic(
    items: Sequence[Item],
    policy: Engine,
    critic: Critic,
    options: RefineConfig,
    *,
    seed: int,
    grader: AnswerGrader | None = None,
    profile: str | PolicyProfile = "policy",
    feedback: str | RefineProfile = "refine",
    concurrency: int = 256,
) -> list[RefinementTrace]:
    """Refine each solution for `options.turns` turns with the critic's help.

    Args:
        items: problems with the solutions to start from.
        critic: verifies; it may stop at the first error.
        grader: decides whether a rewritten solution is right. Without one, plain comparison of numbers
            and equal texts decides, and `correct` is None where that is not enough.
        concurrency: items in work, and requests to the policy in flight.

    Returns:
        one trace for each item, in order, with turns 0 to T. Faults are reasons in the turns.
    """
    desk = _Desk(
        policy=policy,
        critic=critic,
        options=options,
        seed=seed,
        grader=grader,
        profile=load_profile(profile, PolicyProfile) if isinstance(profile, str) else profile,
        feedback=load_profile(feedback, RefineProfile) if isinstance(feedback, str) else feedback,
        slots=asyncio.Semaphore(concurrency),
    )
    return await bounded_map(desk.trace, items, concurrency)


async def self_refine(
    items: Sequence[Item],
    policy: Engine,
    options: RefineConfig,
    *,
    seed: int,
    grader: AnswerGrader | None = None,
    profile: str | PolicyProfile = "policy",
    feedback: str | RefineProfile = "refine",
    concurrency: int = 256,
) -> list[RefinementTrace]:
    """The baseline: in every turn the policy is merely asked to look again and to write the whole again.

    It rewrites in all turns, for nobody tells it that a solution is right. Arguments and result as for
    `refine_with_critic`; `options.mode` plays no part.
    """
    desk = _Desk(
        policy=policy,
        critic=None,
        options=options,
        seed=seed,
        grader=grader,
        profile=load_profile(profile, PolicyProfile) if isinstance(profile, str) else profile,
        feedback=load_profile(feedback, RefineProfile) if isinstance(feedback, str) else feedback,
        slots=asyncio.Semaphore(concurrency),
    )
    return await bounded_map(desk.trace, items, concurrency)


def first_critique(verification: Verification) -> Critique | None:
    """The first step judged wrong, with the analysis of the vote that is surest of it; None without one.

    Steps without a verdict are passed over: they are no reason to rewrite.
    """
    for verdict in verification.verdicts:
        if verdict.judgement is not False:
            continue
        votes = [v for v in verdict.votes if v.status is VoteStatus.OK and v.reward is not None]
        surest = min(votes, key=lambda vote: (vote.reward or 0.0, vote.path), default=None)
        analysis = surest.rationale.analysis if surest is not None and surest.rationale is not None else ""
        return Critique(
            step=verdict.step,
            paragraph=verification.steps[verdict.step],
            analysis=analysis,
            reward=verdict.reward,
        )
    return None


@dataclass(frozen=True, slots=True)
class _Rewriting:
    """A new solution, or why there is none."""

    solution: Solution | None
    reason: str | None
    usage: Usage


@dataclass(frozen=True, slots=True)
class _Desk:
    """What all items share. Without a critic this is self-refinement."""

    policy: Engine
    critic: Critic | None
    options: RefineConfig
    seed: int
    grader: AnswerGrader | None
    profile: PolicyProfile
    feedback: RefineProfile
    slots: asyncio.Semaphore

    async def trace(self, item: Item) -> RefinementTrace:
        """All turns of one item."""
        problem, start = item
        turns: list[RefinementTurn] = []
        current, critique, settled = start, None, None
        for turn in range(self.options.turns + 1):
            done = _Rewriting(start, None, Usage())
            if turn > 0:
                done = _Rewriting(None, settled, Usage())
                if settled is None:
                    done = await self._rewrite(problem, current, critique, turn)
            verification = None
            if done.solution is not None:
                current = done.solution
                if self.critic is not None and turn < self.options.turns:
                    verification = await self._verify(self.critic, problem, current, start, turn)
                    critique = first_critique(verification)
                    settled = None if critique is not None else _why_settled(verification)
            turns.append(
                RefinementTurn(
                    turn=turn,
                    solution=current,
                    changed=turn > 0 and done.solution is not None,
                    reason=done.reason,
                    verification=verification,
                    critique=critique if turn < self.options.turns else None,
                    usage=done.usage,
                )
            )
        return RefinementTrace(
            problem_id=problem.id,
            solution_id=start.id,
            mode=self.options.mode if self.critic is not None else "self",
            turns=tuple(turns),
        )

    async def _verify(
        self, critic: Critic, problem: Problem, solution: Solution, start: Solution, turn: int
    ) -> Verification:
        item = VerifyItem(id=f"{start.id}#turn{turn}", problem=problem.text, steps=solution.steps)
        (verification,) = await critic.verify_many([item])
        return verification

    async def _rewrite(
        self, problem: Problem, current: Solution, critique: Critique | None, turn: int
    ) -> _Rewriting:
        messages, prefix = self._prompt(problem, current, critique)
        root = current.id.split("#", 1)[0]
        sampling = self.options.sampling
        request = Request(
            messages=messages,
            prefix=prefix,
            add_generation_prompt=self.profile.add_generation_prompt,
            params=SamplingParams(
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                top_k=sampling.top_k,
                max_tokens=sampling.max_tokens,
                seed=derive_seed(self.seed, "refine", root, turn),
            ),
            sample=turn,
        )
        async with self.slots:
            (completion,) = await self.policy.generate([request])
        usage = completion.usage
        if completion.error is not None:
            return _Rewriting(None, failure_text(completion.error), usage)
        if completion.finish_reason == "length":
            return _Rewriting(None, "truncated", usage)
        text = prefix + completion.text
        steps = split_steps(
            text, "step_markers" if step_number(prefix.lstrip()) is not None else "paragraphs"
        )
        if not steps:
            return _Rewriting(None, "no_steps", usage)
        answer = extract_answer(text)
        correct, reason = await self._grade(answer, problem.answer)
        solution = Solution(
            id=f"{root}#turn{turn}",
            problem_id=problem.id,
            steps=steps,
            answer=answer,
            correct=correct,
            ungraded_reason=reason,
            policy=self.policy.name,
            sample=current.sample,
            usage=usage,
        )
        return _Rewriting(solution, None, usage)

    def _prompt(
        self, problem: Problem, current: Solution, critique: Critique | None
    ) -> tuple[tuple[ChatMessage, ...], str]:
        """The policy's chat and its assistant prefix."""
        chat = self.profile.messages(problem.text)
        if critique is not None and self.options.mode == "restart":
            kept = current.steps[: critique.step]
            if not kept:
                return chat, self.profile.prefix
            marked = step_number(kept[0]) is not None
            return chat, continuation_prefix(kept, "step_markers" if marked else "paragraphs")
        told = self.feedback.self_
        if critique is not None:
            told = self.feedback.critic_feedback(critique.step, critique.paragraph, critique.analysis)
        return (
            *chat,
            ChatMessage(role="assistant", content=join_steps(current.steps)),
            ChatMessage(role="user", content=told),
        ), self.profile.prefix

    async def _grade(self, answer: str | None, reference: str | None) -> tuple[bool | None, str | None]:
        if self.grader is not None:
            graded = await self.grader.equal(answer, reference)
            return graded.equal, (graded.reason or None) if graded.equal is None else None
        if reference is None:
            return None, "no_reference"
        if answer is None:
            return False, None
        equal = compare_plain(tidy(answer), tidy(reference))
        return equal, "no_grader" if equal is None else None


def _why_settled(verification: Verification) -> str:
    """Why a solution without a flagged step is not rewritten."""
    missing = any(verdict.status in ("unparsed", "failed") for verdict in verification.verdicts)
    return "no_critique" if missing else "no_flag"
