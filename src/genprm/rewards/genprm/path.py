"""One verification path: it judges the steps in order, with its own history and its own interpreter.

Per step (method, part 5): an analysis, a check by code that is executed, a judgement. If a bound on rounds or
tokens is met, or the model ends without a judgement, the path degrades instead of failing: it keeps the
analysis and the executed rounds, drops what was left unfinished, and forces the judgement.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass

from genprm.config.models import VerifyConfig
from genprm.engines.base import Engine
from genprm.errors import EngineError, GenPRMError, SandboxError
from genprm.generate.executions import Runs
from genprm.generate.rollout import Draft, Path, failure_text, write
from genprm.records import ChatMessage, StepRationale, Vote, VoteStatus
from genprm.rewards.genprm.judgement import Reward, read_reward, reward_at
from genprm.rewards.genprm.written import WrittenTurn, own_spans
from genprm.sandbox.base import Limits, Sandbox
from genprm.text.prompts import VerifierProfile, fill
from genprm.text.transcript import (
    FENCE_OPEN,
    Judgement,
    cut_analysis,
    find_judgement,
    parse_step,
)

# A forced judgement costs tokens on top of the step's budget: the word, its brackets, and some slack for
# tokenisers that spell it out.
FORCED_TOKENS = 12


@dataclass(frozen=True, slots=True)
class PathContext:
    """What all paths of a verifier share.

    Attributes:
        slots: bounds the requests in flight.
        limits: bounds of one execution; the sandbox's own if None.
    """

    engine: Engine
    sandbox: Sandbox | None
    profile: VerifierProfile
    options: VerifyConfig
    slots: asyncio.Semaphore
    seed: int
    limits: Limits | None = None


class VerificationPath:
    """Path `index` of a solution: give `judge` its steps one after the other, then call `aclose()`.

    Args:
        id: the solution's; with the seed and the index it decides the sampling.
        runs: what the solution's paths have executed, if they share it.
    """

    def __init__(
        self, context: PathContext, id: str, problem: str, index: int, runs: Runs | None = None
    ) -> None:
        self._context = context
        self._problem = problem
        self._index = index
        self._steps: list[str] = []
        self._turns: list[WrittenTurn] = []
        # The chat so far: turns are made once, however many steps follow.
        self._chat = list(context.profile.system_turn(context.options.components))
        # The fault that ended this path, as the vote on every step after it.
        self._lost: Vote | None = None
        self._path = Path(
            context.engine,
            context.sandbox,
            key=(id, index),
            seed=context.seed,
            sample=index,
            sampling=context.options.sampling,
            slots=context.slots,
            limits=context.limits,
            add_generation_prompt=context.profile.add_generation_prompt,
            note_empty=context.profile.note_empty_output,
            runs=runs,
        )

    @property
    def reached(self) -> int:
        """How many steps this path has judged: the index of the one that comes next."""
        return len(self._steps)

    @property
    def tokens(self) -> int:
        """Tokens generated on this path, by itself."""
        return self._path.tokens

    @property
    def turns(self) -> tuple[WrittenTurn, ...]:
        """The assistant turns of the steps judged so far, as the history has them; one that a fault ended is none."""
        return tuple(self._turns)

    async def judge(self, text: str) -> Vote:
        """The vote on the next step; whatever goes wrong is in its status."""
        step = len(self._steps)
        self._steps.append(text)
        if self._lost is not None:
            return self._lost
        self._chat.append(self._context.profile.user_turn(self._problem, self._steps, step))
        self._path.begin(self._chat, step)
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
            self._keep(draft, draft.text.rstrip(), forced=forced)
            return self._vote(
                draft,
                status=VoteStatus.NO_JUDGEMENT,
                reason="no Yes or No, even when forced",
                forced=forced,
            )
        draft.text = self._closed(draft.text, judgement)
        self._keep(draft, draft.text, forced=forced)
        if reward is None:
            return self._vote(
                draft,
                status=VoteStatus.NO_LOGPROBS,
                reason="the engine gave no usable log-probabilities at the judgement",
                judgement=judgement.value,
                forced=forced,
            )
        return self._vote(
            draft, reward=reward.value, bound=reward.bound, judgement=judgement.value, forced=forced
        )

    async def follow(self, other: VerificationPath) -> None:
        """Continue from where another path of the same solution stands: its turns and its interpreter state.

        If its state cannot be taken over, this path rebuilds it by replaying the code when it next runs any.
        """
        self._steps = list(other._steps)
        self._turns = list(other._turns)
        self._chat = list(other._chat)
        self._lost = other._lost and other._lost.model_copy(update={"path": self._index})
        with contextlib.suppress(SandboxError):
            await self._path.branch(other._path)

    async def aclose(self) -> None:
        """End the path's interpreter."""
        await self._path.aclose()

    def _keep(self, draft: Draft, answer: str, *, forced: bool) -> None:
        """Make a finished draft part of the history."""
        before = None
        if forced and draft.whole is not None:
            before = WrittenTurn(draft.whole, own_spans(draft.whole, draft.pieces[:-1]))
        self._chat.append(ChatMessage(role="assistant", content=answer))
        self._turns.append(WrittenTurn(answer, own_spans(answer, draft.pieces), before))

    def _closed(self, text: str, judgement: Judgement) -> str:
        """The turn as it becomes history: as the model ended it if it did so in form, else with the form's end."""
        end = f"</output>{self._context.profile.turn_end}"
        return text if text.endswith(end) else f"{text[: judgement.end]}}}$\n{end}"

    def _vote(self, draft: Draft, **fields: object) -> Vote:
        rationale = self._rationale(draft) if draft.text else None
        values = {"path": self._index, "rationale": rationale, "usage": self._path.usage, **fields}
        return Vote.model_validate(values)

    def _rationale(self, draft: Draft) -> StepRationale:
        """What was written; its analysis is the model's own, without the lead that was forced."""
        found = parse_step(draft.text, draft.rounds)
        lead = (
            fill(self._context.profile.analyze_open, t=len(self._steps)).removeprefix("<analyze>\n").strip()
        )
        return found.model_copy(update={"analysis": found.analysis.removeprefix(lead).strip()})

    def _fail(self, step: int, draft: Draft, status: VoteStatus, error: GenPRMError) -> Vote:
        self._lost = Vote(
            path=self._index,
            status=VoteStatus.NOT_REACHED,
            reason=f"the path was lost at step {step + 1}: {status.value}",
            retryable=error.retryable,
        )
        return self._vote(draft, status=status, reason=failure_text(error), retryable=error.retryable)

    async def _write(self, draft: Draft, step: int) -> tuple[Judgement | None, bool]:
        """Write the turn. Returns the judgement and whether a degradation forced it."""
        components = self._context.options.components
        if components == "direct":
            return await self._force(draft), False
        if "cot" in components and not await self._analyse(draft, step):
            return await self._force(draft), True
        if components == "cot":
            return await self._force(draft), False
        found = await self._check(draft, execute="execution" in components)
        if found is not None:
            return found, False
        return await self._force(draft), True

    async def _analyse(self, draft: Draft, step: int) -> bool:
        """Write the analysis; False if it used up the step's tokens."""
        profile, options = self._context.profile, self._context.options
        draft.text = profile.opening(step, options.components)
        start = len(draft.text)
        draft.add(
            await self._path.generate(
                draft.text, stop=(profile.analyze_stop,), max_tokens=options.max_tokens
            )
        )
        written = draft.text[start:]
        analysis = cut_analysis(written)
        if written != f"{analysis}</analyze>\n":
            draft.text = f"{draft.text[:start]}{analysis.rstrip()}\n</analyze>\n"
        draft.safe = len(draft.text)
        return draft.spent < options.max_tokens

    async def _check(self, draft: Draft, *, execute: bool) -> Judgement | None:
        """Write the check by code and, if the model gets there, its judgement.

        A judgement counts without any code, too: upstream takes it, and the checkpoints write some.
        """
        profile, options = self._context.profile, self._context.options
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
        if not draft.rounds and draft.end not in ("finish", "eos"):
            return None  # cut in the middle of its code
        return find_judgement(draft.text, draft.scanned)

    async def _ask_again(self, draft: Draft, judgement: Judgement) -> Reward | None:
        """The reward from one more token at the judgement's place, if the engine gave those of other tokens only.

        llama.cpp leaves out the log-probabilities of the tokens that make up the stop string.
        """
        if not any(completion.tokens for _, completion in draft.pieces):
            return None
        completion = await self._path.generate(
            draft.text[: judgement.start], stop=(), max_tokens=1, logprobs=self._context.options.logprobs
        )
        return reward_at(completion.tokens[0]) if completion.tokens else None

    async def _force(self, draft: Draft) -> Judgement | None:
        """Close what can be closed, drop what cannot, and make the model judge."""
        draft.whole = draft.whole or draft.text
        draft.text = draft.text[: draft.safe]
        if draft.rounds:
            draft.text += "</verify>\n"
        opening = len(draft.text)
        draft.text += self._context.profile.forced_output
        draft.add(
            await self._path.generate(
                draft.text, stop=("}",), max_tokens=FORCED_TOKENS, logprobs=self._context.options.logprobs
            )
        )
        return find_judgement(draft.text, opening)
