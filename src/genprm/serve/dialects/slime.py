"""slime: `--rm-type remote_rm --rm-url URL --reward-key reward` asks about one sample, waits 120 s, and tries 10 times.

What another try may answer fails the request, so that slime's own retry joins the running verification. What it will not
answer has `reward: null` and `remove_sample: true`: slime cannot take null for a number, so a run that does not look
at `remove_sample` stops instead of learning from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from genprm.config import ServeConfig
from genprm.serve.answers import Unknown
from genprm.serve.dialects.base import Asked, Body, Dialect, Reply, Result, refused
from genprm.serve.dialects.rendered import plain, question_of


class Sample(Body):
    """A prompt, as text or as a chat, and the response to it."""

    prompt: str | tuple[Any, ...]
    response: str
    label: Any = None


def read(body: Sample) -> list[Asked | Unknown]:
    """The one solution."""
    return [Asked(question_of(body.prompt), plain(body.response))]


def write(body: Sample, results: Sequence[Result], config: ServeConfig) -> Reply:
    """The reward, and the step rewards with where the steps end in `response`, for an advantage function."""
    (result,) = results
    unknown = result.unknown
    if unknown is not None and unknown.transient:
        return refused(result, unknown)
    offset = body.response.find(plain(body.response))
    return Reply(
        {
            "reward": result.score(config),
            "remove_sample": unknown is not None,
            "unknown": unknown.kind if unknown is not None else None,
            "step_rewards": result.rewards,
            "step_spans": [[start + offset, end + offset] for start, end in result.spans],
        }
    )


DIALECT = Dialect("slime", "/slime", Sample, 110.0, read, write)
