"""Actors of a Ray cluster: they die while they have shards in their hands; nobody holds more than those."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from faulty_chain import Maker, Notes, Recorder, chain, execute, local, problems, rows_of, settled

from genprm.errors import ClusterError
from genprm.records import Problem
from genprm.runs import Chain
from genprm.runs.stages.problems import ProblemsStage

pytestmark = pytest.mark.slow
COUNT = 10


async def test_shards_of_actors_that_are_killed_are_taken_by_others(tmp_path: Path, on_ray: Maker) -> None:
    """kill -9 inside every stage; one run survives it all."""
    await execute(local, tmp_path / "local", chain(Notes.make(tmp_path / "a")), problems(COUNT))
    plan = {"first/p1": ["kill"], "left/p0": ["kill"], "right/p5": ["kill"], "last/p9": ["kill"]}
    notes, told = Notes.make(tmp_path / "notes", plan), Recorder()
    summaries = await execute(on_ray, tmp_path / "run", chain(notes), problems(COUNT), progress=told)
    assert rows_of(tmp_path / "run") == rows_of(tmp_path / "local")
    deaths = [note for note in told.notes if "died, and others take its shards" in note]
    assert 2 <= len(deaths) <= 4, "shards of one actor may meet their ends together"
    assert {name: row.problems for name, row in summaries.items()} == dict.fromkeys(summaries, COUNT)
    assert {name: row.rows for name, row in summaries.items() if name != "problems"} == {
        name: len(rows) for name, (rows, _) in rows_of(tmp_path / "run").items()
    }


async def test_a_shard_that_kills_every_actor_ends_the_run_and_keeps_the_rest(
    tmp_path: Path, on_ray: Maker
) -> None:
    notes = Notes.make(tmp_path / "notes", {"left/p7": ["kill"] * 9})
    with pytest.raises(ClusterError, match="4 actors died with shard 2 in their hands") as caught:
        await execute(on_ray, tmp_path / "run", chain(notes), problems(COUNT), in_flight=1)
    assert "memory" in caught.value.hint
    assert notes.calls()["left", "p7"] == 4
    assert {("last", "p0"), ("last", "p5")} <= settled(tmp_path / "run", problems(COUNT), 3)


async def test_the_drivers_memory_is_that_of_the_shards_in_work(tmp_path: Path, on_ray: Maker) -> None:
    count, warm, text = 8000, 3000, "x" * 40_000
    memory: list[int] = []

    class Source:
        def __iter__(self) -> Iterator[Problem]:
            for number in range(count):
                if number >= warm:
                    memory.append(psutil.Process().memory_info().rss)
                yield Problem(id=f"p{number}", text=f"{number} {text}")

    work = Chain("synthesis", (ProblemsStage(name="copy"),))
    summaries = await execute(on_ray, tmp_path / "run", work, Source(), shard_size=64)
    assert summaries["copy"].rows == count
    kept = (count - warm) * len(text)
    assert max(memory) - memory[0] < kept / 3, (
        "the text alone of what was read since then is three times that"
    )
