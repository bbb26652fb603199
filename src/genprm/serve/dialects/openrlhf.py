"""OpenRLHF: `--reward.remote_url URL` asks about one query per request, waits 180 s, and tries 5 times.

It has no word for "unknown". Unless `serve.openrlhf_unknown` is set, a solution without a score fails the request, and
after the last try the training ends. If it is set, the solution gets that number, and `extra_logs.genprm_unknown`
counts it; a full queue still fails the request, because another try helps there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from genprm.config import ServeConfig
from genprm.errors import DataError
from genprm.serve.answers import Unknown
from genprm.serve.dialects.base import Asked, Body, Dialect, Reply, Result, refused
from genprm.serve.dialects.rendered import question_of, response_of


class Queries(Body):
    """Prompts rendered by a chat template, and queries: each its prompt and the response, with special tokens."""

    query: tuple[str, ...]
    prompts: tuple[str, ...]
    labels: tuple[Any, ...] = ()


def read(body: Queries) -> list[Asked | Unknown]:
    """One solution per query."""
    if len(body.query) != len(body.prompts):
        raise DataError(f"{len(body.query)} queries and {len(body.prompts)} prompts do not match")
    return [_one(query, prompt) for query, prompt in zip(body.query, body.prompts, strict=True)]


def _one(query: str, prompt: str) -> Asked | Unknown:
    response = response_of(query, prompt)
    if response is None:
        return Unknown("unreadable", "the query does not contain its prompt, nor an assistant's turn")
    return Asked(question_of(prompt), response)


def write(body: Queries, results: Sequence[Result], config: ServeConfig) -> Reply:
    """`rewards` and `scores` are equal; every sample has the same keys of numbers in `extra_logs`."""
    scores, unknown = [], []
    for result in results:
        score = result.score(config)
        if score is None:
            assert result.unknown is not None
            if config.openrlhf_unknown is None or result.unknown.kind == "overloaded":
                return refused(result, result.unknown)
        scores.append(config.openrlhf_unknown if score is None else score)
        unknown.append(0.0 if score is not None else 1.0)
    return Reply({"rewards": scores, "scores": scores, "extra_logs": {"genprm_unknown": unknown}})


DIALECT = Dialect("openrlhf", "/openrlhf", Queries, 170.0, read, write)
