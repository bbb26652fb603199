"""Requests to a policy or a completer: many samples of one prompt, seeded so that each can be repeated."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from genprm.config.models import SamplingConfig
from genprm.engines.base import Request, SamplingParams
from genprm.errors import EngineError, EngineUnavailable
from genprm.generate.rollout import derive_seed
from genprm.records import Problem
from genprm.text.prompts import PolicyProfile, load_profile


def policy_profile(profile: str | PolicyProfile) -> PolicyProfile:
    """The profile itself, or the one of that name. Raises `ConfigError`."""
    return load_profile(profile, PolicyProfile) if isinstance(profile, str) else profile


def raise_if_lost(errors: Sequence[EngineError], items: int) -> None:
    """Raise where a batch cannot be settled because of its engine.

    An engine that is unavailable (after the engine's own retries) says nothing about the items that it
    lost, so the batch must be tried again. Any other error may lie in its item, which is then dropped,
    unless every item has one.

    Args:
        errors: one error of each item that the engine failed on.
        items: how many there are in the batch.
    """
    for error in errors:
        if isinstance(error, EngineUnavailable):
            raise error
    if errors and len(errors) == items:
        raise errors[0]


def policy_requests(
    problem: Problem,
    samples: Iterable[int],
    sampling: SamplingConfig,
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
        max_tokens=sampling.max_tokens,
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
