"""Answers that no server should send, made by changing valid ones at random: typed errors, and never a wrong number."""

from __future__ import annotations

import asyncio
import json
import math
import random
import re
from typing import Any

import pytest
from servers import Loopback

from genprm.engines import Completion, HttpEngine, Request, SamplingParams
from genprm.errors import EngineError
from genprm.records import ChatMessage
from genprm.rewards.genprm.judgement import read_reward, reward_at
from genprm.text.transcript import find_judgement

TEXT = "<output>\n**Judgement**: $\\boxed{Yes}$"
PARAMS = SamplingParams(stop=("}$", "</output>"), logprobs=5, seed=1)

LEGACY = {
    "tokens": ["<output>\n", "**Judgement**: $\\boxed{", "Yes", "}$"],
    "token_logprobs": [-0.1, -0.2, -0.3, -0.4],
    "top_logprobs": [{"<output>\n": -0.1}, {"**": -0.2}, {"Yes": -0.3, "No": -1.5}, {"}$": -0.4}],
}
OBJECTS = [
    {
        "token": token,
        "logprob": number,
        "bytes": list(token.encode()),
        "top_logprobs": [{"token": text, "logprob": value} for text, value in top.items()],
    }
    for token, number, top in zip(
        LEGACY["tokens"], LEGACY["token_logprobs"], LEGACY["top_logprobs"], strict=True
    )
]
USAGE = {"prompt_tokens": 9, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 4}}

VALID: dict[str, dict[str, Any]] = {
    "completions": {
        "choices": [{"text": TEXT, "finish_reason": "stop", "stop_reason": "}$", "logprobs": LEGACY}],
        "usage": USAGE,
    },
    "chat": {
        "choices": [
            {
                "message": {"role": "assistant", "content": TEXT, "reasoning_content": None},
                "finish_reason": "stop",
                "logprobs": {"content": OBJECTS},
            }
        ],
        "usage": USAGE,
    },
    "llama.cpp": {
        "content": TEXT,
        "stop_type": "word",
        "stopping_word": "}$",
        "tokens_evaluated": 9,
        "tokens_predicted": 4,
        "timings": {"cache_n": 4},
        "completion_probabilities": OBJECTS,
    },
    "models": {"object": "list", "data": [{"id": "m", "owned_by": "vllm", "max_model_len": 4096}]},
    "props": {"chat_template": "{{ messages[0].content }}", "default_generation_settings": {"n_ctx": 512}},
}
FORMS = {"v1/completions": "completions", "v1/chat/completions": "chat", "completion": "llama.cpp"}
STRANGE: list[Any] = [
    *(None, True, False, 0, -1, 3, 10**30, -(10**400), 0.5, -0.0, 1e308, math.nan, math.inf, -math.inf),
    *("", "stop", "length", "error", "Yes", "No", "\ud800", "\x00", "z" * 5000, "}$", "NaN", "\\boxed{No}"),
    *(
        [],
        {},
        [[]],
        [None],
        {"": None},
        {"error": {"code": 502}},
        {"token": "Yes", "logprob": -0.1},
        [1] * 50,
    ),
]


def places(value: Any, found: list[tuple[Any, Any]] | None = None) -> list[tuple[Any, Any]]:
    """Every place in a JSON value, as the container and the key or index in it."""
    found = [] if found is None else found
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        found.append((value, key))
        places(value[key], found)
    return found


def changed(kind: str, seed: int) -> bytes:
    """A valid answer with some changes in its structure, and perhaps in its bytes."""
    rng = random.Random(f"{kind}{seed}")
    value = json.loads(json.dumps(VALID[kind]))
    for _ in range(rng.choice((1, 1, 2, 4))):
        container, key = rng.choice(places(value) or [({}, "x")])
        match rng.randrange(5):
            case 0 | 1:
                container[key] = rng.choice(STRANGE)
            case 2 if isinstance(container, dict):
                del container[key]
            case 2:
                container.insert(key, rng.choice(STRANGE))
            case 3:
                container[key] = [container[key]] if rng.random() < 0.5 else {"content": container[key]}
            case 4:
                other, place = rng.choice(places(value))
                container[key] = json.loads(json.dumps(other[place]))
    data = bytearray(json.dumps(value).encode())
    match rng.randrange(8):
        case 0:
            del data[rng.randrange(len(data)) :]
        case 1:
            data[rng.randrange(len(data))] = rng.randrange(256)
        case 2:
            at = rng.randrange(len(data))
            data[at:at] = rng.choice((b"[" * 5000, b"\xff", b"1e999", b"NaN", b"-", b'"', b"\\ud800"))
    return bytes(data)


def check(found: Completion) -> None:
    """What holds for every completion, whatever a server sends."""
    if found.error is not None:
        assert isinstance(found.error, EngineError)
        found.error.message.encode(), found.error.hint.encode()
        return
    assert found.finish_reason in ("stop", "eos", "length")
    assert (found.finish_reason == "stop") is (found.stop is not None)
    found.text.encode()
    assert all(0 <= count < 1 << 33 for count in (found.usage.prompt_tokens, found.usage.completion_tokens))
    for token in found.tokens:
        token.text.encode()
        numbers = [token.logprob, *(number for _, number in token.top)]
        reward = reward_at(token)
        if reward is not None:
            assert 0.0 <= reward.value <= 1.0
            assert all(number <= 0.01 for number in numbers if not math.isnan(number))
            assert not any(math.isnan(number) for _, number in token.top)
    judgement = find_judgement(found.text)
    if judgement is not None:
        reward = read_reward(judgement, [(0, found)])
        assert reward is None or 0.0 <= reward.value <= 1.0


async def fuzz(count: int) -> dict[str, int]:
    """Ask so many questions, check the answers, and count the errors, by kind of answer."""

    def answer(method: str, path: str, body: dict[str, Any]) -> Any:
        where, _, place = path.removeprefix("/").partition("/")
        kind, _, number = where.rpartition("-")
        if place == "v1/models":
            owner = "llamacpp" if kind == "llama.cpp" else "vllm"
            about = json.dumps({"data": [{"id": "m", "owned_by": owner}]}).encode()
            return 200, {}, changed("models", int(number)) if kind == "models" else about
        if place == "props":
            return 200, {}, changed("props", int(number))
        if place not in FORMS:
            return 404, {}, b""
        asked = body["prompt"] if "prompt" in body else body["messages"][0]["content"]
        return 200, {}, changed(FORMS[place], int(re.match(r"\d+", asked)[0]))

    server = Loopback(answer)
    errors = {"completions": 0, "chat": 0, "llama.cpp": 0, "models": 0}
    try:
        for kind in errors:
            # What a server says about itself is read once for each engine.
            rounds = range(count // 20) if kind == "models" else range(1)
            for number in rounds:
                api = {"completions": "completions", "chat": "chat"}.get(kind, "auto")
                url = f"{server.url}/{kind}-{number}"
                engine = HttpEngine(url, api=api, retries=0, max_concurrency=8)
                each = 1 if kind == "models" else count // 3
                found = await engine.generate([request(kind, n) for n in range(each)])
                await engine.aclose()
                for one in found:
                    check(one)
                errors[kind] += sum(not one.ok for one in found)
    finally:
        server.close()
    return errors


def request(kind: str, number: int) -> Request:
    if kind == "chat":
        return Request(messages=(ChatMessage(role="user", content=str(number)),), params=PARAMS)
    return Request(prompt=str(number), params=PARAMS)


@pytest.mark.parametrize("count", [600, pytest.param(10_000, marks=pytest.mark.slow)])
def test_changed_answers_give_typed_errors_and_no_wrong_numbers(count):
    errors = asyncio.run(fuzz(count))
    # Some changes matter and some do not, or the test tells nothing.
    for kind in ("completions", "chat", "llama.cpp"):
        assert count // 30 < errors[kind] < count // 3 - count // 30, errors
