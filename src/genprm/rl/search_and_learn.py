"""search-and-learn: a process reward model for its search functions. Read at commit 6f81cac (`src/sal/`).

    prm = GenPRM()
    best_of_n(x, config, llm, prm)            # or beam_search, dvts

Its functions call `prm.score(questions, outputs)` with a list of outputs per question, want the step scores of each, and
aggregate them with the config's `agg_strategy` (`src/sal/utils/score.py`). Steps are paragraphs there.

Unknown: an output without a score has the one step score minus infinity, which every strategy keeps, so it is chosen
only if there is no other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import islice
from typing import Any

from genprm.rl import settings
from genprm.rl.scorer import Scorer


class GenPRM:
    """Scores outputs.

    Args:
        scorer: asks for the scores, best with `steps="paragraphs"`; one from the environment (`genprm.rl.settings`)
            unless given.
        search_config: of search-and-learn; not needed.
    """

    def __init__(self, scorer: Scorer | None = None, *, search_config: Any = None) -> None:
        self.search_config = search_config
        self._scorer = scorer

    def score(self, questions: Sequence[str], outputs: Sequence[Sequence[str]]) -> list[list[list[float]]]:
        """The step scores of each output of each question."""
        pairs = [
            (question, text) for question, texts in zip(questions, outputs, strict=True) for text in texts
        ]
        found = iter((self._scorer or settings.scorer()).score_many_sync(pairs))
        return [
            [
                [-math.inf]
                if one.score is None
                else [reward for reward in one.rewards if reward is not None]
                for one in islice(found, len(texts))
            ]
            for texts in outputs
        ]
