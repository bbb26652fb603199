"""One seed for every request, for engines that draw with a single number."""

from __future__ import annotations

import hashlib
from functools import lru_cache

from genprm.engines.base import Request
from genprm.records import ChatMessage

# The requests of one chat repeat its turns, and so do the chats of later steps. Longer turns are not kept, so that what
# is kept stays within some tens of MiB.
_TURNS_KEPT = 4096
_LONGEST_KEPT = 4096


def request_seed(request: Request) -> int:
    """A 31-bit seed from the request's seed, sample and prompt.

    Rounds of one rollout have one seed and different prompts; with the bare seed they would draw the
    same random numbers in every round.
    """
    turns = ", ".join([_turn(message) for message in request.messages])
    # The text of the tuple (seed, sample, prompt, [(role, content), ...], prefix).
    text = (
        f"({request.params.seed!r}, {request.sample!r}, {request.prompt!r}, [{turns}], {request.prefix!r})"
    )
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=4).digest()
    return int.from_bytes(digest, "little") >> 1


def _turn(message: ChatMessage) -> str:
    role, content = message.role, message.content
    return _kept(role, content) if len(content) <= _LONGEST_KEPT else repr((role, content))


@lru_cache(maxsize=_TURNS_KEPT)
def _kept(role: str, content: str) -> str:
    return repr((role, content))
