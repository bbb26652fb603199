"""How much of a chain an earlier run has finished, without touching its directory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

from genprm.identity import shard_key
from genprm.records import Problem
from genprm.runs.stage import Chain, problems_key
from genprm.store import StageStore


def finished_problems(
    chain: Chain, problems: Iterable[Problem], shard_size: int, folder: Path
) -> Counter[str]:
    """By stage, how many problems are settled in shards that a run of this chain would take over.

    Shards are found by their keys, wherever they wait; whether their bytes are whole is for the run to see.
    """
    decides = {stage.name: stage.decides() for stage in chain.stages}
    stores = {stage.name: StageStore(folder, stage.name, stage.row_type) for stage in chain.stages}
    found: Counter[str] = Counter()
    source, number = iter(problems), 0
    while batch := list(islice(source, shard_size)):
        root = problems_key(batch)
        keys: dict[str, str] = {}
        for stage in chain.stages:
            parents = [keys[need] for need in stage.needs] or [root]
            keys[stage.name] = shard_key(stage.name, decides[stage.name], parents)
            meta = stores[stage.name].peek(number, keys[stage.name])
            if meta is not None:
                found[stage.name] += meta.problems - len(meta.unsettled)
        number += 1
    return found
