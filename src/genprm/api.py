"""The synchronous front of the library: one call, no event loop in sight."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from genprm.config import SandboxConfig, VerifyConfig
from genprm.engines import Engine
from genprm.records import Verification
from genprm.rewards import Verifier, VerifyItem, raise_if_all_failed
from genprm.runs.resources import Resources

ResultT = TypeVar("ResultT")


def verify(
    engine: Engine,
    problem: str,
    steps: Sequence[str],
    *,
    votes: int = 1,
    options: VerifyConfig | None = None,
    sandbox: SandboxConfig | None = None,
    seed: int = 0,
) -> Verification:
    """Verify one solution.

    Args:
        engine: serves the verifier model.
        problem: the problem x.
        steps: the T paragraphs of the solution, at least one.
        votes: N, the verification paths for each step (equations 6, 7).
        options: everything else; `votes` wins over the one in it.
        sandbox: where the verifier's code runs.
        seed: with an engine that honours seeds, equal seeds give equal rewards.

    Returns:
        One verdict for each step, `first_error`, and the solution's scores.

    Raises:
        EngineUnavailable, SandboxError: where nothing could be verified at all; failures of single votes
            are in the verdicts.
    """
    item = VerifyItem(id="solution", problem=problem, steps=tuple(steps))
    return verify_many(engine, [item], votes=votes, options=options, sandbox=sandbox, seed=seed)[0]


def verify_many(
    engine: Engine,
    items: Sequence[VerifyItem],
    *,
    votes: int = 1,
    options: VerifyConfig | None = None,
    sandbox: SandboxConfig | None = None,
    seed: int = 0,
    concurrency: int = 256,
) -> list[Verification]:
    """Verify many solutions concurrently; the answer has the items' order. See `verify`."""
    chosen = (options or VerifyConfig()).model_copy(update={"votes": votes})

    async def run() -> list[Verification]:
        async with Resources(sandbox or SandboxConfig()) as resources:
            box = await resources.sandbox()
            verifier = Verifier(engine, box, chosen, seed=seed, concurrency=concurrency)
            rows = await verifier.verify_many(items)
            raise_if_all_failed(rows)
            return rows

    return _run(run())


def _run(work: Coroutine[Any, Any, ResultT]) -> ResultT:
    """Run a coroutine to its end, also where a loop runs already (a notebook's cell)."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with ThreadPoolExecutor(max_workers=1) as pool:
        return pool.submit(asyncio.run, work).result()
