"""its_hub: an outcome and a process reward model for its search algorithms. Read in its_hub 1.2.0.

    BestOfN(orm=GenPRMOutcome(scorer))
    BeamSearch(sg, prm=GenPRMProcess(scorer), beam_width=4)

`BestOfN` awaits `orm.ascore(conversations, orchestrator=)` and wants one number per conversation
(`its_hub/core/algorithms/bon.py`). Beam search and the particle methods await `prm.ascore(prompt, responses)` with whole
responses so far, and want one number per response (`beam_search.py`, `particle_gibbs.py`), though the base class speaks
of steps; `step_rewards` gives those.

Unknown: a response without a score gets minus infinity: it is chosen only if there is no other. The particle methods
want numbers in [0, 1]; give `unknown` for them. If no response has a score, that is an error.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from genprm.aio import run_sync
from genprm.rl import settings
from genprm.rl.scorer import Scored, Scorer
from genprm.serve.dialects.rendered import content_text, last_turn


class GenPRMOutcome:
    """Scores whole conversations.

    Args:
        scorer: asks for the scores; one from the environment (`genprm.rl.settings`) unless given.
        unknown: the number of a response without a score.
    """

    def __init__(self, scorer: Scorer | None = None, *, unknown: float = -math.inf) -> None:
        self._scorer, self._unknown = scorer, unknown

    async def ascore(self, messages: Any, orchestrator: Any = None, **_: Any) -> Any:
        """The score of a conversation, or a list of scores of several.

        Args:
            messages: a conversation that the assistant's response ends, or a list of them.
            orchestrator: its_hub's, for reward models that ask a language model through it; not needed.

        Raises:
            UnknownReward: there is no score at all.
        """
        several = bool(messages) and isinstance(messages[0], list | tuple)
        chats = [_plain_chat(chat) for chat in (messages if several else [messages])]
        pairs = [(last_turn(chat, "user"), last_turn(chat, "assistant")) for chat in chats]
        found = await (self._scorer or settings.scorer()).score_many(pairs)
        numbers = _numbers(found, self._unknown)
        return numbers if several else numbers[0]

    def score(self, messages: Any, **_: Any) -> Any:
        """As `ascore`, for synchronous callers."""
        return run_sync(self.ascore(messages))


class GenPRMProcess:
    """Scores responses that are still being written. See `GenPRMOutcome` for the arguments."""

    def __init__(self, scorer: Scorer | None = None, *, unknown: float = -math.inf) -> None:
        self._scorer, self._unknown = scorer, unknown

    async def ascore(self, prompt_or_messages: Any, steps: Sequence[str]) -> list[float]:
        """One score per response.

        Args:
            prompt_or_messages: the problem, as text or chat.
            steps: what its_hub's algorithms give by this name: whole responses to the problem so far.

        Raises:
            UnknownReward: there is no score at all.
        """
        problem = _problem(prompt_or_messages)
        found = await self._asked().score_many([(problem, response) for response in steps])
        return _numbers(found, self._unknown)

    def score(self, prompt_or_messages: Any, steps: Sequence[str]) -> list[float]:
        """As `ascore`, for synchronous callers."""
        return run_sync(self.ascore(prompt_or_messages, steps))

    async def step_rewards(self, prompt_or_messages: Any, steps: Sequence[str]) -> list[float | None]:
        """One reward per step of one response; None is unknown."""
        found = await self._asked().score(_problem(prompt_or_messages), list(steps))
        return list(found.rewards)

    def _asked(self) -> Scorer:
        return self._scorer or settings.scorer()


def _numbers(found: Sequence[Scored], unknown: float) -> list[float]:
    """The scores; an error if there are none, because then there is nothing to choose by."""
    numbers = [unknown if scored.score is None else scored.score for scored in found]
    if found and all(scored.score is None for scored in found):
        found[0].number()
    return numbers


def _problem(prompt: Any) -> str:
    return prompt if isinstance(prompt, str) else last_turn(_plain_chat(prompt), "user")


def _plain_chat(chat: Any) -> list[dict[str, str]]:
    """A chat of its_hub's message objects as one of dicts."""
    messages = chat.to_chat_messages() if hasattr(chat, "to_chat_messages") else chat
    return [
        message
        if isinstance(message, dict)
        else {"role": message.role, "content": content_text(message.content)}
        for message in messages
    ]
