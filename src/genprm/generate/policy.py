"""Requests to a policy or a completer: many samples of one prompt, seeded so that each can be repeated."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

from genprm.aio import derive_seed
from genprm.config.models import SamplingConfig
from genprm.engines.base import Request, SamplingParams
from genprm.errors import GenPRMError
from genprm.records import Lost, Problem, Usage
from genprm.text.prompts import PolicyProfile

FaultT = TypeVar("FaultT", bound=GenPRMError)


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

    One that may pass always does, because a later try can do better; one that will not pass does if every item
    met one. None where the problem is settled.
    """
    known = [fault for fault in faults if fault is not None]
    passing = next((fault for fault in known if fault.retryable), None)
    if passing is not None:
        return passing
    return known[0] if known and len(known) == len(faults) else None


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
