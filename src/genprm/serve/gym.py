"""What NeMo-Gym asks a resources server beside `/verify`: sessions, which hold nothing here, and totals of rewards."""

from __future__ import annotations

import asyncio
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from pydantic import BaseModel, ConfigDict

from genprm.serve.failures import REFUSALS
from genprm.serve.wire import read

TASK, ROLLOUT = "_ng_task_index", "_ng_rollout_index"
_SPREAD_FROM = 2
_LARGEST = 1e150
_MOST_ROLLOUTS = 1_000_000


class Session(BaseModel):
    """The beginning or the end of a rollout; agents send their row, environment servers an identifier."""

    model_config = ConfigDict(frozen=True, extra="allow")

    resources_session_id: str | None = None


class VerifyResponses(BaseModel):
    """`POST /aggregate_metrics`: answers of `/verify`, each with `_ng_task_index` and `_ng_rollout_index`."""

    model_config = ConfigDict(frozen=True)

    verify_responses: tuple[dict[str, Any], ...]


def add_gym(app: FastAPI, body_of: Any) -> None:
    """Add the routes.

    Args:
        body_of: makes the OpenAPI description of a request's body from its model.
    """
    posts: tuple[tuple[str, Any, type[BaseModel]], ...] = (
        ("/seed_session", session, Session),
        ("/close_session", session, Session),
        ("/aggregate_metrics", aggregate, VerifyResponses),
    )
    for path, endpoint, body in posts:
        app.add_api_route(
            path,
            endpoint,
            methods=["POST"],
            responses=REFUSALS,
            openapi_extra=body_of(body),
            response_model=None,
            tags=["dialects"],
        )
    app.add_api_route("/reverify_mode", reverify_mode, methods=["GET"], tags=["dialects"])


async def session(request: Request) -> dict[str, Any]:
    """NeMo-Gym begins or ends a rollout. Nothing is kept for one, so both succeed, however often they come."""
    found = read(Session, await request.body())
    return (
        {} if found.resources_session_id is None else {"resources_session_id": found.resources_session_id}
    )


async def reverify_mode() -> str:
    """Answers depend on the request alone, so that rollouts may be verified again later."""
    return "stateless"


async def aggregate(request: Request) -> dict[str, Any]:
    """Mean, maximum, minimum, median and standard deviation of every number, for each task and over all rollouts.

    Rollouts with `mask_sample` are counted in `masked_num_rollouts` and are in no other figure: their reward is not
    known. A figure without any rollout is left out.
    """
    rows = read(VerifyResponses, await request.body(), most=_MOST_ROLLOUTS).verify_responses
    return await asyncio.to_thread(_totals, rows)  # of many rows they take a while


def _totals(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    tasks: dict[int, list[Mapping[str, Any]]] = defaultdict(list)
    repeats: dict[int, list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        tasks[_index(row, TASK)].append(row)
        repeats[_index(row, ROLLOUT)].append(row)
    overall = _figures(rows) if rows else {}
    return {
        "group_level_metrics": [{TASK: task, **_figures(tasks[task])} for task in sorted(tasks)],
        "agent_metrics": overall,
        "key_metrics": {name: value for name, value in overall.items() if name.startswith("mean/")},
        "repeat_level_metrics": [
            {ROLLOUT: repeat, **_figures(repeats[repeat])} for repeat in sorted(repeats)
        ],
    }


def _index(row: Mapping[str, Any], name: str) -> int:
    found = row.get(name, 0)
    return found if type(found) is int else 0


def _figures(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    known = [row for row in rows if not row.get("mask_sample")]
    measured: dict[str, list[float]] = defaultdict(list)
    for row in known:
        for name, value in row.items():
            if _is_measure(name) and _is_number(value):
                measured[name].append(float(value))
    found: dict[str, float] = {}
    for name, values in measured.items():
        found[f"mean/{name}"] = statistics.fmean(values)
        found[f"max/{name}"] = max(values)
        found[f"min/{name}"] = min(values)
        found[f"median/{name}"] = statistics.median(values)
        if len(values) >= _SPREAD_FROM:
            found[f"std/{name}"] = statistics.stdev(values)
    return {**found, "num_rollouts": len(rows), "masked_num_rollouts": len(rows) - len(known)}


def _is_measure(name: str) -> bool:
    return not name.startswith("_") and name != "mask_sample"


def _is_number(value: Any) -> bool:
    """Whether it is one, and not so large that totals would be none."""
    return isinstance(value, bool | int | float) and abs(value) < _LARGEST
