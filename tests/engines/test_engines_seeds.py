"""The seed of a request is a promise: results, and completions that are kept, depend on it."""

from __future__ import annotations

import hashlib

from hypothesis import given
from hypothesis import strategies as st

from genprm.engines._common.seeds import request_seed
from genprm.engines.base import Request, SamplingParams
from genprm.records import ChatMessage

TEXTS = st.one_of(
    st.text(max_size=40),
    st.sampled_from(
        ["", "it's", 'a "b"', 'it\'s "c"', "a\\b\n\t\r", "\ud800", "\u00e9\u4e2d\U0001f600", "x" * 5000]
    ),
)
MESSAGES = st.builds(ChatMessage, role=st.sampled_from(["system", "user", "assistant"]), content=TEXTS)


@given(
    messages=st.lists(MESSAGES, max_size=4).map(tuple),
    prefix=TEXTS,
    prompt=st.none() | TEXTS,
    seed=st.none() | st.integers(0, 2**31 - 1),
    sample=st.integers(0, 100),
)
def test_a_seed_is_a_hash_of_all_that_tells_requests_apart(
    messages: tuple[ChatMessage, ...], prefix: str, prompt: str | None, seed: int | None, sample: int
) -> None:
    request = Request(messages, prefix, prompt=prompt, params=SamplingParams(seed=seed), sample=sample)
    parts = (seed, sample, prompt, [(message.role, message.content) for message in messages], prefix)
    digest = hashlib.blake2b(repr(parts).encode("utf-8", "surrogatepass"), digest_size=4).digest()
    assert request_seed(request) == request_seed(request) == int.from_bytes(digest, "little") >> 1
