"""Continuous batching: a thread that owns the model and keeps its slots full."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from genprm.engines._local.prefixes import PrefixStore
from genprm.engines._local.rows import Job, Rows
from genprm.engines._local.runner import GROUP, Runner
from genprm.engines._local.sampling import sample
from genprm.engines._local.shared import FEWEST_ROWS, MOST_ROWS
from genprm.engines._local.slots import round_up
from genprm.engines._local.vocab import Vocabulary
from genprm.engines.base import Completion, FinishReason
from genprm.errors import EngineError, EngineRequestError, EngineUnavailable
from genprm.records import Usage

Ints = NDArray[np.int64]


class Scheduler:
    """Runs jobs on a model.

    Args:
        model: a transformers causal language model in evaluation mode.
        eos_ids: tokens that end a turn.
        slots: rows decoded together at most.
        max_context: tokens of prompt and completion together.
        threads: CPU threads of the model; None leaves torch's choice.
        prefix_bytes: memory for the states of finished sequences.
        deterministic: compute each row in the same way whatever else is in the batch; see `LocalEngine`.
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
        deterministic: bool,
    ) -> None:
        self._model = model
        self._device = model.device
        self._threads = threads
        with _thread_count(threads):
            self._runner = Runner(
                model, slots, max_context, deterministic=deterministic, single=threads == 1
            )
        self._cache = self._runner.cache
        self._shared = self._runner.shared
        self._rows = Rows(slots, vocabulary)
        self._prefixes = PrefixStore(prefix_bytes if self._runner.reusable else 0)
        size = int(model.config.get_text_config().vocab_size)
        self._eos = np.zeros(size, bool)
        self._eos[[token for token in eos_ids if token < size]] = True
        self._queue: deque[Job] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._taken: list[Job] = []  # from the queue, on their way into slots
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

    def take_weights(self, weights: Mapping[str, torch.Tensor]) -> None:
        """Copy other weights into the model, and forget the states that the earlier ones gave.

        Raises:
            EngineRequestError: jobs are in work, or a parameter is missing or has another shape.
        """
        with self._changed:
            if self._queue or self._rows.active.any():
                raise EngineRequestError("weights cannot change while requests are in flight")
            own = dict(self._model.named_parameters())
            for name, parameter in own.items():
                if name not in weights or weights[name].shape != parameter.shape:
                    raise EngineRequestError(f"the weights do not fit the model: '{name}'")
            with torch.no_grad():
                for name, parameter in own.items():
                    parameter.copy_(weights[name])
            self._prefixes.clear()

    def close(self) -> None:
        """Stop the thread after its current step; jobs that are not done get an error."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        with _thread_count(self._threads), torch.inference_mode():
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

        If many rows are busy it waits for an eighth of them to come free: prompts computed
        together cost little more than one.
        """
        rows = self._rows
        free = np.flatnonzero(~rows.active)
        if not self._queue or (len(free) < len(rows.jobs) // 8 and len(free) < len(self._queue)):
            return
        jobs = self._taken = self._take(len(free))
        if not jobs:
            return
        samples: dict[bytes, list[int]] = {}
        for slot, job in self._place(free[: len(jobs)], jobs):
            rows.occupy(slot, job)
            samples.setdefault(job.prompt_key, []).append(slot)
        self._taken = []
        self._runner.reserve(max(len(job.prompt_ids) + job.params.max_tokens for job in jobs))
        private = {
            job.prompt_key: slot
            for slot, job in enumerate(rows.jobs)
            if job is not None and rows.base[slot] == 0 and rows.made[slot] > 0
        }
        sources: list[tuple[int, list[int]]] = []
        fresh: list[tuple[int, list[int], int]] = []
        for key, slots in samples.items():
            rest = self._join(key, slots)
            if not rest:
                continue
            source = private.get(key)
            if source is None:
                source = rest[0]
                job = self._job(source)
                job.cached = self._restore(source, job)
                if job.cached < len(job.prompt_ids) - 1:
                    fresh.append((source, job.prompt_ids[:-1], job.cached))
            sources.append((source, rest))
        self._runner.prefill(fresh)
        for source, slots in sources:
            self._spread(source, slots)

    def _take(self, most: int) -> list[Job]:
        """The next waiting jobs that somebody still waits for."""
        jobs: list[Job] = []
        with self._changed:
            while self._queue and len(jobs) < most:
                job = self._queue.popleft()
                if not job.future.cancelled():
                    jobs.append(job)
        return jobs

    def _place(self, free: Ints, jobs: list[Job]) -> list[tuple[int, Job]]:
        """Give each job a slot such that rows of like length are neighbours: they are read together."""
        rows = self._rows
        lengths = (rows.position - rows.base) * rows.active
        groups = [int(lengths[slot - slot % GROUP : slot - slot % GROUP + GROUP].max()) for slot in free]
        order = np.argsort(groups, kind="stable")
        jobs = sorted(jobs, key=lambda job: len(job.prompt_ids))
        return list(zip(free[order].tolist(), jobs, strict=True))

    def _join(self, key: bytes, slots: list[int]) -> list[int]:
        """Let samples of a prompt read the prefix that earlier ones read; returns those left over."""
        rest = self._shared.join(key, slots) if self._shared is not None else slots
        for slot in slots[: len(slots) - len(rest)]:
            job = self._job(slot)
            self._rows.base[slot] = job.cached = len(job.prompt_ids) - 1
        return rest

    def _restore(self, slot: int, job: Job) -> int:
        """Bring known states of a job's prompt into its slot; returns for how many tokens."""
        most = len(job.prompt_ids) - 1
        reader = self._shared.reader(job.prompt_key) if self._shared is not None else None
        if reader is not None and self._shared is not None:
            self._cache.restore(slot, self._shared.states(reader), most)
            return most
        if not self._prefixes.enabled:
            return 0
        length, states = self._prefixes.longest(job.prompt_ids, most)
        if length:
            self._cache.restore(slot, states, length)
        return length

    def _spread(self, source: int, slots: list[int]) -> None:
        """Give the states of a prompt, computed in slot `source`, to all samples of it."""
        job = self._job(source)
        length = len(job.prompt_ids) - 1
        for slot in slots:
            if slot != source:
                self._job(slot).cached = length
        while self._shared is not None and length and len(slots) >= FEWEST_ROWS:
            if not self._shared.add(job.prompt_key, self._cache, source, length, slots[:MOST_ROWS]):
                break
            self._rows.base[slots[:MOST_ROWS]] = length
            slots = slots[MOST_ROWS:]
        copies = [slot for slot in slots if slot != source]
        if copies:
            self._cache.copy_row(source, copies, length)

    # Decoding

    def _step(self) -> None:
        """Decode one token in every active slot."""
        rows = self._rows
        self._compact()
        count = min(round_up(int(np.flatnonzero(rows.active)[-1]) + 1, GROUP), len(rows.jobs))
        logits = self._runner.decode(rows.token[:count], rows.position[:count], rows.base[:count])
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
            job = self._job(slot)
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
                    self._release(slot)
                continue
            self._finished.append((job, rows.completion(slot, reason, stopped, now)))
            if reason != "eos" and self._prefixes.enabled:
                self._keep(slot, job)
            self._release(slot)

    def _keep(self, slot: int, job: Job) -> None:
        """Keep the states of a sequence that somebody may continue: any but those that ended their turn."""
        made = int(self._rows.made[slot])
        ids = job.prompt_ids + self._rows.history[slot, : made - 1].tolist()
        states = self._cache.save(slot, len(ids) - int(self._rows.base[slot]))
        front = self._shared.states(slot) if self._shared is not None else []
        if front:
            states = [torch.cat(pair, dim=1) for pair in zip(front, states, strict=True)]
        self._prefixes.add(ids, states)

    def _release(self, slot: int) -> None:
        self._rows.release(slot)
        if self._shared is not None:
            self._shared.leave(slot)

    def _job(self, slot: int) -> Job:
        job = self._rows.jobs[slot]
        assert job is not None
        return job

    def _compact(self) -> None:
        """Move the last rows to free slots in front if that makes the batch clearly smaller."""
        rows = self._rows
        active = np.flatnonzero(rows.active)
        if round_up(int(active[-1]) + 1, GROUP) * 3 <= round_up(len(active), GROUP) * 4:
            return
        free = np.flatnonzero(~rows.active[: len(active)])
        for source, target in zip(active[::-1].tolist(), free.tolist(), strict=False):
            self._cache.copy_row(source, [target], int(rows.position[source] - rows.base[source]))
            rows.move(source, target)
            if self._shared is not None:
                self._shared.move(source, target)

    # Results

    def _fail_active(self, error: EngineError) -> None:
        """End every job in a slot or on its way there; when the engine is closed, the waiting ones too."""
        rows, now = self._rows, time.perf_counter()
        begun = [(job, rows.cost(slot, now)) for slot, job in enumerate(rows.jobs) if job is not None]
        waiting = [job for job in self._taken if job not in rows.jobs]
        self._taken = []
        for slot in range(len(rows.jobs)):
            self._release(slot)
        with self._changed:
            if self._closed:
                waiting.extend(self._queue)
                self._queue.clear()
        costs = [(job, Usage(requests=1, engine_seconds=now - job.submitted)) for job in waiting]
        for job, usage in begun + costs:
            self._finished.append((job, Completion(finish_reason="error", error=error, usage=usage)))

    def _deliver(self) -> None:
        """Hand finished completions to their event loops, one call a loop."""
        by_loop: dict[asyncio.AbstractEventLoop, list[tuple[Job, Completion]]] = {}
        for job, completion in self._finished:
            by_loop.setdefault(job.loop, []).append((job, completion))
        self._finished.clear()
        for loop, batch in by_loop.items():
            # A loop that was closed meanwhile has nobody left who waits.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(_resolve, batch)


@contextlib.contextmanager
def _thread_count(threads: int | None) -> Iterator[None]:
    """Let torch use so many threads for calls of this thread, and restore what was set."""
    before = torch.get_num_threads()
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _resolve(batch: list[tuple[Job, Completion]]) -> None:
    for job, completion in batch:
        if not job.future.done():
            job.future.set_result(completion)
