"""One seed for every request, for engines that draw with a single number."""

from __future__ import annotations

import hashlib

from genprm.engines.base import Request


def request_seed(request: Request) -> int:
    """A 31-bit seed from the request's seed, sample and prompt.

    Rounds of one rollout have one seed and different prompts; with the bare seed they would draw the
    same random numbers in every round.
    """
    turns = [(message.role, message.content) for message in request.messages]
    parts = (request.params.seed, request.sample, request.prompt, turns, request.prefix)
    digest = hashlib.blake2b(repr(parts).encode("utf-8", "surrogatepass"), digest_size=4).digest()
    return int.from_bytes(digest, "little") >> 1
