from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genprm.runs import Silent, Stage, run_stage
from genprm.records import Dropped, Problem, StageOutput
from genprm.store import RunStore


def problems(count: int) -> list[Problem]:
    return [Problem(id=str(index), text=f"problem {index}") for index in range(count)]


class Work:
    """A stage that drops every third item and can fail at a chosen call."""

    def __init__(self, fail_at: int = -1) -> None:
        self.calls: list[list[str]] = []
        self.fail_at = fail_at

    async def __call__(self, items: Sequence[Problem]) -> StageOutput[Problem]:
        if len(self.calls) == self.fail_at:
            raise RuntimeError("killed")
        self.calls.append([item.id for item in items])
        dropped = [
            Dropped(item_id=item.id, stage="s", reason="third") for item in items if int(item.id) % 3 == 0
        ]
        return StageOutput(tuple(item for item in items if int(item.id) % 3), tuple(dropped))


def stage(work: Work, decided_by: object = None) -> Stage[Problem, Problem]:
    return Stage("s", Problem, decided_by, work)


@settings(max_examples=20, deadline=None)
@given(count=st.integers(0, 20), size=st.integers(1, 7), fail_at=st.integers(0, 5))
async def test_a_stopped_stage_goes_on_where_it_stopped(
    tmp_path_factory: pytest.TempPathFactory, count: int, size: int, fail_at: int
) -> None:
    items = problems(count)
    with RunStore(tmp_path_factory.mktemp("run")) as store:
        first = Work(fail_at)
        with contextlib.suppress(RuntimeError):
            await run_stage(store, stage(first), items, shard_size=size, progress=Silent())
        second = Work()
        rows = await run_stage(store, stage(second), items, shard_size=size, progress=Silent())
        summary = store.stage("s", Problem).summary()
    assert [row.id for row in rows] == [item.id for item in items if int(item.id) % 3]
    done = [name for call in first.calls + second.calls for name in call]
    assert sorted(done) == sorted(item.id for item in items), "every item is computed once"
    assert summary is not None
    assert summary.reasons.get("third", 0) == sum(int(item.id) % 3 == 0 for item in items)


async def test_a_changed_option_computes_anew_and_leaves_no_old_rows(tmp_path: Path) -> None:
    with RunStore(tmp_path) as store:
        await run_stage(store, stage(Work(), {"seed": 1}), problems(6), shard_size=2, progress=Silent())
        again = Work()
        rows = await run_stage(
            store, stage(again, {"seed": 2}), problems(4), shard_size=2, progress=Silent()
        )
        assert (
            [row.id for row in store.stage("s", Problem).all_rows()]
            == [row.id for row in rows]
            == ["1", "2"]
        )
    assert len(again.calls) == 2


async def test_one_changed_item_recomputes_its_shard_alone(tmp_path: Path) -> None:
    items = problems(6)
    with RunStore(tmp_path) as store:
        await run_stage(store, stage(Work()), items, shard_size=2, progress=Silent())
        items[3] = Problem(id="4", text="another")
        again = Work()
        await run_stage(store, stage(again), items, shard_size=2, progress=Silent())
    assert again.calls == [["2", "4"]]
