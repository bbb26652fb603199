"""One verification path: it judges the steps in order, with its own history and its own interpreter.

Per step (method, part 5): an analysis, a check by code that is executed, a judgement. Where a bound on
rounds or tokens is met, or the model ends without a judgement, the path degrades instead of failing: it
keeps the analysis and the executed rounds, drops what was left unfinished, and forces the judgement.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from genprm.config.models import VerifyConfig
from genprm.engines.base import Engine
from genprm.errors import EngineError, GenPRMError, SandboxError
from genprm.generate.rollout import Draft, Path, Runs, failure_text, write
from genprm.records import VerifyItem, Vote, VoteStatus
from genprm.rewards.genprm.judgement import Reward, read_reward, reward_at
from genprm.sandbox.base import Limits, Sandbox
from genprm.text.prompts import VerifierProfile, fill
from genprm.text.transcript import (
    FENCE_OPEN,
    Judgement,
    cut_analysis,
    find_judgement,
    parse_step,
)

# A forced judgement is paid for on top of the step's budget: the word, its brackets, and some slack for
# tokenisers that spell it out.
FORCED_TOKENS = 12


@dataclass(frozen=True, slots=True)
class Means:
    """What all paths of a verifier share."""

    engine: Engine
    sandbox: Sandbox | None
    profile: VerifierProfile
    options: VerifyConfig
    slots: asyncio.Semaphore
    seed: int
    limits: Limits | None = None


class VerificationPath:
    """Path `index` of an item. Call `judge(0)`, `judge(1)`, ... in order, then `aclose()`.

    `runs` is what the item's paths have executed, where they share it.
    """

    def __init__(self, means: Means, item: VerifyItem, index: int, runs: Runs | None = None) -> None:
        self._means = means
        self._item = item
        self._index = index
        self._answers: list[str] = []
        self._lost: str | None = None
        self._path = Path(
            means.engine,
            means.sandbox,
            key=(item.id, index),
            seed=means.seed,
            sample=index,
            sampling=means.options.sampling,
            slots=means.slots,
            limits=means.limits,
            add_generation_prompt=means.profile.add_generation_prompt,
            runs=runs,
        )

    async def judge(self, step: int) -> Vote:
        """The vote on a step; whatever goes wrong is told by its status."""
        if self._lost is not None:
            return Vote(path=self._index, status=VoteStatus.NOT_REACHED, reason=self._lost)
        profile, item = self._means.profile, self._item
        self._path.begin(profile.messages(item.problem, item.steps, step, self._answers), step)
        draft = Draft()
        reward: Reward | None = None
        try:
            judgement, forced = await self._write(draft, step)
            if judgement is not None:
                reward = read_reward(judgement, draft.pieces) or await self._ask_again(draft, judgement)
        except EngineError as error:
            return self._fail(step, draft, VoteStatus.ENGINE_FAILED, error)
        except SandboxError as error:
            return self._fail(step, draft, VoteStatus.SANDBOX_FAILED, error)
        if judgement is None:
            self._answers.append(draft.text.rstrip())
            return self._vote(
                draft,
                status=VoteStatus.NO_JUDGEMENT,
                reason="no Yes or No, even when forced",
                forced=forced,
            )
        draft.text = f"{draft.text[: judgement.end]}}}$\n</output>"
        self._answers.append(draft.text)
        if reward is None:
            return self._vote(
                draft,
                status=VoteStatus.NO_LOGPROBS,
                reason="the engine gave no log-probabilities at the judgement",
                judgement=judgement.value,
                forced=forced,
            )
        return self._vote(
            draft, reward=reward.value, bound=reward.bound, judgement=judgement.value, forced=forced
        )

    @property
    def reached(self) -> int:
        """The step that this path judges next."""
        return len(self._answers)

    async def follow(self, other: VerificationPath) -> None:
        """Take over another path's verdicts and interpreter state (shared history)."""
        self._answers = list(other._answers)
        self._lost = other._lost
        await self._path.branch(other._path)

    async def aclose(self) -> None:
        """End the path's interpreter."""
        await self._path.aclose()

    def _vote(self, draft: Draft, **fields: object) -> Vote:
        rationale = parse_step(draft.text, draft.rounds) if draft.text else None
        values = {"path": self._index, "rationale": rationale, "usage": self._path.usage, **fields}
        return Vote.model_validate(values)

    def _fail(self, step: int, draft: Draft, status: VoteStatus, error: GenPRMError) -> Vote:
        self._lost = f"the path was lost at step {step}: {status.value}"
        return self._vote(draft, status=status, reason=failure_text(error))

    async def _write(self, draft: Draft, step: int) -> tuple[Judgement | None, bool]:
        """Write the turn. Returns the judgement and whether a degradation forced it."""
        components = self._means.options.components
        if components == "direct":
            return await self._force(draft), False
        if not await self._analyse(draft, step):
            return await self._force(draft), True
        if components == "cot":
            return await self._force(draft), False
        found = await self._check(draft, execute=components == "cot+code+execution")
        if found is not None:
            return found, False
        return await self._force(draft), True

    async def _analyse(self, draft: Draft, step: int) -> bool:
        """Write the analysis; False where it used up the step's tokens."""
        profile, options = self._means.profile, self._means.options
        draft.text = fill(profile.analyze_open, t=step + 1)
        start = len(draft.text)
        draft.add(
            await self._path.generate(
                draft.text, stop=(profile.analyze_stop,), max_tokens=options.max_tokens
            )
        )
        analysis = cut_analysis(draft.text[start:]).rstrip()
        draft.text = f"{draft.text[:start]}{analysis}\n</analyze>\n"
        draft.safe = len(draft.text)
        return draft.spent < options.max_tokens

    async def _check(self, draft: Draft, *, execute: bool) -> Judgement | None:
        """Write the check by code and, if the model gets there, its judgement."""
        profile, options = self._means.profile, self._means.options
        draft.text += profile.verify_open
        draft.scanned = len(draft.text) - len(FENCE_OPEN)
        await write(
            self._path,
            draft,
            finish=profile.finish,
            max_rounds=options.max_rounds,
            max_tokens=options.max_tokens,
            execute=execute,
            logprobs=options.logprobs,
        )
        return find_judgement(draft.text, draft.scanned) if draft.rounds else None

    async def _ask_again(self, draft: Draft, judgement: Judgement) -> Reward | None:
        """The reward from one more token at the judgement's place, where the engine told others only.

        llama.cpp leaves out the log-probabilities of the tokens that make up the stop string.
        """
        if not any(completion.tokens for _, completion in draft.pieces):
            return None
        completion = await self._path.generate(
            draft.text[: judgement.start], stop=(), max_tokens=1, logprobs=self._means.options.logprobs
        )
        return reward_at(completion.tokens[0]) if completion.tokens else None

    async def _force(self, draft: Draft) -> Judgement | None:
        """Close what can be closed, drop what cannot, and make the model judge."""
        draft.text = draft.text[: draft.safe]
        if draft.rounds:
            draft.text += "</verify>\n"
        opening = len(draft.text)
        draft.text += self._means.profile.forced_output
        draft.add(
            await self._path.generate(
                draft.text, stop=("}",), max_tokens=FORCED_TOKENS, logprobs=self._means.options.logprobs
            )
        )
        return find_judgement(draft.text, opening)
