"""The state of every slot, as arrays over slots, so that a decoding step touches all rows at once."""

from __future__ import annotations

import asyncio
import codecs
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from genprm.engines._local.sampling import RowParams
from genprm.engines._local.vocab import Vocabulary
from genprm.engines.base import Completion, FinishReason, SamplingParams
from genprm.engines.stopping import find_stop
from genprm.engines.tokens import TokenLogprob
from genprm.records import Usage

ScalarT = TypeVar("ScalarT", bound=np.generic)


@dataclass(slots=True, eq=False)
class Job:
    """One request on its way through the worker thread.

    Attributes:
        key: of its random stream (`sampling.row_key`).
        future, loop: where the completion is awaited.
        submitted: `time.perf_counter()` at submission.
        cached: prompt tokens whose states were copied instead of computed.
    """

    prompt_ids: list[int]
    params: SamplingParams
    key: int
    future: asyncio.Future[Completion]
    loop: asyncio.AbstractEventLoop
    submitted: float
    cached: int = 0
    prompt_key: bytes = field(default=b"")
    suspects: NDArray[np.bool_] | None = None


class Rows:
    """Arrays over slots. `count` slots exist; a slot is active while `jobs[slot]` is set.

    `position` is the next token's position in the sequence; it goes to `position - base` in its slot, where
    `base` is the length of the shared prefix that the row reads (0 without one).
    """

    def __init__(self, count: int, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self.jobs: list[Job | None] = [None] * count
        self.token = np.zeros(count, np.int64)
        self.position = np.zeros(count, np.int64)
        self.base = np.zeros(count, np.int64)
        self.made = np.zeros(count, np.int64)
        self.budget = np.zeros(count, np.int64)
        self.keys = np.zeros(count, np.uint64)
        self.temperature = np.zeros(count, np.float32)
        self.top_k = np.zeros(count, np.int64)
        self.top_p = np.ones(count, np.float32)
        self.want = np.zeros(count, np.int64)
        self.active = np.zeros(count, bool)
        self.history = np.zeros((count, 64), np.int32)
        self._own = np.zeros((count, 0), np.float32)
        self._top_value = np.zeros((count, 0, 0), np.float32)
        self._top_id = np.zeros((count, 0, 0), np.int32)

    def occupy(self, slot: int, job: Job) -> None:
        """Put a job into a free slot; its prompt's last token is the next one to be decoded."""
        params = job.params
        self.jobs[slot] = job
        self.active[slot] = True
        self.token[slot] = job.prompt_ids[-1]
        self.position[slot] = len(job.prompt_ids) - 1
        self.base[slot] = 0
        self.made[slot] = 0
        self.budget[slot] = params.max_tokens
        self.keys[slot] = job.key
        self.temperature[slot] = params.temperature
        self.top_k[slot] = params.top_k
        self.top_p[slot] = params.top_p
        self.want[slot] = params.logprobs
        self._widen(params.max_tokens, params.logprobs)

    def release(self, slot: int) -> None:
        """Make a slot free."""
        self.jobs[slot] = None
        self.active[slot] = False
        self.token[slot] = self.position[slot] = self.base[slot] = 0
        self.temperature[slot] = 0.0
        self.want[slot] = 0

    def move(self, source: int, target: int) -> None:
        """Move a job's state to a free slot (the caller moves its keys and values)."""
        arrays: list[NDArray[Any]] = [
            *(self.token, self.position, self.base, self.made, self.budget, self.keys, self.temperature),
            *(self.top_k, self.top_p, self.want, self.active, self.history),
            *(self._own, self._top_value, self._top_id),
        ]
        for array in arrays:
            array[target] = array[source]
        self.jobs[target] = self.jobs[source]
        self.release(source)

    def _widen(self, tokens: int, top: int) -> None:
        """Space for `tokens` tokens per row and `top` alternatives per token."""
        width = self.history.shape[1]
        if tokens > width:
            width = max(tokens, 2 * width)
            self.history = _resized(self.history, (width,))
        if top and (self._top_id.shape[1] < width or self._top_id.shape[2] < top):
            depth = max(top, self._top_id.shape[2])
            self._own = _resized(self._own, (width,))
            self._top_value = _resized(self._top_value, (width, depth))
            self._top_id = _resized(self._top_id, (width, depth))

    def params(self, count: int) -> RowParams:
        """Sampling parameters of the first `count` slots; free slots are greedy."""
        return RowParams(
            self.temperature[:count],
            self.top_k[:count],
            self.top_p[:count],
            self.keys[:count],
            self.made[:count],
        )

    def record_logprobs(
        self,
        slots: NDArray[np.int64],
        own: NDArray[np.float32],
        values: NDArray[np.float32],
        ids: NDArray[np.int64],
    ) -> None:
        """Keep log-probabilities of the token being made in each of `slots`."""
        at = self.made[slots]
        depth = values.shape[1]
        self._own[slots, at] = own
        self._top_value[slots, at, :depth] = values
        self._top_id[slots, at, :depth] = ids

    def stopped(self, slot: int) -> tuple[str, str] | None:
        """(text up to the stop string, stop string) if the newest token completed one.

        Only the tail that a new match can touch is joined; the whole text is made on a match.
        """
        job = self.jobs[slot]
        assert job is not None
        made = int(self.made[slot])
        stops = [stop.encode("utf-8") for stop in job.params.stop if stop]
        longest = max(map(len, stops))
        tail = self._vocabulary.piece(int(self.history[slot, made - 1]))
        needed = longest + len(tail)
        at = made - 2
        while at >= 0 and len(tail) < needed:
            tail = self._vocabulary.piece(int(self.history[slot, at])) + tail
            at -= 1
        if not any(stop in tail for stop in stops):
            return None
        text = self._vocabulary.text(self.history[slot, :made].tolist())
        found = find_stop(text, job.params.stop)
        return None if found is None else (text[: found[0]], found[1])

    def cost(self, slot: int, now: float) -> Usage:
        """What a slot's job has cost so far."""
        job = self.jobs[slot]
        assert job is not None
        return Usage(
            requests=1,
            prompt_tokens=len(job.prompt_ids),
            cached_tokens=job.cached,
            completion_tokens=int(self.made[slot]),
            engine_seconds=now - job.submitted,
        )

    def completion(
        self, slot: int, reason: FinishReason, stopped: tuple[str, str] | None, now: float
    ) -> Completion:
        """The completion of a slot whose last token has just been made."""
        job = self.jobs[slot]
        assert job is not None
        made = int(self.made[slot])
        ids = self.history[slot, : made - 1 if reason == "eos" else made].tolist()
        text = stopped[0] if stopped is not None else self._vocabulary.text(ids)
        usage = self.cost(slot, now)
        tokens = self._token_logprobs(slot, ids, len(text)) if job.params.logprobs else ()
        stop = stopped[1] if stopped is not None else None
        return Completion(text=text, finish_reason=reason, stop=stop, tokens=tokens, usage=usage)

    def _token_logprobs(self, slot: int, ids: list[int], end: int) -> tuple[TokenLogprob, ...]:
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        depth = int(self.want[slot])
        offset = 0
        tokens = []
        for at, token in enumerate(ids):
            if offset >= end:
                break
            pending = decoder.getstate()[0]
            added = decoder.decode(self._vocabulary.piece(token))
            # Half a character that this token does not complete reads as one U+FFFD before it.
            start = offset + 1 if pending and added.startswith("\ufffd") else offset
            values = self._top_value[slot, at, :depth].tolist()
            alternatives = self._top_id[slot, at, :depth].tolist()
            top = tuple(
                (self._vocabulary.text([other]), value)
                for other, value in zip(alternatives, values, strict=True)
            )
            text = self._vocabulary.text([token])
            tokens.append(TokenLogprob(text, float(self._own[slot, at]), start, top))
            offset += len(added)
        return tuple(tokens)


def _resized(array: NDArray[ScalarT], shape: tuple[int, ...]) -> NDArray[ScalarT]:
    """A larger copy of an array along the axes after the first, zeros where it is new."""
    found = np.zeros((array.shape[0], *shape), array.dtype)
    if array.size:
        found[tuple(slice(0, extent) for extent in array.shape)] = array
    return found
