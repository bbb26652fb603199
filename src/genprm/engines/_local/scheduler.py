"""Continuous batching: a thread that owns the model and keeps its slots full."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from genprm.engines._local.prefixes import PrefixStore
from genprm.engines._local.rows import Job, Rows
from genprm.engines._local.sampling import sample
from genprm.engines._local.slots import SlotCache, decode_mask
from genprm.engines._local.vocab import Vocabulary
from genprm.engines.base import Completion, FinishReason
from genprm.errors import EngineError, EngineUnavailable
from genprm.records import Usage

_ROW_STEP = 16
_LENGTH_STEP = 32
_PREFILL_TOKENS = 8192


def round_up(value: int, step: int) -> int:
    """The smallest multiple of `step` that is at least `value`."""
    return -(-value // step) * step


class Scheduler:
    """Runs jobs on a model.

    Args:
        model: a transformers causal language model in evaluation mode.
        eos_ids: tokens that end a turn.
        slots: rows decoded together at most.
        max_context: tokens of prompt and completion together.
        threads: CPU threads of the model; None leaves torch's choice.
        prefix_bytes: memory for the states of finished sequences.
    """

    def __init__(
        self,
        model: Any,
        vocabulary: Vocabulary,
        eos_ids: Sequence[int],
        *,
        slots: int,
        max_context: int,
        threads: int | None,
        prefix_bytes: int,
    ) -> None:
        self._model = model
        self._device = model.device
        self._dtype = model.dtype
        self._max_context = max_context
        self._threads = threads
        self._cache = SlotCache(model.config.get_text_config().num_hidden_layers, slots, 0)
        self._rows = Rows(slots, vocabulary)
        self._prefixes = PrefixStore(prefix_bytes)
        size = int(model.config.get_text_config().vocab_size)
        self._eos = np.zeros(size, bool)
        self._eos[[token for token in eos_ids if token < size]] = True
        self._queue: deque[Job] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._finished: list[tuple[Job, Completion]] = []
        self._thread = threading.Thread(target=self._run, name="genprm-local-engine", daemon=True)
        self._thread.start()

    def submit(self, jobs: Sequence[Job]) -> None:
        """Queue jobs; callable from any thread."""
        with self._changed:
            if self._closed:
                raise EngineUnavailable("the local engine is closed", retryable=False)
            self._queue.extend(jobs)
            self._changed.notify()

    def close(self) -> None:
        """Stop the thread after its current step; jobs that are not done get an error."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        if self._threads is not None:
            torch.set_num_threads(self._threads)
        with torch.inference_mode():
            while self._wait():
                try:
                    self._admit()
                    if self._rows.active.any():
                        self._step()
                except Exception as error:
                    # Whatever the model raised (out of memory, a kernel that is missing) belongs to
                    # the requests in flight; the thread lives on for the next ones.
                    self._fail_active(
                        EngineError(f"the local model failed: {type(error).__name__}: {error}")
                    )
                self._deliver()
        self._fail_active(EngineUnavailable("the local engine was closed", retryable=False))
        self._deliver()

    def _wait(self) -> bool:
        """Sleep until there is work; False once the engine is closed."""
        with self._changed:
            while not self._closed and not self._queue and not self._rows.active.any():
                self._changed.wait()
            return not self._closed

    # Admission and prefill

    def _admit(self) -> None:
        """Move waiting jobs into free slots and compute their prompts.

        Where many rows are busy it waits for a sixteenth of them to come free: prompts computed
        together cost little more than one.
        """
        rows = self._rows
        free = np.flatnonzero(~rows.active)
        if not self._queue or (len(free) < len(rows.jobs) // 16 and len(free) < len(self._queue)):
            return
        placed: list[tuple[int, Job]] = []
        with self._changed:
            for slot in free.tolist():
                while self._queue and self._queue[0].future.cancelled():
                    self._queue.popleft()
                if not self._queue:
                    break
                placed.append((slot, self._queue.popleft()))
        self._reserve(max((len(job.prompt_ids) + job.params.max_tokens for _, job in placed), default=0))
        leaders: dict[bytes, int] = {
            job.prompt_key: slot for slot, job in enumerate(rows.jobs) if job is not None
        }
        copies: dict[int, list[int]] = {}
        fresh: list[tuple[int, Job, int]] = []
        for slot, job in placed:
            rows.occupy(slot, job)
            leader = leaders.setdefault(job.prompt_key, slot)
            if leader != slot:
                copies.setdefault(leader, []).append(slot)
                job.cached = len(job.prompt_ids) - 1
                continue
            if self._prefixes.enabled:
                job.cached, states = self._prefixes.longest(job.prompt_ids, len(job.prompt_ids) - 1)
                if job.cached:
                    self._cache.restore(slot, states, job.cached)
            if job.cached < len(job.prompt_ids) - 1:
                fresh.append((slot, job, job.cached))
        self._prefill(fresh)
        for leader, followers in copies.items():
            first = rows.jobs[leader]
            assert first is not None
            self._cache.copy_row(leader, followers, len(first.prompt_ids) - 1)

    def _reserve(self, length: int) -> None:
        """Room in every slot for rows of `length` tokens, plus the padding of a prefill."""
        needed = round_up(length, _LENGTH_STEP) + _LENGTH_STEP
        if needed > self._cache.capacity:
            most = round_up(self._max_context, _LENGTH_STEP) + _LENGTH_STEP
            self._cache.grow(min(most, max(needed, self._cache.capacity * 3 // 2)))

    def _prefill(self, fresh: list[tuple[int, Job, int]]) -> None:
        """Compute the states of prompts, the last token excepted: decoding takes that one."""
        fresh = sorted(fresh, key=lambda entry: len(entry[1].prompt_ids) - entry[2])
        while fresh:
            width = round_up(len(fresh[-1][1].prompt_ids) - 1 - fresh[-1][2], _LENGTH_STEP)
            count = max(1, _PREFILL_TOKENS // width)
            batch, fresh = fresh[-count:], fresh[:-count]
            tokens = np.zeros((len(batch), width), np.int64)
            for row, (_, job, start) in enumerate(batch):
                suffix = job.prompt_ids[start:-1]
                tokens[row, : len(suffix)] = suffix
            starts = np.asarray([start for _, _, start in batch])
            positions = starts[:, None] + np.arange(width)[None, :]
            # Padding lands on positions that decoding overwrites before it reads them.
            positions = np.minimum(positions, self._cache.capacity - 1)
            slots = torch.tensor([slot for slot, _, _ in batch], device=self._device)
            length = min(round_up(int(positions.max()) + 1, _LENGTH_STEP), self._cache.capacity)
            self._forward(tokens, positions, slots, length)

    def _forward(
        self, tokens: Any, positions: Any, slots: torch.Tensor | None, length: int
    ) -> torch.Tensor:
        """One pass of the model; returns the last position's logits, shape [rows, V], float32."""
        plan = self._cache.plan
        plan.rows = slots
        plan.positions = torch.from_numpy(positions).to(self._device)
        plan.length = length
        output = self._model(
            input_ids=torch.from_numpy(tokens).to(self._device),
            position_ids=plan.positions,
            attention_mask=decode_mask(plan.positions, length, self._dtype),
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        )
        logits: torch.Tensor = output.logits[:, -1].float()
        return logits

    # Decoding

    def _step(self) -> None:
        """Decode one token in every active slot."""
        rows = self._rows
        self._compact()
        count = min(round_up(int(np.flatnonzero(rows.active)[-1]) + 1, _ROW_STEP), len(rows.jobs))
        length = min(round_up(int(rows.position[:count].max()) + 1, _LENGTH_STEP), self._cache.capacity)
        logits = self._forward(rows.token[:count, None], rows.position[:count, None], None, length)
        chosen = sample(logits, rows.params(count))
        self._record_logprobs(logits, chosen, count)
        ids = chosen.cpu().numpy()
        slots = np.flatnonzero(rows.active[:count])
        rows.history[slots, rows.made[slots]] = ids[slots]
        rows.made[slots] += 1
        rows.token[slots] = ids[slots]
        rows.position[slots] += 1
        self._finish(slots, ids)

    def _record_logprobs(self, logits: torch.Tensor, chosen: torch.Tensor, count: int) -> None:
        rows = self._rows
        wanting = np.flatnonzero(rows.want[:count])
        if wanting.size == 0:
            return
        index = torch.from_numpy(wanting).to(self._device)
        sub = logits[index]
        total = sub.logsumexp(-1, keepdim=True)
        values, ids = sub.topk(min(int(rows.want[wanting].max()), sub.shape[-1]), dim=-1)
        own = sub.gather(-1, chosen[index][:, None])[:, 0] - total[:, 0]
        rows.record_logprobs(wanting, own.cpu().numpy(), (values - total).cpu().numpy(), ids.cpu().numpy())

    def _finish(self, slots: Any, ids: Any) -> None:
        """Take out the rows that the newest token ended."""
        rows = self._rows
        now = time.perf_counter()
        for slot in slots.tolist():
            job = rows.jobs[slot]
            assert job is not None
            token = ids[slot]
            stopped = None
            reason: FinishReason | None = None
            if self._eos[token]:
                reason = "eos"
            elif job.suspects is not None and job.suspects[token]:
                stopped = rows.stopped(slot)
                reason = "stop" if stopped is not None else None
            if reason is None and rows.made[slot] >= rows.budget[slot]:
                reason = "length"
            if reason is None:
                if job.future.cancelled():
                    rows.release(slot)
                continue
            self._finished.append((job, rows.completion(slot, reason, stopped, now)))
            if reason != "eos" and self._prefixes.enabled:
                self._keep(slot, job)
            rows.release(slot)

    def _keep(self, slot: int, job: Job) -> None:
        """Keep the states of a sequence that somebody may continue: any but those that ended their turn."""
        made = int(self._rows.made[slot])
        ids = job.prompt_ids + self._rows.history[slot, : made - 1].tolist()
        self._prefixes.add(ids, self._cache.save(slot, len(ids)))

    def _compact(self) -> None:
        """Move the last rows to free slots in front where that makes the batch clearly smaller."""
        rows = self._rows
        active = np.flatnonzero(rows.active)
        if round_up(int(active[-1]) + 1, _ROW_STEP) * 3 <= round_up(len(active), _ROW_STEP) * 4:
            return
        free = np.flatnonzero(~rows.active[: len(active)])
        for source, target in zip(active[::-1].tolist(), free.tolist(), strict=False):
            self._cache.copy_row(source, [target], int(rows.position[source]))
            rows.move(source, target)

    # Results

    def _fail_active(self, error: EngineError) -> None:
        """End every job in a slot with an error; when the engine is closed, the waiting ones too."""
        failed = [job for job in self._rows.jobs if job is not None]
        for slot in range(len(self._rows.jobs)):
            self._rows.release(slot)
        with self._changed:
            if self._closed:
                failed.extend(self._queue)
                self._queue.clear()
        now = time.perf_counter()
        for job in failed:
            usage = Usage(requests=1, engine_seconds=now - job.submitted)
            self._finished.append((job, Completion(finish_reason="error", error=error, usage=usage)))

    def _deliver(self) -> None:
        """Hand finished completions to their event loops, one call a loop."""
        by_loop: dict[asyncio.AbstractEventLoop, list[tuple[Job, Completion]]] = {}
        for job, completion in self._finished:
            by_loop.setdefault(job.loop, []).append((job, completion))
        self._finished.clear()
        for loop, batch in by_loop.items():
            if not loop.is_closed():
                loop.call_soon_threadsafe(_resolve, batch)


def _resolve(batch: list[tuple[Job, Completion]]) -> None:
    for job, completion in batch:
        if not job.future.done():
            job.future.set_result(completion)
