"""What every executor promises, whatever happens to it on the way. A new one is added to the fixture `executor`."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from faulty_chain import (
    STAGES,
    Maker,
    Notes,
    Plan,
    Recorder,
    chain,
    execute,
    local,
    problems,
    rows_of,
    settled,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from genprm.errors import EngineUnavailable, GenPRMError, RunIncomplete
from genprm.records import Problem
from genprm.runs.executor import OUTAGE_AFTER
from genprm.store import RunReader, StageSummary


@pytest.fixture(scope="module", params=["local", pytest.param("ray", marks=pytest.mark.slow)])
def executor(request: pytest.FixtureRequest) -> Maker:
    """Makes executors of one kind after the other."""
    if request.param == "local":
        return local
    made: Maker = request.getfixturevalue("on_ray")
    return made


COUNT = 10


@pytest.fixture
def notes(tmp_path: Path) -> Notes:
    return Notes.make(tmp_path / "notes")


@pytest.fixture(scope="module")
def fault_free(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """The rows of `COUNT` problems when nothing goes wrong."""
    folder = tmp_path_factory.mktemp("fault-free")
    work = chain(Notes.make(folder / "notes"))
    asyncio.run(execute(local, folder / "run", work, problems(COUNT)))
    return rows_of(folder / "run")


def only_shard(stage: str, shard: int, shard_size: int = 3) -> set[tuple[str, str]]:
    batch = problems(COUNT)[shard * shard_size : (shard + 1) * shard_size]
    return {(stage, problem.id) for problem in batch}


def without_costs(summary: StageSummary) -> dict[str, object]:
    """Costs are added up in the order in which shards finish, and rounded on the way."""
    return summary.model_dump(exclude={"usage", "seconds"})


def new_calls(notes: Notes, before: Counter[tuple[str, str]]) -> set[tuple[str, str]]:
    """What was worked on since then; nothing twice."""
    made = notes.calls() - before
    assert set(made.values()) <= {1}, made
    return set(made)


# ---------------------------------------------------------------- the order of rows, laziness


@settings(max_examples=25, deadline=None)
@given(shard_size=st.integers(1, 12), in_flight=st.integers(1, 5), count=st.integers(0, COUNT))
async def test_rows_come_in_the_problems_order_for_any_shards(
    executor: Maker,
    tmp_path_factory: pytest.TempPathFactory,
    fault_free: dict[str, tuple[list[tuple[str, str]], object]],
    shard_size: int,
    in_flight: int,
    count: int,
) -> None:
    folder = tmp_path_factory.mktemp("run")
    work = chain(Notes.make(folder / "notes"))
    summaries = await execute(
        executor, folder / "run", work, problems(count), shard_size=shard_size, in_flight=in_flight
    )
    wanted = {problem.id for problem in problems(count)}
    made = rows_of(folder / "run")
    for stage, (rows, dropped) in fault_free.items():
        assert made[stage][0] == [row for row in rows if row[1] in wanted]
        assert made[stage][1] == [row for row in dropped if row[1] in wanted]
        summary = summaries[stage]
        assert (summary.problems, summary.rows, summary.dropped) == (count, *map(len, made[stage]))
        assert (summary.complete, summary.pending) == (True, 0)
        assert summary.usage.requests == summary.rows
        assert summary.reasons == ({"fifth": summary.dropped} if summary.dropped else {})
    assert [problem.id for problem in RunReader(folder / "run").problems()] == [
        problem.id for problem in problems(count)
    ]


async def test_problems_are_read_only_as_fast_as_shards_begin(
    executor: Maker, tmp_path: Path, notes: Notes
) -> None:
    read = 0

    def source() -> Iterator[Problem]:
        nonlocal read
        for problem in problems(30):
            read += 1
            finished = sum(1 for stage, _ in notes.calls() if stage == "last")
            assert read <= finished + 2 * 3 + 3, "the shards in flight, and the one that begins"
            yield problem

    await execute(executor, tmp_path / "run", chain(notes), source())
    assert read == 30


async def test_progress_counts_every_problem_of_every_stage_once(
    executor: Maker, tmp_path: Path, notes: Notes
) -> None:
    notes.plan({"left/p4": ["lost"]})
    first, second = Recorder(), Recorder()
    await execute(executor, tmp_path / "run", chain(notes), problems(COUNT), progress=first)
    await execute(executor, tmp_path / "run", chain(notes), problems(COUNT), progress=second)
    assert {stage: first.done[stage] for stage in STAGES} == dict.fromkeys(STAGES, COUNT) | {
        "left": COUNT + 1
    }
    assert not first.reused
    assert {stage: second.reused[stage] for stage in STAGES} == dict.fromkeys(STAGES, COUNT)
    assert not second.done


# ---------------------------------------------------------------- what is finished stays finished


async def test_a_finished_run_computes_nothing(executor: Maker, tmp_path: Path, notes: Notes) -> None:
    first = await execute(executor, tmp_path / "run", chain(notes), problems(COUNT))
    before = notes.calls()
    assert set(before.values()) == {1}
    again = await execute(executor, tmp_path / "run", chain(notes), problems(COUNT))
    assert notes.calls() == before
    assert again.keys() == first.keys()
    for stage, summary in again.items():
        assert without_costs(summary) == without_costs(first[stage])
        assert summary.usage.requests == first[stage].usage.requests, "a finished shard keeps its cost"


@pytest.mark.parametrize("stage", STAGES)
async def test_an_exception_anywhere_costs_the_shards_in_work_alone(
    executor: Maker, tmp_path: Path, notes: Notes, stage: str, fault_free: dict[str, object]
) -> None:
    notes.plan({f"{stage}/p5": ["raise"]})
    with pytest.raises(EngineUnavailable, match="the whole stage fails") as caught:
        await execute(executor, tmp_path / "run", chain(notes), problems(COUNT), in_flight=1)
    assert "Finished work is kept" in caught.value.hint
    done, before = settled(tmp_path / "run", problems(COUNT), 3), notes.calls()
    assert {("last", "p0"), ("last", "p2")} <= done
    await execute(executor, tmp_path / "run", chain(notes), problems(COUNT))
    assert not done & new_calls(notes, before)
    assert rows_of(tmp_path / "run") == fault_free


RUN = Path(__file__).parent / "faulty_chain.py"


def start(run: Path, notes: Notes, count: int) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, str(RUN), str(run), str(notes.folder), str(count)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


async def test_a_run_that_is_killed_again_and_again_ends_with_the_same_rows(
    executor: Maker, tmp_path: Path, notes: Notes, fault_free: dict[str, object]
) -> None:
    """kill -9 inside every stage, one process after the other; each continues where the last one stopped."""
    plan: Plan = {"first/p1": ["kill"], "left/p0": ["kill"], "right/p5": ["kill"], "last/p9": ["kill"]}
    notes.plan(plan)
    done: set[tuple[str, str]] = set()
    for _ in plan:
        before = notes.calls()
        with start(tmp_path / "run", notes, COUNT) as process:
            go(process)
            assert process.wait() == -9
        assert not done & set(notes.calls() - before), "nothing that was settled is computed again"
        done = settled(tmp_path / "run", problems(COUNT), 3)
    before = notes.calls()
    await execute(executor, tmp_path / "run", chain(notes), problems(COUNT))
    assert not done & new_calls(notes, before)
    assert rows_of(tmp_path / "run") == fault_free


async def test_two_processes_share_one_run(
    tmp_path: Path, notes: Notes, fault_free: dict[str, object]
) -> None:
    notes.plan({}, pause=0.02)
    with start(tmp_path / "run", notes, COUNT) as one, start(tmp_path / "run", notes, COUNT) as other:
        go(one)
        go(other)
        assert (one.wait(), other.wait()) == (0, 0)
        pids = [pid for several in notes.pids().values() for pid in several]
        assert set(pids) == {one.pid, other.pid}, "each does a part"
    assert set(notes.calls().values()) == {1}, "nothing is done twice"
    assert rows_of(tmp_path / "run") == fault_free


async def test_a_process_takes_over_from_one_that_is_killed(
    executor: Maker, tmp_path: Path, notes: Notes, fault_free: dict[str, object]
) -> None:
    notes.plan({}, pause=0.2)
    with start(tmp_path / "run", notes, COUNT) as process:
        go(process)
        while not notes.calls():
            assert process.poll() is None
            time.sleep(0.01)
        notes.plan({})
        running = asyncio.create_task(execute(executor, tmp_path / "run", chain(notes), problems(COUNT)))
        await asyncio.sleep(0.3)
        process.kill()
        await running
    assert rows_of(tmp_path / "run") == fault_free


# ---------------------------------------------------------------- changed options, problems and damage


@pytest.mark.parametrize(
    ("changed", "affected"),
    [
        ("first", {"first", "left", "right", "last"}),
        ("left", {"left", "last"}),
        ("right", {"right", "last"}),
        ("last", {"last"}),
    ],
)
async def test_a_changed_option_recomputes_the_stages_that_it_affects(
    executor: Maker, tmp_path: Path, notes: Notes, changed: str, affected: set[str]
) -> None:
    run = tmp_path / "run"
    await execute(executor, run, chain(notes), problems(COUNT))
    original, before = rows_of(run), notes.calls()
    await execute(executor, run, chain(notes, {changed: 1}), problems(COUNT))
    assert new_calls(notes, before) == {(stage, f"p{n}") for stage in affected for n in range(COUNT)}
    assert {stage for stage in STAGES if rows_of(run)[stage] != original[stage]} == affected
    before = notes.calls()
    await execute(executor, run, chain(notes), problems(COUNT))
    assert new_calls(notes, before) == set(), "the old options find their rows again"
    assert rows_of(run) == original


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("suffix", [".json", ".rows.jsonl", ".dropped.jsonl"])
@pytest.mark.parametrize("damage", ["deleted", "cut"])
async def test_one_damaged_file_recomputes_one_stage_of_one_shard(
    executor: Maker, tmp_path: Path, notes: Notes, stage: str, suffix: str, damage: str
) -> None:
    run = tmp_path / "run"
    await execute(executor, run, chain(notes), problems(COUNT))
    original, before = rows_of(run), notes.calls()
    (file,) = (run / "stages" / stage).glob(f"000001-*{suffix}")
    if damage == "deleted":
        file.unlink()
    elif file.stat().st_size == 0:
        file.write_bytes(b"{}\n")
    else:
        file.write_bytes(file.read_bytes()[:-4])
    told = Recorder()
    await execute(executor, run, chain(notes), problems(COUNT), progress=told)
    assert new_calls(notes, before) == only_shard(stage, 1)
    assert rows_of(run) == original
    if damage == "cut" or suffix != ".json":
        assert [f"stage '{stage}', shard 1: its " in note for note in told.notes] == [True]
    else:
        assert told.notes == [], "a shard without its meta file is one that was never finished"


async def test_a_repair_that_says_something_else_is_followed_by_the_stages_below(
    executor: Maker, tmp_path: Path, notes: Notes
) -> None:
    """An engine whose answers vary: later rows must not stand beside rows that they were not made from."""
    run = tmp_path / "run"
    await execute(executor, run, chain(notes), problems(COUNT))
    original, before = rows_of(run), notes.calls()
    for path in (run / "stages" / "first").glob("000001-*"):
        path.unlink()
    notes.answers("something else")
    told = Recorder()
    await execute(executor, run, chain(notes), problems(COUNT), progress=told)
    assert new_calls(notes, before) == {call for stage in STAGES for call in only_shard(stage, 1)}
    assert [
        f"stage '{stage}', shard 1: an earlier stage" in note
        for stage, note in zip(("left", "right", "last"), told.notes, strict=True)
    ] == [True] * 3
    changed = rows_of(run)
    shard = {problem_id for _, problem_id in only_shard("first", 1)}
    for stage, (rows, _) in original.items():
        others = [row for row in rows if row[1] not in shard]
        assert [row for row in changed[stage][0] if row[1] not in shard] == others
        assert changed[stage][0] != rows


async def test_fewer_problems_leave_no_surplus_shards(
    executor: Maker, tmp_path: Path, notes: Notes
) -> None:
    run = tmp_path / "run"
    await execute(executor, run, chain(notes), problems(COUNT))
    original = rows_of(run)
    fewer = await execute(executor, run, chain(notes), problems(4))
    for stage in STAGES:
        assert {row[1] for row in rows_of(run)[stage][0]} <= {"p0", "p1", "p2", "p3"}
        assert {path.name[:6] for path in (run / "stages" / stage).glob("0*")} == {"000000", "000001"}
        assert fewer[stage].problems == 4
    before = notes.calls()
    await execute(executor, run, chain(notes), problems(COUNT))
    assert new_calls(notes, before) == set()
    assert rows_of(run) == original


async def test_one_changed_problem_recomputes_its_shard_alone(
    executor: Maker, tmp_path: Path, notes: Notes
) -> None:
    await execute(executor, tmp_path / "run", chain(notes), problems(COUNT))
    before = notes.calls()
    changed = problems(COUNT)
    changed[4] = Problem(id="p4", text="another")
    await execute(executor, tmp_path / "run", chain(notes), changed)
    assert new_calls(notes, before) == {call for stage in STAGES for call in only_shard(stage, 1)}


async def test_a_run_that_stops_half_way_through_new_problems_is_not_complete(
    executor: Maker, tmp_path: Path, notes: Notes
) -> None:
    """Nobody reads new rows beside old ones as if they belonged together."""
    run = tmp_path / "run"
    await execute(executor, run, chain(notes), problems(COUNT))
    notes.plan({"last/q5": ["raise"]})
    others = [Problem(id=f"q{index}", text="another") for index in range(COUNT)]
    with pytest.raises(EngineUnavailable):
        await execute(executor, run, chain(notes), others, in_flight=1)
    for stage in STAGES:
        with pytest.raises(GenPRMError, match="not complete"):
            list(RunReader(run).rows(stage))


async def test_only_current_rows_are_in_a_stages_folder(
    executor: Maker, tmp_path: Path, notes: Notes
) -> None:
    run = tmp_path / "run"
    notes.plan({"left/p4": ["lost"], "first/p8": ["lost", "lost", "lost"]})
    with pytest.raises(RunIncomplete):
        await execute(executor, run, chain(notes), problems(COUNT))
    await execute(executor, run, chain(notes, {"right": 3}), problems(COUNT))
    for stage in STAGES:
        folder = run / "stages" / stage
        metas = [json.loads(path.read_text()) for path in folder.glob("*-*.json")]
        assert sorted(meta["number"] for meta in metas) == list(range(4))
        assert len(list(folder.iterdir())) == 3 * 4 + 1, "meta, rows and dropped rows, and stage.json"
    assert list((run / "leases").iterdir()) == []


# ---------------------------------------------------------------- faults


@pytest.mark.parametrize("stage", STAGES)
async def test_a_problem_that_is_lost_once_is_alone_tried_again_in_the_same_run(
    executor: Maker, tmp_path: Path, notes: Notes, stage: str, fault_free: dict[str, object]
) -> None:
    notes.plan({f"{stage}/p4": ["lost"]})
    told = Recorder()
    summaries = await execute(executor, tmp_path / "run", chain(notes), problems(COUNT), progress=told)
    twice = {call for call, count in notes.calls().items() if count == 2}
    assert twice == {(stage, "p4")}, "what follows had waited for it"
    assert max(notes.calls().values()) == 2
    assert rows_of(tmp_path / "run") == fault_free
    assert all(summary.complete and summary.pending == 0 for summary in summaries.values())
    assert any("tried once more" in note for note in told.notes)


@pytest.mark.parametrize(
    ("stage", "waiting"),
    [
        ("first", {"first", "left", "right", "last"}),
        ("left", {"left", "last"}),
        ("right", {"right", "last"}),
        ("last", {"last"}),
    ],
)
async def test_a_problem_that_stays_lost_is_pending_and_tried_by_the_next_run(
    executor: Maker,
    tmp_path: Path,
    notes: Notes,
    stage: str,
    waiting: set[str],
    fault_free: dict[str, object],
) -> None:
    run = tmp_path / "run"
    notes.plan({f"{stage}/p4": ["lost"] * 2, f"{stage}/p0": ["lost"] * 3})
    with pytest.raises(
        RunIncomplete, match="2 problems are pending: EngineTimeout: attempt 1 at p"
    ) as caught:
        await execute(executor, run, chain(notes), problems(COUNT))
    assert caught.value.retryable
    assert "What is settled is kept" in caught.value.hint
    for one in RunReader(run).stages():
        expected = 2 if one.stage in waiting else 0
        assert (one.pending, one.complete) == (expected, not expected), one.stage
    for name in waiting - {stage}:
        assert notes.calls()[name, "p4"] == 0, "later stages wait for it"
    partial = {row.problem_id for row in RunReader(run).rows("last", partial=True)}
    assert partial == {row[1] for row in fault_free["last"][0]} - {"p4", "p0"}  # type: ignore[index]
    before = notes.calls()
    with pytest.raises(GenPRMError, match="not complete"):
        list(RunReader(run).rows("last"))
    await execute(executor, run, chain(notes), problems(COUNT))
    made = notes.calls() - before
    assert made.pop((stage, "p0")) == 2
    later = {call for call in made if call[0] != stage}
    assert set(made) - later == {(stage, "p4")}
    assert later == {(name, problem) for name in waiting - {stage} for problem in ("p0", "p4")}
    assert rows_of(run) == fault_free


async def test_a_lasting_fault_of_one_problem_becomes_a_dropped_row(
    executor: Maker, tmp_path: Path, notes: Notes, fault_free: dict[str, object]
) -> None:
    """A prompt too long for the model: the stage works for others, so no later try can help."""
    run = tmp_path / "run"
    notes.plan({"left/p4": ["lasting"] * 9, "left/p0": ["lasting"] * 9})
    summaries = await execute(executor, run, chain(notes), problems(COUNT))
    dropped = {row.problem_id: row for row in RunReader(run).dropped("left") if row.reason != "fifth"}
    assert dropped.keys() == {"p0", "p4"}
    assert dropped["p4"].reason == "engine_failed"
    assert dropped["p4"].detail.startswith("EngineTimeout: attempt")
    assert dropped["p4"].usage.requests == 1
    assert summaries["left"].reasons["engine_failed"] == 2
    assert summaries["left"].complete
    for row in rows_of(run)["left"][0]:
        assert row[1] not in ("p0", "p4")
    before = notes.calls()
    await execute(executor, run, chain(notes), problems(COUNT))
    assert new_calls(notes, before) == set()


@pytest.mark.parametrize("kind", ["lost", "lasting"])
@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("shard_size", [1, 3, 20])
async def test_an_engine_that_fails_for_all_stops_the_run_early_and_settles_nothing(
    executor: Maker, tmp_path: Path, notes: Notes, kind: str, stage: str, shard_size: int
) -> None:
    run, count, in_flight = tmp_path / "run", 20 + 20 * (shard_size // 10), 2
    notes.plan({f"{stage}/{problem.id}": [kind] * 3 for problem in problems(count)})
    with pytest.raises(
        EngineUnavailable, match="problems were all lost: EngineTimeout: attempt 0"
    ) as caught:
        await execute(
            executor, run, chain(notes), problems(count), shard_size=shard_size, in_flight=in_flight
        )
    assert ("Finished work is kept" in caught.value.hint) == (stage != "first")
    tried = sum(number for (name, _), number in notes.calls().items() if name == stage)
    assert OUTAGE_AFTER <= tried <= OUTAGE_AFTER + (in_flight + 1) * shard_size < count + shard_size
    assert list(RunReader(run).rows(stage, partial=True)) == []
    assert list(RunReader(run).dropped(stage, partial=True)) == []
    shutil.rmtree(notes.folder)
    repaired = Notes.make(notes.folder)
    await execute(executor, run, chain(repaired), problems(count), shard_size=shard_size)
    assert {problem for name, problem in repaired.calls() if name == stage} == {
        problem.id for problem in problems(count)
    }
    assert set(repaired.calls().values()) == {1}


async def test_many_losses_beside_what_works_are_no_outage(
    executor: Maker, tmp_path: Path, notes: Notes
) -> None:
    run = tmp_path / "run"
    lost = [problem.id for problem in problems(60) if int(problem.id[1:]) % 20 < 2 * OUTAGE_AFTER]
    notes.plan({f"left/{problem}": ["lost"] * 2 for problem in lost})
    with pytest.raises(RunIncomplete, match=f"{len(lost)} problems are pending"):
        await execute(executor, run, chain(notes), problems(60), shard_size=20)
    before = notes.calls()
    await execute(executor, run, chain(notes), problems(60), shard_size=20)
    assert new_calls(notes, before) == {(stage, problem) for stage in ("left", "last") for problem in lost}


async def test_problems_that_are_always_lost_do_not_keep_a_run_from_the_others(
    executor: Maker, tmp_path: Path, notes: Notes
) -> None:
    run, hopeless = tmp_path / "run", [f"p{index}" for index in range(2 * OUTAGE_AFTER)]
    notes.plan({f"left/{problem}": ["lost"] * 9 for problem in hopeless} | {"left/p25": ["raise"]})
    with pytest.raises(EngineUnavailable, match="the whole stage fails"):
        await execute(executor, run, chain(notes), problems(30), shard_size=20, in_flight=1)
    for _ in range(2):
        with pytest.raises(RunIncomplete, match=f"{len(hopeless)} problems are pending"):
            await execute(executor, run, chain(notes), problems(30), shard_size=20, in_flight=1)
    found = {row.problem_id for row in RunReader(run).rows("left", partial=True)}
    assert "p25" in found
    assert not found.intersection(hopeless)


# ---------------------------------------------------------------- all of it at once

FAULTS = st.dictionaries(
    st.tuples(st.sampled_from(list(STAGES)), st.integers(0, COUNT - 1)).map(
        lambda pair: f"{pair[0]}/p{pair[1]}"
    ),
    st.lists(st.sampled_from(["lost", "lost", "raise"]), min_size=1, max_size=4),
    max_size=12,
)


@settings(max_examples=20, deadline=None)
@given(plan=FAULTS, shard_size=st.integers(1, 5), in_flight=st.integers(1, 3))
async def test_whatever_fails_enough_runs_end_with_the_rows_of_a_fault_free_one(
    executor: Maker,
    tmp_path_factory: pytest.TempPathFactory,
    fault_free: dict[str, object],
    plan: Plan,
    shard_size: int,
    in_flight: int,
) -> None:
    folder = tmp_path_factory.mktemp("run")
    run, notes = folder / "run", Notes.make(folder / "notes", plan)
    done: set[tuple[str, str]] = set()
    faults = sum(len(kinds) for kinds in plan.values())
    for _ in range(faults + 1):
        before = notes.calls()
        try:
            await execute(
                executor, run, chain(notes), problems(COUNT), shard_size=shard_size, in_flight=in_flight
            )
            finished = True
        except (RunIncomplete, EngineUnavailable):
            finished = False
        assert not done & set(notes.calls() - before), "no stage is given a problem that it has settled"
        now = settled(run, problems(COUNT), shard_size)
        assert done <= now, "what is settled stays settled"
        done = now
        if finished:
            break
    else:
        raise AssertionError("every run gets at least one fault behind it")
    assert rows_of(run) == fault_free
