"""Requests to a policy or a completer: many samples of one prompt, seeded so that each can be repeated."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol, TypeVar

from genprm.aio import derive_seed
from genprm.config.models import SamplingConfig
from genprm.engines.base import Request, SamplingParams
from genprm.errors import GenPRMError
from genprm.records import Lost, Problem, Usage
from genprm.text.prompts import PolicyProfile


class Fault(Protocol):
    """An error, or the record of one: it knows whether another try is worthwhile."""

    @property
    def retryable(self) -> bool:
        """Whether a later try may succeed without a change."""
        ...


FaultT = TypeVar("FaultT", bound=Fault)
_PASSED_OVER = 0.05


def lost(problem_id: str, error: GenPRMError, usage: Usage | None = None) -> Lost:
    """The record of a problem that an engine's or a sandbox's fault kept from being settled."""
    return Lost(
        problem_id=problem_id,
        reason=type(error).__name__,
        detail=error.message,
        retryable=error.retryable,
        usage=usage or Usage(),
    )


def unsettling(faults: Sequence[FaultT | None]) -> FaultT | None:
    """The fault that keeps a problem from being settled, given one entry for each of its items.

    A retryable fault always does, since a later try may do better; any other does only if every item met a
    fault. None if the problem is settled.
    """
    known = [fault for fault in faults if fault is not None]
    passing = next((fault for fault in known if fault.retryable), None)
    if passing is not None:
        return passing
    return known[0] if known and len(known) == len(faults) else None


def unsettling_most(faults: Sequence[FaultT | None]) -> FaultT | None:
    """The fault that keeps samples of one prompt from standing for it, given one entry for each of them.

    A retryable fault does if more than half of the samples met one, any other only if every sample met a fault. None
    if the samples that are left may stand.
    """
    passing = [fault for fault in faults if fault is not None and fault.retryable]
    if 2 * len(passing) > len(faults):
        return passing[0]
    return None if None in faults else unsettling(faults)


def unsettling_nothing(found: int, faults: Sequence[FaultT | None]) -> FaultT | None:
    """The retryable fault that keeps it open whether there is nothing of a kind, when none of `found` samples is.

    By the rule of succession the chance that one of m more samples is of the kind is m / (found + m + 1). From one in
    twenty on, what retryable faults took is not passed over.

    Args:
        found: samples that are known not to be of the kind.
        faults: those that other samples met.
    """
    passing = [fault for fault in faults if fault is not None and fault.retryable]
    return passing[0] if len(passing) > _PASSED_OVER * (found + len(passing) + 1) else None


def policy_requests(
    problem: Problem,
    samples: Iterable[int],
    sampling: SamplingConfig,
    max_tokens: int,
    *,
    seed: int,
    profile: PolicyProfile,
    prefix: str | None = None,
) -> list[Request]:
    """Requests that differ in `sample` alone, so that an engine shares their prefill.

    Args:
        samples: the samples' indices; the engine mixes each into the seed.
        seed: of the run. The request's seed also depends on the problem's id and the prefix, and on
            nothing else: not on the order of calls, nor on what else is drawn.
        prefix: text that the assistant turn starts with, in place of the profile's.
    """
    start = profile.prefix if prefix is None else prefix
    params = SamplingParams(
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        top_k=sampling.top_k,
        max_tokens=max_tokens,
        seed=derive_seed(seed, problem.id, start),
    )
    return [
        Request(
            messages=profile.messages(problem.text),
            prefix=start,
            add_generation_prompt=profile.add_generation_prompt,
            params=params,
            sample=index,
        )
        for index in samples
    ]
