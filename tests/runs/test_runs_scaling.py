"""Chains of test-time scaling with scripted engines: what a fault leaves pending, and what is made of the rest."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sums

from genprm.config import RunConfig, load_config
from genprm.errors import (
    ContextOverflow,
    EngineError,
    EngineRequestError,
    EngineTimeout,
    RunIncomplete,
    SandboxDied,
    SandboxError,
)
from genprm.identity import rows_digest
from genprm.records import VerifyItem, VoteStatus
from genprm.runs.scaling import given_chain, refinement_chain, run_chain, verified_rows, with_steps
from genprm.sources import load_problems
from genprm.store import RunReader


@pytest.fixture(autouse=True)
def engines() -> Iterator[None]:
    sums.register()
    sums.calls.clear()
    yield
    sums.failing.clear()


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    problems = sums.write_problems(tmp_path / "problems.jsonl", 4)
    return load_config(None, model=RunConfig, base=sums.config(problems))


async def refine(config: RunConfig, folder: Path) -> RunReader:
    chain = refinement_chain(config, {"refinements": config.roles.verifier}, name="refine", seed=1)
    return await run_chain(chain, load_problems(config.problems), config, folder)


async def test_a_critic_that_fails_leaves_problems_pending_and_no_unchanged_solutions(
    tmp_path: Path, config: RunConfig
) -> None:
    sums.failing["verifier"] = EngineTimeout("too slow")
    with pytest.raises(RunIncomplete, match="4 problems are pending: EngineTimeout: too slow"):
        await refine(config, tmp_path / "run")
    assert list(RunReader(tmp_path / "run").rows("refinements", partial=True)) == []
    sums.failing.clear()
    found = await refine(config, tmp_path / "run")
    undisturbed = await refine(config, tmp_path / "undisturbed")
    rows = list(found.rows("refinements"))
    assert len(rows) == 4
    assert rows_digest(rows) == rows_digest(list(undisturbed.rows("refinements")))


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize(
    ("fault", "advice"),
    [
        (EngineTimeout("too slow"), "run again"),
        (ContextOverflow("too long"), "solutions.max_tokens"),
        (EngineRequestError("no such turn"), "tokenizer"),
        (SandboxDied("gone"), "genprm doctor"),
    ],
    ids=repr,
)
async def test_pending_problems_end_with_the_remedy_of_their_fault(
    tmp_path: Path, config: RunConfig, fault: EngineError | SandboxError, advice: str, kept: bool
) -> None:
    """The run directory is named if it stays: without --run-dir it is gone when the message is read."""
    sums.failing["verifier" if isinstance(fault, SandboxError) else "policy"] = fault
    chain = refinement_chain(config, {"refinements": config.roles.verifier}, name="refine", seed=1)
    with pytest.raises(RunIncomplete, match=str(fault)) as caught:
        await run_chain(chain, load_problems(config.problems), config, tmp_path / "run", kept=kept)
    assert advice in caught.value.hint
    assert ("kept in the run directory" in caught.value.hint) is kept


def items(count: int) -> list[VerifyItem]:
    steps = ("Step 1: We add the numbers.", "Step 2: The answer is \\boxed{3}.")
    return [VerifyItem(id=f"v{i}", problem=f"What is {i} + 3?", steps=steps) for i in range(count)]


async def test_a_solution_that_a_lasting_fault_lost_has_votes_that_say_so(
    tmp_path: Path, config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Among others that work: it is counted as failed, and never left out."""
    verifier = config.roles.verifier
    assert verifier is not None
    judge = sums.verifier

    def picky() -> Any:
        engine = judge()
        respond = engine._respond  # type: ignore[attr-defined]

        def refuse(request: Any) -> Any:
            if "What is 1 + 3?" in "\n".join(message.content for message in request.messages):
                raise EngineRequestError("too long")
            return respond(request)

        engine._respond = refuse  # type: ignore[attr-defined]
        return engine

    monkeypatch.setattr(sums, "verifier", picky)
    chain = given_chain(config, verifier, name="verify")
    reader = await run_chain(
        chain, [with_steps(item) for item in items(3)], config, tmp_path / "run", total=3
    )
    rows = list(verified_rows(reader, "verify", items(3), votes=2))
    assert [row.item_id for row in rows] == ["v0", "v1", "v2"]
    assert [row.first_error for row in rows] == [-1, None, 1]
    assert {vote.status for verdict in rows[1].verdicts for vote in verdict.votes} == {
        VoteStatus.ENGINE_FAILED
    }
    assert rows[1].verdicts[0].votes[1].reason == "EngineRequestError: too long"
