"""ms-swift: reward functions for GRPO, and a process reward model for sampling. Read in ms-swift 4.6.0.

An own plug-in file registers them, and `--external_plugins FILE` names it:

    from swift.rewards import orms, prms
    from genprm.rl.swift import GenPRM, GenPRMAsyncORM, GenPRMORM

    orms["genprm"] = GenPRMAsyncORM     # swift rlhf --rlhf_type grpo --reward_funcs genprm
    prms["genprm"] = GenPRM             # swift sample --prm_model genprm

ms-swift calls `orm(completions, **columns) -> list[float]`, and `messages` is a column; it awaits objects whose
`__call__` is a coroutine function (`swift/rewards/orm.py`, `swift/rlhf_trainers/`). A PRM is called with requests and
ground truths, and each of its answers may be a list, of which the smallest counts
(`swift/pipelines/sampling/utils.py`).

Unknown: ms-swift adds rewards with `nansum`, so None and NaN become 0 and are learned from; a sampler's normalization
spreads NaN to all candidates. So a solution without a score raises, unless `GENPRM_UNKNOWN` gives it a number.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from genprm.rl import settings
from genprm.serve.dialects.rendered import last_turn, plain

Pair = tuple[str, str]


class GenPRMORM:
    """A reward function; `args` is ms-swift's and not needed."""

    def __init__(self, args: Any = None, **_: Any) -> None:
        self.args = args

    def __call__(self, completions: Sequence[str], messages: Sequence[Any], **_: Any) -> list[float]:
        """One score per completion.

        Args:
            completions: texts.
            messages: the chats that they complete.

        Raises:
            UnknownReward: a solution has no score, and no number was given for that.
        """
        found = settings.scorer().score_many_sync(_pairs(completions, messages))
        return [scored.number(settings.unknown_number()) for scored in found]


class GenPRMAsyncORM:
    """As `GenPRMORM`, for ms-swift to await beside other reward functions."""

    def __init__(self, args: Any = None, **_: Any) -> None:
        self.args = args

    async def __call__(self, completions: Sequence[str], messages: Sequence[Any], **_: Any) -> list[float]:
        """See `GenPRMORM`."""
        found = await settings.scorer().score_many(_pairs(completions, messages))
        return [scored.number(settings.unknown_number()) for scored in found]


class GenPRM:
    """A process reward model for `swift sample`."""

    def __call__(
        self, infer_requests: Sequence[Any], ground_truths: Sequence[str] = (), **_: Any
    ) -> list[Any]:
        """The step rewards of each request's last turn, or `GENPRM_UNKNOWN` in their place.

        Args:
            infer_requests: with `messages`, the last of which is the assistant's.
            ground_truths: not needed.

        Raises:
            UnknownReward: a solution has no score, and no number was given for that.
        """
        chats = [_messages(request) for request in infer_requests]
        found = settings.scorer().score_many_sync(
            _pairs([last_turn(chat, "assistant") for chat in chats], chats)
        )
        unknown = settings.unknown_number()
        return [[one.number(unknown)] if one.score is None else list(one.rewards) for one in found]


def _pairs(completions: Sequence[str], chats: Sequence[Any]) -> list[Pair]:
    return [
        (last_turn(chat, "user"), plain(completion))
        for completion, chat in zip(completions, chats, strict=True)
    ]


def _messages(request: Any) -> Any:
    return request["messages"] if isinstance(request, dict) else request.messages
