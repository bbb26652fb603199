"""Scorers with a reward whose verdicts the steps' own words decide."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from genprm import EngineUnavailable, Scorer, ScriptedReward
from genprm.rl import settings


def by_words(problem: str, steps: Sequence[str], index: int) -> float | None:
    """`good` 0.9, `bad` 0.1, `odd` unknown, `down` a fault that may pass; other steps 0.5."""
    step = steps[index]
    if "down" in step:
        raise EngineUnavailable("the engine is down")
    if "odd" in step:
        return None
    return 0.9 if "good" in step else 0.1 if "bad" in step else 0.5


GOOD, BAD = "A good start.\n\nA good end.", "A good start.\n\nA bad end."
ODD, DOWN = "A good start.\n\nAn odd end.", "A good start.\n\nThe end is down."


@pytest.fixture
def scorer() -> Iterator[Scorer]:
    """A scorer that is also the one that adapters of this process ask."""
    made = Scorer(ScriptedReward(by_words), score="min")
    settings.use(made)
    yield made
    made.close()
    settings.use(Scorer("http://127.0.0.1:9"))
