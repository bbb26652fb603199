"""The one generate -> execute -> continue loop; teacher and verifier both use it (method, parts 3 and 5).

A `Path` is one line of thought: its requests to the engine, its interpreter session, its cost. A `Draft`
is the assistant turn that is being written. `write` lets the model continue a draft, runs every code
block as soon as it closes and shows the model its output, until a finishing string, the
model's own end, or a bound. Paths share nothing but a semaphore that bounds the requests in flight, so
one path's execution overlaps the others' decoding, and no path waits for another.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from genprm.aio import derive_seed
from genprm.config.models import SamplingConfig
from genprm.engines.base import Completion, Engine, Request, SamplingParams
from genprm.errors import ConfigError, GenPRMError, SandboxDied, SandboxError
from genprm.generate.executions import Executed, Runs, ended_by_itself
from genprm.records import ChatMessage, CodeRound, CodeStatus, Usage
from genprm.sandbox.base import ExecResult, Limits, Sandbox, Session
from genprm.text.transcript import FENCE_STOP, JUDGEMENTS, find_code, format_output, output_block

End = Literal["finish", "eos", "tokens", "rounds"]

# A fence that closes nothing python ends a request, too; so many in a row end the turn.
_MAX_STALLS = 8


@dataclass(slots=True)
class Draft:
    """An assistant turn under construction.

    Attributes:
        text: everything so far: what was forced, generated, and executed.
        pieces: (start in `text`, completion) of what was generated.
        rounds: the code rounds, in order.
        spent: tokens generated for this draft.
        scanned: how much of `text` was searched for code.
        safe: end of the last point at which the turn could be closed: after an executed output.
        end: why the last `write` ended; None before the first.
        whole: the text before a bound cut its end off; None if nothing was cut.
    """

    text: str = ""
    pieces: list[tuple[int, Completion]] = field(default_factory=list)
    rounds: list[CodeRound] = field(default_factory=list)
    spent: int = 0
    scanned: int = 0
    safe: int = 0
    end: End | None = None
    whole: str | None = None

    def add(self, completion: Completion) -> None:
        """Append a completion."""
        self.pieces.append((len(self.text), completion))
        self.text += completion.text
        self.spent += completion.length


class Path:
    """One line of thought: requests, an interpreter session that opens when first needed, and usage.

    Args:
        key: names this path; with `seed` it decides every request's seed.
        sample: the path's index among its siblings, passed on with every request.
        slots: bounds the requests in flight, shared with other paths.
        fixed_seed: use one seed for all requests instead of one for each (a scripted teacher plans its
            whole answer from the seed).
        note_empty: tell the model in words that its code printed nothing.
        runs: shared by the paths that check the same item.

    Attributes:
        messages: the chat of the turn that is being written.
        tokens: generated on this path, in all its turns; also those that a cache had.
    """

    def __init__(
        self,
        engine: Engine,
        sandbox: Sandbox | None,
        *,
        key: Sequence[str | int],
        seed: int,
        sampling: SamplingConfig,
        slots: asyncio.Semaphore,
        sample: int = 0,
        limits: Limits | None = None,
        add_generation_prompt: bool = True,
        fixed_seed: bool = False,
        note_empty: bool = False,
        runs: Runs | None = None,
    ) -> None:
        self._engine = engine
        self._sandbox = sandbox
        self._key = tuple(key)
        self._seed = seed
        self._sampling = sampling
        self._slots = slots
        self._sample = sample
        self._limits = limits
        self._add_generation_prompt = add_generation_prompt
        self._fixed_seed = fixed_seed
        self._note_empty = note_empty
        self._runs = runs or Runs()
        self._session: Session | None = None
        # What advanced the state of this path and how it ended, and how much of it its session has executed.
        self._history: list[Executed] = []
        self._executed = 0
        self._executing = False
        self._runs.enter(self)
        self._step = 0
        self._round = 0
        self.messages: tuple[ChatMessage, ...] = ()
        self.tokens = 0
        self._costs: list[Usage] = []

    @property
    def usage(self) -> Usage:
        """What this path's turn has cost so far."""
        return Usage.total(self._costs)

    def begin(self, messages: Sequence[ChatMessage], step: int = 0) -> None:
        """Start a new assistant turn on this chat; usage counts from zero again."""
        self.messages = tuple(messages)
        self._step, self._round = step, 0
        self._costs = []

    async def generate(
        self, prefix: str, *, stop: Sequence[str], max_tokens: int, logprobs: int = 0
    ) -> Completion:
        """One request: the chat, then an assistant turn that starts with `prefix`.

        Raises:
            EngineError: the completion's own error.
        """
        parts: tuple[str | int, ...] = () if self._fixed_seed else (self._step, self._round)
        self._round += 1
        params = SamplingParams(
            temperature=self._sampling.temperature,
            top_p=self._sampling.top_p,
            top_k=self._sampling.top_k,
            max_tokens=max_tokens,
            stop=tuple(stop),
            seed=derive_seed(self._seed, *self._key, *parts),
            logprobs=logprobs,
            words=JUDGEMENTS if logprobs else (),
        )
        request = Request(
            messages=self.messages,
            prefix=prefix,
            add_generation_prompt=self._add_generation_prompt,
            params=params,
            sample=self._sample,
        )
        async with self._slots:
            started = time.perf_counter()
            (completion,) = await self._engine.generate([request])
            waited = time.perf_counter() - started
        self._costs.append(_with_request(completion, waited))
        self.tokens += completion.length
        if completion.error is not None:
            raise completion.error
        return completion

    async def execute(self, code: str) -> CodeRound:
        """Run code in this path's session, after what ran before.

        A lost session is replaced once, by replaying what ran before on a fresh one.

        Raises:
            SandboxError: the box failed, or what ran before ended otherwise when it was replayed; says
                nothing about the code.
        """
        self._executing = True
        try:
            codes = (*(done.code for done in self._history), code)
            result, fresh = await self._runs.result(codes, lambda: self._run(code))
            if ended_by_itself(result):
                self._history.append(Executed(code, result.status, result.error_type))
                self._executed += fresh
        except asyncio.CancelledError:
            await self._close_session()  # whether it ran the code or not is not known
            raise
        finally:
            self._executing = False
        status = CodeStatus(result.status.value)
        output = format_output(
            status,
            result.stdout,
            error_type=result.error_type,
            error_message=result.error_message,
            note_empty=self._note_empty,
        )
        return CodeRound(code=code, output=output, status=status, seconds=result.wall_seconds)

    @property
    def standing(self) -> tuple[Session | None, list[str]]:
        """This path's session and what it has executed; no session while it executes something."""
        executed = [done.code for done in self._history[: self._executed]]
        return None if self._executing else self._session, executed

    async def _run(self, code: str) -> ExecResult:
        try:
            return await self._run_behind_history(code)
        except SandboxDied:
            # What was lost may be another path's session, from which this one was to continue.
            await self._close_session()
        try:
            return await self._run_behind_history(code, alone=True)
        except SandboxDied:
            await self._close_session()  # it may stand anywhere in the history
            raise

    async def _run_behind_history(self, code: str, *, alone: bool = False) -> ExecResult:
        ahead, executed = (None, 0) if alone else self._runs.furthest([done.code for done in self._history])
        if ahead is not None and executed > self._executed:
            branch = ahead.fork()
            await self._close_session()
            self._session, self._executed = branch, executed
        if self._session is None:
            if self._sandbox is None:
                raise ConfigError(
                    "code is to be executed, but there is no sandbox",
                    hint="pass a sandbox, or choose components without execution",
                )
            self._session = await self._sandbox.open()
        while self._executed < len(self._history):
            await self._replay(self._session, self._history[self._executed])
            self._executed += 1
        return await self._charged(self._session, code)

    async def _replay(self, session: Session, done: Executed) -> None:
        """Bring a session one snippet further; raises `SandboxDied` unless it ends as it did before."""
        result = await self._charged(session, done.code)
        if (result.status, result.error_type) != (done.status, done.error_type):
            before, now = (f"'{one.status}'" for one in (done, result))
            raise SandboxDied(
                f"the state cannot be rebuilt: a snippet that ended with {before} ended with {now} when replayed",
                hint="give the code more time and memory (sandbox.soft_seconds, sandbox.memory_mb), "
                "or run fewer things on this machine",
            )

    async def _charged(self, session: Session, code: str) -> ExecResult:
        result = await session.run(code, self._limits)
        self._costs.append(Usage(code_seconds=result.wall_seconds))
        return result

    async def branch(self, other: Path) -> None:
        """Continue from another path's interpreter state; this path's own is dropped."""
        await self._close_session()
        self._history = list(other._history)
        if other._session is not None:
            self._session, self._executed = other._session.fork(), other._executed

    async def aclose(self) -> None:
        """End the session. Idempotent."""
        await self._close_session()

    async def _close_session(self) -> None:
        session, self._session = self._session, None
        self._executed = 0
        if session is not None:
            try:
                await session.aclose()
            except SandboxError:
                return  # it is gone, which is what was wanted


def _with_request(completion: Completion, waited: float) -> Usage:
    """What a completion cost, the request and its time included where the engine leaves them out.

    One that cost nothing at all was kept by a cache, and was no request.
    """
    usage = completion.usage
    if (usage.requests and usage.engine_seconds) or (completion.ok and usage == Usage()):
        return usage
    return usage.model_copy(
        update={"requests": usage.requests or 1, "engine_seconds": usage.engine_seconds or waited}
    )


async def write(
    path: Path,
    draft: Draft,
    *,
    finish: Sequence[str],
    max_rounds: int,
    max_tokens: int,
    execute: bool = True,
    logprobs: int = 0,
) -> Draft:
    """Let the model continue a draft until it finishes or meets a bound; `draft.end` says which.

    Args:
        finish: strings that end the writing; the text includes the one that matched.
        max_rounds: code rounds that this call may add. When the model closes one more block, that block
            and what led to it since the last output are cut off, and the writing ends with `rounds`.
        max_tokens: tokens that the draft may have spent in all.
        execute: False leaves closed blocks as they are and continues.

    Raises:
        EngineError, SandboxError: the draft keeps what it had.
    """
    stop = (FENCE_STOP, *finish)
    rounds_before = len(draft.rounds)
    stalls = 0
    while True:
        budget = max_tokens - draft.spent
        if budget <= 0:
            draft.end = "tokens"
            return draft
        start = len(draft.text)
        completion = await path.generate(draft.text, stop=stop, max_tokens=budget, logprobs=logprobs)
        draft.add(completion)
        block = find_code(draft.text, draft.scanned)
        ended_at = _first(draft.text, finish, start)
        if block is not None and (ended_at is None or block.end <= ended_at):
            if len(draft.rounds) - rounds_before >= max_rounds:
                draft.whole = draft.text
                draft.text = draft.text[: draft.safe or block.start]
                draft.end = "rounds"
                return draft
            # Whatever came after the block was written without its output.
            draft.text = draft.text[: block.end].rstrip("\r\n") + "\n"
            await _settle(path, draft, block.code, execute=execute)
            stalls = 0
            continue
        if ended_at is not None:
            draft.text = draft.text[:ended_at]
            draft.end = "finish"
            return draft
        if completion.finish_reason != "stop":
            draft.end = "tokens" if completion.finish_reason == "length" else "eos"
            return draft
        stalls += 1
        if stalls >= _MAX_STALLS or not completion.text:
            draft.end = "rounds"
            return draft


async def _settle(path: Path, draft: Draft, code: str, *, execute: bool) -> None:
    """Record a closed block: run it and show its output, or leave it."""
    done = await path.execute(code) if execute else CodeRound(code=code)
    draft.rounds.append(done)
    if done.output is not None:
        draft.text += output_block(done.output)
    draft.scanned = draft.safe = len(draft.text)


def _first(text: str, strings: Sequence[str], start: int) -> int | None:
    """Where the earliest of the strings ends that ends after `start`; None if none occurs."""
    ends = [at + len(s) for s in strings if (at := text.find(s, max(0, start - len(s) + 1))) >= 0]
    return min(ends, default=None)


def failure_text(error: GenPRMError) -> str:
    """A failure as the `reason` of a record."""
    return f"{type(error).__name__}: {error.message}"
