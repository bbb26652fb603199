"""What an executor makes of an engine that is down for all, when not every problem comes as far as the engine."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import sums
from faulty_chain import execute, local, problems

from genprm.config import RunConfig, load_config
from genprm.errors import EngineRequestError, EngineUnavailable, RunIncomplete
from genprm.identity import Decides
from genprm.records import Dropped, Lost, Problem, Solution, StageOutput
from genprm.runs import Chain, Resources, Shard
from genprm.runs.executor import OUTAGE_AFTER
from genprm.runs.scaling import refinement_chain, run_chain
from genprm.sources import load_problems
from genprm.store import RunReader


@dataclass(frozen=True)
class Sieve:
    """Makes one row a problem; every fourth problem it drops."""

    name: str = "first"
    needs: tuple[str, ...] = ()
    row_type: type[Solution] = Solution

    def decides(self) -> Decides:
        return Decides(options=0)

    async def run(self, shard: Shard, resources: Resources) -> StageOutput[Solution]:
        rows, dropped = [], []
        for problem in shard.problems:
            if int(problem.id[1:]) % 4 == 0:
                dropped.append(
                    Dropped(item_id=problem.id, problem_id=problem.id, stage="first", reason="easy")
                )
            else:
                rows.append(Solution(id=problem.id, problem_id=problem.id, steps=("one step",)))
        return StageOutput(tuple(rows), tuple(dropped))


@dataclass
class Key:
    """Whether the server takes it; it expires after so many calls."""

    lasts: int
    retryable: bool = False
    calls: int = 0


@dataclass(frozen=True)
class Asking:
    """Asks a server about each row of the stage before."""

    key: Key
    name: str = "second"
    needs: tuple[str, ...] = ("first",)
    row_type: type[Solution] = Solution

    def decides(self) -> Decides:
        return Decides(options=0)

    async def run(self, shard: Shard, resources: Resources) -> StageOutput[Solution]:
        rows, lost = [], []
        for row in shard.of("first", Solution):
            await asyncio.sleep(0)
            self.key.calls += 1
            if self.key.calls <= self.key.lasts:
                rows.append(row)
            else:
                reason, retryable = "EngineRequestError", self.key.retryable
                lost.append(
                    Lost(problem_id=row.problem_id, reason=reason, detail="401", retryable=retryable)
                )
        return StageOutput(tuple(rows), lost=tuple(lost))


COUNT = 60
ASKED = [problem.id for problem in problems(COUNT) if int(problem.id[1:]) % 4]


async def run(folder: Path, key: Key, given: list[Problem] | None = None) -> RunReader:
    work = Chain("synthesis", (Sieve(), Asking(key)))
    await execute(local, folder, work, given or problems(COUNT), shard_size=4)
    return RunReader(folder)


@pytest.mark.parametrize("retryable", [True, False])
async def test_problems_that_an_earlier_stage_dropped_do_not_hide_an_outage(
    tmp_path: Path, retryable: bool
) -> None:
    key = Key(lasts=0, retryable=retryable)
    with pytest.raises(EngineUnavailable, match="problems were all lost: EngineRequestError: 401"):
        await run(tmp_path / "run", key)
    assert OUTAGE_AFTER <= key.calls <= OUTAGE_AFTER + 9, "it stops soon, and tries nothing twice"
    found = await run(tmp_path / "run", Key(lasts=COUNT))
    assert [row.id for row in found.rows("second")] == ASKED
    assert list(found.dropped("second")) == []


async def test_a_key_that_expires_in_mid_run_drops_nothing(tmp_path: Path) -> None:
    """Those that find it out are asked again by the next run, as are those that were not reached."""
    key = Key(lasts=20)
    with pytest.raises(EngineUnavailable, match="401"):
        await run(tmp_path / "run", key)
    assert len(list(RunReader(tmp_path / "run").rows("second", partial=True))) == 20
    again = Key(lasts=COUNT)
    found = await run(tmp_path / "run", again)
    assert [row.id for row in found.rows("second")] == ASKED
    assert again.calls == len(ASKED) - 20
    assert list(found.dropped("second")) == []


@pytest.mark.parametrize("lasts", [24, 30, 34])
async def test_a_key_that_stays_refused_in_the_next_run_drops_nothing_either(
    tmp_path: Path, lasts: int
) -> None:
    """What an earlier run got from the engine does not say that it works now."""
    with pytest.raises((EngineUnavailable, RunIncomplete), match="401"):
        await run(tmp_path / "run", Key(lasts=lasts))
    with pytest.raises((EngineUnavailable, RunIncomplete), match="401"):
        await run(tmp_path / "run", Key(lasts=0))
    found = await run(tmp_path / "run", Key(lasts=COUNT))
    assert [row.id for row in found.rows("second")] == ASKED
    assert list(found.dropped("second")) == []


async def test_a_few_lasting_faults_are_tried_once_more_and_then_dropped(tmp_path: Path) -> None:
    key, some = Key(lasts=3), problems(8)
    found = await run(tmp_path / "run", key, some)
    assert len(list(found.rows("second"))) == 3
    assert {row.reason for row in found.dropped("second")} == {"engine_failed"}
    assert key.calls == 6 + 3, "three are asked again"


@pytest.fixture
def engines() -> Iterator[None]:
    sums.register()
    sums.calls.clear()
    yield
    sums.failing.clear()


async def test_a_critic_that_refuses_everything_is_no_finished_refinement(
    tmp_path: Path, engines: None
) -> None:
    path = sums.write_problems(tmp_path / "problems.jsonl", 12)
    config = load_config(None, ["store.shard_size=2"], model=RunConfig, base=sums.config(path))
    chain = refinement_chain(config, {"refinements": config.roles.verifier}, name="refine", seed=1)
    given: Any = load_problems(config.problems)
    sums.failing["verifier"] = EngineRequestError("401")
    with pytest.raises(EngineUnavailable, match="401"):
        await run_chain(chain, given, config, tmp_path / "run")
    sums.failing.clear()
    found = await run_chain(chain, given, config, tmp_path / "run")
    assert len(list(found.rows("refinements"))) == 12
