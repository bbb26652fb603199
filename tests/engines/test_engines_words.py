"""Log-probabilities of named tokens, from servers that take `logprob_token_ids` and from those that do not."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from servers import Loopback, ok

from genprm.engines import Completion, HttpEngine, Request, SamplingParams
from genprm.rewards.genprm.judgement import reward_at

VOCABULARY = {"Yes": 11, " Yes": 12, "yes": 13, "No": 21, " No": 22, "no": 23}
WORDS = SamplingParams(max_tokens=1, logprobs=3, words=("Yes", "No"))
TRUTH = {
    11: math.log(0.9),
    21: math.log(0.0001),
    12: -math.inf,
    22: -math.inf,
    13: -math.inf,
    23: -math.inf,
}
TOP = {"Yes": math.log(0.9), "Maybe": math.log(0.05), "Well": math.log(0.02)}


class Naming:
    """A server like vLLM, which takes named tokens, ignores them, or refuses them; "No" is far outside its top."""

    def __init__(self, manner: str, owner: str = "vllm", vocabulary: dict[str, int] = VOCABULARY) -> None:
        self.manner = manner
        self.owner = owner
        self.vocabulary = vocabulary
        self.server = Loopback(self.answer)

    def answer(self, method: str, path: str, body: dict[str, Any]) -> Any:
        if path == "/v1/models":
            return ok({"data": [{"id": "m", "owned_by": self.owner}]})
        if path == "/tokenize":
            token = self.vocabulary.get(body["prompt"])
            return ok({"tokens": [1, 2] if token is None else [token]})
        top = TOP
        if "logprob_token_ids" in body:
            if self.manner == "refuses":
                said = {"error": {"message": "Unrecognized request argument: logprob_token_ids"}}
                return 400, {}, json.dumps(said).encode()
            if self.manner == "takes":
                names = {token: text for text, token in VOCABULARY.items()}
                top = {names[token]: max(TRUTH[token], -9999.0) for token in body["logprob_token_ids"]}
        logprobs = {"tokens": ["Yes"], "token_logprobs": [math.log(0.9)], "top_logprobs": [top]}
        return ok({"choices": [{"text": "Yes", "finish_reason": "length", "logprobs": logprobs}]})


@pytest.fixture
def naming():
    made: list[Naming] = []

    def start(*arguments: Any) -> Naming:
        made.append(Naming(*arguments))
        return made[-1]

    yield start
    for one in made:
        one.server.close()


async def ask(server: Naming) -> tuple[Completion, dict[str, Any]]:
    engine = HttpEngine(server.server.url, retries=0)
    for _ in range(2):
        (found,) = await engine.generate([Request(prompt="x", params=WORDS)])
        assert found.ok, found.error
    facts = engine.describe()
    await engine.aclose()
    return found, facts


async def test_named_tokens_give_the_exact_reward(naming):
    server = naming("takes")
    found, facts = await ask(server)
    reward = reward_at(found.tokens[0])
    assert reward is not None
    assert (reward.value, reward.bound) == (pytest.approx(0.9 / 0.9001), "exact")
    assert "logprob_token_ids" not in facts["missing"]
    asked = [body for path, body, _ in server.server.seen if path == "/v1/completions"]
    assert [body["logprob_token_ids"] for body in asked] == [[11, 12, 13, 21, 22, 23]] * 2
    assert sum(path == "/tokenize" for path, _, _ in server.server.seen) <= 20, "each word once"


async def test_a_word_is_looked_up_once_however_many_ask_at_the_same_time(naming):
    server = naming("takes")
    engine = HttpEngine(server.server.url, retries=0)
    requests = [Request(prompt=str(number), params=WORDS) for number in range(32)]
    assert all(one.ok for one in await engine.generate(requests))
    await engine.aclose()
    paths = [path for path, _, _ in server.server.seen]
    assert (paths.count("/tokenize") <= 20, paths.count("/v1/models")) == (True, 1)


@pytest.mark.parametrize("manner", ["ignores", "refuses"])
async def test_without_them_the_reward_is_a_bound(naming, manner):
    found, facts = await ask(naming(manner))
    reward = reward_at(found.tokens[0])
    assert reward is not None
    assert reward.bound == "other_outside_top_k" and reward.value > 0.9
    assert ("logprob_token_ids" in facts["missing"]) is (manner == "refuses")


@pytest.mark.parametrize("arguments", [("takes", "sglang"), ("takes", "vllm", {"No": 21})])
async def test_a_server_that_takes_none_or_a_word_of_several_tokens_asks_for_the_top(naming, arguments):
    server = naming(*arguments)
    found, _ = await ask(server)
    assert dict(found.tokens[0].top).keys() == TOP.keys()
    assert all("logprob_token_ids" not in body for _, body, _ in server.server.seen)


@pytest.mark.vllm
async def test_a_real_vllm_gives_the_named_tokens(by_heart_vllm: str, by_heart_model: Path):
    engine = HttpEngine(by_heart_vllm, tokenizer=by_heart_model, retries=0)
    params = SamplingParams(max_tokens=4, logprobs=1, temperature=0.0, words=("0", "1"))
    (found,) = await engine.generate([Request(prompt="1 + 1 = ", params=params)])
    facts = engine.describe()
    await engine.aclose()
    assert found.ok, found.error
    assert "logprob_token_ids" not in facts["missing"]
    for token in found.tokens:
        assert {"0", "1"} <= {text.strip() for text, _ in token.top}
