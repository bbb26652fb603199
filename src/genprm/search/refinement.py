"""Refinement of solutions over turns, by a critic or by the policy alone (method, test-time scaling).

The critic is the verifier: the first step that it judges wrong is quoted to the policy together with its
analysis, and the policy writes again; a solution without a flagged step stays as it is. In `dialogue`
mode the policy sees its last solution and the feedback on it, and rewrites the whole; in `restart` mode it
sees no feedback and continues from the steps before the flagged one. No item waits for another.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from genprm.aio import bounded_map, derive_seed
from genprm.config.models import RefineConfig
from genprm.domains import Domain
from genprm.engines.base import Engine, Request, SamplingParams
from genprm.generate.rollout import failure_text
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
from genprm.rewards.base import StepReward, judge_all
from genprm.rewards.faults import lost_entirely
from genprm.text.prompts import PolicyProfile, RefineProfile, load_profile
from genprm.text.steps import continuation_prefix, join_steps

Item = tuple[Problem, Solution]
_NO_FAULTS = ("no_flag", "no_critique", "truncated", "no_steps")
"""Reasons of a turn that are no engine's failure."""


async def refine_with_critic(
    items: Sequence[Item],
    policy: Engine,
    critic: StepReward,
    domain: Domain,
    options: RefineConfig,
    *,
    seed: int,
    profile: PolicyProfile | None = None,
    feedback: RefineProfile | None = None,
    concurrency: int = 256,
) -> list[RefinementTrace]:
    """Refine each solution for `options.turns` turns with the critic's help.

    Args:
        items: problems with the solutions to start from.
        policy: rewrites.
        critic: judges; it may stop at the first error. Its votes should carry rationales to quote.
        domain: extracts and grades the answers of rewritten solutions.
        seed: a rewriting depends on it, the solution's id and the turn alone.
        profile: the policy's prompt profile, in place of the domain's.
        feedback: the feedback's prompt profile, in place of `options.profile`.
        concurrency: items in work, and requests to the policy in flight.

    Returns:
        one trace per item, in order, with turns 0 to T. Faults are reasons in the turns.
    """
    return await _refine(
        items,
        policy,
        critic,
        domain,
        options,
        seed=seed,
        profile=profile,
        feedback=feedback,
        concurrency=concurrency,
    )


async def self_refine(
    items: Sequence[Item],
    policy: Engine,
    domain: Domain,
    options: RefineConfig,
    *,
    seed: int,
    profile: PolicyProfile | None = None,
    feedback: RefineProfile | None = None,
    concurrency: int = 256,
) -> list[RefinementTrace]:
    """The baseline: in every turn the policy is merely asked to look again and to write the whole again.

    It rewrites in every turn, since no critic finds a solution right. Arguments and result are those of
    `refine_with_critic`; `options.mode` has no effect.
    """
    return await _refine(
        items,
        policy,
        None,
        domain,
        options,
        seed=seed,
        profile=profile,
        feedback=feedback,
        concurrency=concurrency,
    )


async def _refine(
    items: Sequence[Item],
    policy: Engine,
    critic: StepReward | None,
    domain: Domain,
    options: RefineConfig,
    *,
    seed: int,
    profile: PolicyProfile | None,
    feedback: RefineProfile | None,
    concurrency: int,
) -> list[RefinementTrace]:
    refiner = _Refiner(
        policy=policy,
        critic=critic,
        options=options,
        seed=seed,
        domain=domain,
        profile=profile or load_profile(domain.profiles["policy"], PolicyProfile),
        feedback=feedback or load_profile(options.profile, RefineProfile),
        slots=asyncio.Semaphore(concurrency),
    )
    return await bounded_map(refiner.trace, items, concurrency)


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


def fault_of(trace: RefinementTrace) -> tuple[str, str, bool] | None:
    """The first engine or sandbox fault in a trace, one that may pass if there is any: (kind, message, may pass)."""
    faults = []
    for turn in trace.turns:
        lost = lost_entirely(turn.verification) if turn.verification is not None else None
        if lost is not None:
            faults.append(lost)
        if turn.reason is not None and turn.reason not in _NO_FAULTS:
            kind, _, message = turn.reason.partition(": ")
            faults.append((kind, message, turn.retryable))
    return min(faults, key=lambda fault: not fault[2], default=None)


@dataclass(frozen=True, slots=True)
class _Rewriting:
    """A new solution, or why there is none."""

    solution: Solution | None
    reason: str | None
    usage: Usage
    retryable: bool = False


@dataclass(frozen=True, slots=True)
class _Refiner:
    """Refines items; holds what they share. Without a critic this is self-refinement."""

    policy: Engine
    critic: StepReward | None
    options: RefineConfig
    seed: int
    domain: Domain
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
                    done = await self._rewrite(problem, current, critique, start.id, turn)
            verification = None
            if done.solution is not None:
                current = done.solution
                if self.critic is not None and turn < self.options.turns:
                    verification = await self._verify(self.critic, problem, current, start.id, turn)
                    critique = first_critique(verification)
                    settled = None if critique is not None else _why_settled(verification)
            turns.append(
                RefinementTurn(
                    turn=turn,
                    solution=current,
                    changed=turn > 0 and done.solution is not None,
                    reason=done.reason,
                    retryable=done.retryable,
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
        self, critic: StepReward, problem: Problem, solution: Solution, start_id: str, turn: int
    ) -> Verification:
        item = VerifyItem(id=f"{start_id}#turn{turn}", problem=problem.text, steps=solution.steps)
        (verification,) = await judge_all(critic, [item])
        return verification

    async def _rewrite(
        self, problem: Problem, current: Solution, critique: Critique | None, start_id: str, turn: int
    ) -> _Rewriting:
        messages, prefix = self._prompt(problem, current, critique)
        sampling = self.options.sampling
        request = Request(
            messages=messages,
            prefix=prefix,
            add_generation_prompt=self.profile.add_generation_prompt,
            params=SamplingParams(
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                top_k=sampling.top_k,
                max_tokens=self.options.max_tokens,
                seed=derive_seed(self.seed, "refine", start_id, turn),
            ),
            sample=turn,
        )
        async with self.slots:
            (completion,) = await self.policy.generate([request])
        usage = completion.usage
        if completion.error is not None:
            return _Rewriting(None, failure_text(completion.error), usage, completion.error.retryable)
        if completion.finish_reason == "length":
            return _Rewriting(None, "truncated", usage)
        text = prefix + completion.text
        steps = self.domain.split(text)
        if not steps:
            return _Rewriting(None, "no_steps", usage)
        found = self.domain.extract(text)
        graded = await self.domain.grade(found.answer, problem)
        solution = Solution(
            id=f"{start_id}#turn{turn}",
            problem_id=problem.id,
            steps=steps,
            answer=found.answer,
            answer_how=found.how,
            correct=graded.equal,
            ungraded_reason=(graded.reason or None) if graded.equal is None else None,
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
            return chat, continuation_prefix(kept, "auto")
        feedback = self.feedback.self_
        if critique is not None:
            feedback = self.feedback.critic_feedback(critique.step, critique.paragraph, critique.analysis)
        return (
            *chat,
            ChatMessage(role="assistant", content=join_steps(current.steps)),
            ChatMessage(role="user", content=feedback),
        ), self.profile.prefix


def _why_settled(verification: Verification) -> str:
    """Why a solution without a flagged step is not rewritten."""
    missing = any(verdict.judgement is None for verdict in verification.verdicts)
    return "no_critique" if missing else "no_flag"
