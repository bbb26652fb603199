"""Which of several equal servers a request goes to."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

from genprm.engines.base import Request

_HOMES_KEPT = 65_536
_RAW_START = 200


def conversation(request: Request) -> str:
    """What all requests about one problem have in common: the first user turn, or a raw prompt's start."""
    for message in request.messages:
        if message.role == "user":
            return message.content
    return (request.prompt or "")[:_RAW_START]


class Affinity:
    """Sends a conversation where it went before, so that a prefix cache there serves it.

    A new conversation goes to the least busy place. A known one moves only if its place is gone, or
    busier than the least busy one by a quarter and by more than `slack` requests.
    """

    def __init__(self, slack: int) -> None:
        self._slack = slack
        self._homes: OrderedDict[str, int] = OrderedDict()

    def choose(self, start: str, loads: Mapping[int, int]) -> int:
        """A key of `loads`, which has the requests in flight of every place that can be used."""
        least = min(loads.values())
        home = self._homes.get(start)
        if home is None or home not in loads or loads[home] > max(least * 1.25, least + self._slack):
            home = min(loads, key=lambda place: loads[place])
        self._homes[start] = home
        self._homes.move_to_end(start)
        if len(self._homes) > _HOMES_KEPT:
            self._homes.popitem(last=False)
        return home
