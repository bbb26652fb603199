"""Budgets that fit the context which a server tells, against servers that count words as tokens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from servers import Loopback, ok

from genprm.engines import Completion, HttpEngine, Request, SamplingParams
from genprm.errors import ContextOverflow
from genprm.records import ChatMessage

CONTEXT = 100


class Counting:
    """A server of a kind, whose tokens are characters in pairs and whose context is small."""

    def __init__(self, kind: str, *, tells: bool = True, counts: bool = True) -> None:
        self.kind = kind
        self.tells = tells
        self.counts = counts
        self.server = Loopback(self.answer)
        self.budgets: list[int] = []

    @property
    def paths(self) -> list[str]:
        return [
            path for path, _, _ in self.server.seen if path not in ("/v1/models", "/props", "/api/version")
        ]

    def answer(self, method: str, path: str, body: dict[str, Any]) -> Any:
        if path == "/v1/models":
            size = {"max_model_len": CONTEXT} if self.tells and self.kind != "llamacpp" else {}
            return ok({"data": [{"id": "m", "owned_by": self.kind, **size}]})
        if path == "/props":
            return ok({"default_generation_settings": {"n_ctx": CONTEXT} if self.tells else {}})
        text = (
            body.get("prompt")
            or body.get("content")
            or "".join(m["content"] for m in body.get("messages", ()))
        )
        count = (len(text) + 1) // 2
        if path == "/tokenize":
            return ok({"tokens": list(range(count))}) if self.counts else (404, {}, b"")
        budget = body.get("max_tokens", body.get("n_predict"))
        if count + budget > CONTEXT:
            return (
                400,
                {},
                json.dumps({"error": {"message": f"maximum context length is {CONTEXT}"}}).encode(),
            )
        self.budgets.append(budget)
        if path == "/completion":
            return ok({"content": "ok", "stop_type": "limit", "tokens_evaluated": count})
        choice = {"text": "ok", "message": {"content": "ok"}, "finish_reason": "length"}
        return ok({"choices": [choice], "usage": {"prompt_tokens": count, "completion_tokens": 2}})


@pytest.fixture
def counting():
    made: list[Counting] = []

    def start(kind: str, **options: bool) -> Counting:
        made.append(Counting(kind, **options))
        return made[-1]

    yield start
    for one in made:
        one.server.close()


async def ask(engine: HttpEngine, prompt: str, budget: int) -> Completion:
    (found,) = await engine.generate([Request(prompt=prompt, params=SamplingParams(max_tokens=budget))])
    return found


@pytest.mark.parametrize("kind", ["vllm", "sglang", "llamacpp"])
async def test_a_budget_is_cut_to_what_is_left_behind_the_prompt(counting, kind):
    server = counting(kind)
    engine = HttpEngine(server.server.url, retries=0)
    found = await ask(engine, "ab" * 40, 90)
    facts = engine.describe()
    await engine.aclose()
    assert found.ok, found.error
    assert server.budgets == [60]
    assert found.finish_reason == "length"
    assert (facts["context"], facts["cut_budgets"]) == (CONTEXT, 1)


@pytest.mark.parametrize("kind", ["vllm", "sglang", "llamacpp"])
async def test_a_prompt_that_fills_the_context_is_an_error_before_the_request(counting, kind):
    server = counting(kind)
    engine = HttpEngine(server.server.url, retries=0)
    found = await ask(engine, "ab" * 100, 1)
    await engine.aclose()
    assert isinstance(found.error, ContextOverflow)
    assert "100 tokens" in found.error.message and "verify.max_tokens" in found.error.hint
    assert server.paths == ["/tokenize"]


async def test_what_surely_fits_is_sent_without_counting(counting):
    server = counting("vllm")
    engine = HttpEngine(server.server.url, retries=0)
    for _ in range(3):
        assert (await ask(engine, "ab" * 10, 50)).ok
    await engine.aclose()
    assert server.paths == ["/v1/completions"] * 3 and server.budgets == [50] * 3


async def test_how_prompts_fill_the_context_is_learned(counting, monkeypatch):
    """After one prompt was counted, those that are like it are not."""
    monkeypatch.setattr("test_engines_context.CONTEXT", 2000)
    server = counting("vllm")
    engine = HttpEngine(server.server.url, retries=0)
    for number in range(4):
        assert (await ask(engine, f"{number} " * 800, 600)).ok
    await engine.aclose()
    assert server.paths == ["/tokenize", *["/v1/completions"] * 4]


async def test_a_denser_prompt_than_those_before_is_counted_when_the_server_refuses_it(
    counting, monkeypatch
):
    monkeypatch.setattr("test_engines_context.CONTEXT", 2000)
    server = counting("vllm")
    engine = HttpEngine(server.server.url, retries=0)
    assert (await ask(engine, "ö" * 800, 600)).ok  # four bytes per token
    dense = await ask(engine, "ab" * 1500, 600)
    await engine.aclose()
    assert dense.ok, dense.error
    assert server.budgets == [600, 500]
    assert server.paths[-3:] == ["/v1/completions", "/tokenize", "/v1/completions"]


async def test_a_chat_that_the_server_renders_is_counted_as_a_chat(counting):
    server = counting("vllm")
    engine = HttpEngine(server.server.url, retries=0)
    messages = (ChatMessage(role="user", content="ab" * 40),)
    (found,) = await engine.generate([Request(messages=messages, params=SamplingParams(max_tokens=90))])
    await engine.aclose()
    assert found.ok, found.error
    assert server.budgets == [60]
    assert server.server.seen[-2][1]["messages"] == server.server.seen[-1][1]["messages"]


@pytest.mark.parametrize("options", [{"tells": False}, {"counts": False}])
async def test_a_server_that_does_not_tell_answers_for_itself(counting, options):
    server = counting("vllm", **options)
    engine = HttpEngine(server.server.url, retries=0)
    found = await ask(engine, "ab" * 40, 90)
    await engine.aclose()
    assert isinstance(found.error, ContextOverflow)
    assert "verify.max_tokens" in found.error.hint


async def test_a_real_llama_server_tells_its_context(llama_url):
    engine = HttpEngine(llama_url, retries=0)
    fits = await ask(engine, "word " * 400, 4096)
    over = await ask(engine, "word " * 4000, 8)
    facts = engine.describe()
    await engine.aclose()
    assert fits.ok and fits.usage.prompt_tokens + fits.usage.completion_tokens <= facts["context"] == 512
    assert isinstance(over.error, ContextOverflow)


@pytest.mark.vllm
async def test_a_real_vllm_tells_its_context(by_heart_vllm: str, by_heart_model: Path):
    engine = HttpEngine(by_heart_vllm, tokenizer=by_heart_model, retries=0)
    fits = await ask(engine, "1 + 1 = ", 100_000)
    over = await ask(engine, "1 + 1 = " * 20_000, 8)
    facts = engine.describe()
    await engine.aclose()
    assert fits.ok and facts["cut_budgets"] == 1
    assert isinstance(over.error, ContextOverflow)
