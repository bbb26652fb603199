"""TRL: a reward function for `GRPOTrainer(reward_funcs=...)`. Read in trl 1.16.0 (`trl/trainer/grpo_trainer.py`).

TRL calls `reward(prompts=, completions=, completion_ids=, **columns, trainer_state=, log_extra=, log_metric=)`, awaits it
if it is a coroutine function, or an object with such a `__call__`, and wants one number or None per completion. A
completion for which every reward function said None is left out of its group's mean, and its advantage is 0.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from genprm.rl import settings
from genprm.rl.scorer import Scored, Scorer
from genprm.serve.dialects.rendered import last_turn, plain, question_of


class GenPRMReward:
    """A reward function: the solution's score, or None if it is unknown.

    Logged beside it: the columns `genprm_steps` (the step rewards, as JSON) and `genprm_unknown` (why there is no score),
    and the metrics `genprm/unknown` and `genprm/unknown/KIND`, shares of the batch.

    Args:
        scorer: asks for the scores; one from the environment (`genprm.rl.settings`) unless given.
        question: the column that holds the problem; the prompt's last user turn unless given.
    """

    def __init__(self, scorer: Scorer | None = None, *, question: str | None = None) -> None:
        self.__name__ = "genprm"
        self._scorer = scorer
        self._question = question

    async def __call__(
        self,
        *,
        prompts: Sequence[Any],
        completions: Sequence[Any],
        log_extra: Callable[[str, list[Any]], None] | None = None,
        log_metric: Callable[[str, float], None] | None = None,
        **columns: Any,
    ) -> list[float | None]:
        """One reward or None per completion; see the module.

        Args:
            prompts, completions: texts, or chats as lists of messages.
        """
        problems = columns[self._question] if self._question else map(question_of, prompts)
        pairs = list(zip(problems, map(_text, completions), strict=True))
        found = await (self._scorer or settings.scorer()).score_many(pairs)
        if log_extra is not None:
            log_extra("genprm_steps", [json.dumps(scored.rewards) for scored in found])
            log_extra("genprm_unknown", [scored.unknown or "" for scored in found])
        if log_metric is not None:
            for name, share in shares(found).items():
                log_metric(name, share)
        return [scored.score for scored in found]


def shares(found: Sequence[Scored]) -> dict[str, float]:
    """Which share of a batch is unknown, in all and by kind."""
    kinds = Counter(scored.unknown for scored in found if scored.unknown is not None)
    named = {f"genprm/unknown/{kind}": count / len(found) for kind, count in sorted(kinds.items())}
    return {"genprm/unknown": kinds.total() / max(len(found), 1), **named}


def _text(completion: Any) -> str:
    return plain(completion) if isinstance(completion, str) else last_turn(completion, "assistant")
