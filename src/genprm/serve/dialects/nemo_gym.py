"""NeMo-Gym: `POST /verify` of a resources server. It has no time-out and does not try again.

Its answer is the request with the reward added. A reward must be a number there, so a solution without a score has 0.0
next to `mask_sample: true`, with which NeMo-Gym excludes it, and says why in `failure_kind` and `failure_reason`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from genprm.config import ServeConfig
from genprm.serve.answers import Unknown
from genprm.serve.dialects.base import Asked, Body, Dialect, Reply, Result
from genprm.serve.dialects.rendered import content_text, last_turn


class Rollout(Body):
    """What was asked of the policy, and its response in OpenAI's Responses format; the row's other keys as well."""

    responses_create_params: dict[str, Any]
    response: dict[str, Any]


def read(body: Rollout) -> list[Asked | Unknown]:
    """The last user message, and the texts of the response's messages; reasoning and tool calls do not count."""
    asked = body.responses_create_params.get("input")
    problem = (
        asked if isinstance(asked, str) else last_turn(asked if isinstance(asked, list) else [], "user")
    )
    output = body.response.get("output")
    items = output if isinstance(output, list) else []
    texts = [
        content_text(item.get("content"))
        for item in items
        if isinstance(item, dict) and item.get("type") == "message"
    ]
    return [Asked(problem, "\n\n".join(text for text in texts if text))]


def write(body: Rollout, results: Sequence[Result], config: ServeConfig) -> Reply:
    """The row with its reward; `step_rewards` are those of the steps, null where unknown."""
    (result,) = results
    score, unknown = result.score(config), result.unknown
    return Reply(
        {
            **body.model_dump(mode="json"),
            "reward": 0.0 if score is None else score,
            "mask_sample": score is None,
            "failure_kind": f"genprm:{unknown.kind}" if unknown is not None else None,
            "failure_reason": unknown.detail if unknown is not None else None,
            "step_rewards": result.rewards,
        }
    )


DIALECT = Dialect("nemo_gym", "/verify", Rollout, math.inf, read, write)
