"""What every engine promises, checked on each of them; those on a real vLLM run under `make test-vllm`."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest

from genprm.engines import HttpEngine, Request, SamplingParams, ScriptedEngine
from genprm.errors import ContextOverflow
from genprm.records import ChatMessage

CHAT = (ChatMessage(role="user", content="Count from one to ten, in words."),)
GREEDY = SamplingParams(temperature=0.0, max_tokens=10, seed=1)


def speak(request: Request) -> str:
    text = f"one, two, three, four, five, six, seven, eight, nine, ten and {request.params.seed}"
    if request.params.temperature > 0:
        text = f"sample {request.sample}: " + text
    if request.prompt is not None and len(request.prompt) > 20_000:
        raise ContextOverflow("too long", hint="shorten it")
    return text[len(request.prefix) :]


VLLM = [pytest.param(name, marks=pytest.mark.vllm) for name in ("vllm", "vllm server")]


@pytest.fixture(params=["scripted", "local", "replicated", "llama", *VLLM])
async def engine(request: pytest.FixtureRequest):
    if request.param == "scripted":
        made = ScriptedEngine(speak, name="contract")
    elif request.param == "local":
        pytest.importorskip("torch")
        from genprm.engines import LocalEngine

        folder: Path = request.getfixturevalue("tiny_model")
        made = LocalEngine(folder, batch_size=16, threads=1)
    elif request.param == "replicated":
        made = request.getfixturevalue("replicated_engine")
    elif request.param == "vllm":
        made = request.getfixturevalue("vllm_engine")
    elif request.param == "vllm server":
        folder = request.getfixturevalue("by_heart_model")
        made = HttpEngine(request.getfixturevalue("by_heart_vllm"), tokenizer=folder, retries=1)
    else:
        made = HttpEngine(request.getfixturevalue("llama_url"), retries=1)
    yield made
    if request.param not in {"vllm", "replicated"}:  # processes that all tests share
        await made.aclose()
        await made.aclose()


@pytest.fixture(scope="module")
def replicated_engine(tiny_model: Path):
    pytest.importorskip("torch")
    from genprm.engines import ReplicatedEngine

    with ReplicatedEngine(tiny_model, replicas=1, batch_size=16) as made:
        yield made
    made.close()


@pytest.fixture(scope="module")
def vllm_engine(by_heart_model: Path):
    pytest.importorskip("vllm")
    from genprm.engines import VllmEngine

    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    made = VllmEngine(by_heart_model, dtype="float32", enforce_eager=True)
    yield made
    made.close()
    made.close()


async def test_it_answers_about_itself(engine):
    await engine.check()
    assert engine.name
    facts = json.loads(json.dumps(engine.describe()))
    assert facts["kind"] in {"scripted", "local", "http", "vllm"}
    assert await engine.generate([]) == []


async def test_length_and_usage(engine):
    completion = (await engine.generate([Request(messages=CHAT, params=GREEDY)]))[0]
    assert completion.ok
    assert completion.finish_reason in {"length", "eos"}
    assert completion.usage.requests == 1
    assert completion.usage.prompt_tokens > 5
    assert 0 < completion.usage.completion_tokens <= GREEDY.max_tokens
    assert completion.usage.engine_seconds > 0
    assert completion.tokens == ()
    assert completion.stop is None


async def test_a_stop_string_ends_the_text_and_belongs_to_it(engine):
    whole = (await engine.generate([Request(messages=CHAT, params=GREEDY)]))[0].text
    middle = len(whole) // 2
    stop = whole[middle : middle + 2]
    expected = whole[: whole.index(stop) + 2]
    params = SamplingParams(temperature=0.0, max_tokens=10, seed=1, stop=("\x00never", stop))
    completion = (await engine.generate([Request(messages=CHAT, params=params)]))[0]
    assert completion.finish_reason == "stop"
    assert completion.stop == stop
    assert completion.text == expected


async def test_tokens_carry_logprobs_and_offsets(engine):
    params = SamplingParams(temperature=0.0, max_tokens=8, seed=1, logprobs=3)
    completion = (await engine.generate([Request(messages=CHAT, params=params)]))[0]
    assert completion.tokens
    assert completion.tokens[0].offset == 0
    offsets = [token.offset for token in completion.tokens]
    assert offsets == sorted(offsets)
    for token in completion.tokens:
        assert token.logprob <= 0
        assert 1 <= len(token.top) <= 3
        values = [value for _, value in token.top]
        assert values == sorted(values, reverse=True)
        assert token.logprob == pytest.approx(values[0], abs=1e-5), "greedy takes the most likely token"
        if "\ufffd" not in token.text:
            assert completion.text.startswith(token.text, token.offset)


async def test_a_prefix_is_continued_and_not_repeated(engine):
    whole = (await engine.generate([Request(messages=CHAT, params=GREEDY)]))[0].text
    head = whole.split(" ")[0]
    continued = (await engine.generate([Request(messages=CHAT, prefix=head, params=GREEDY)]))[0]
    assert continued.ok
    assert not continued.text.startswith(head) or head == ""
    if engine.describe()["kind"] == "scripted" or engine.describe().get("server") == "llama.cpp":
        # A random model's text need not tokenise the way that it was generated.
        assert (head + continued.text).startswith(whole)


async def test_requests_keep_their_order_and_samples_differ(engine):
    params = SamplingParams(temperature=1.0, max_tokens=6, seed=7)
    requests = [Request(messages=CHAT, params=params, sample=index) for index in range(6)]
    first = await engine.generate(requests)
    assert len({completion.text for completion in first}) > 1
    again = await asyncio.gather(*(engine.generate([request]) for request in reversed(requests)))
    same = sum(one.text == other[0].text for one, other in zip(first, reversed(again), strict=True))
    # Batched float arithmetic may turn a rare draw on a server; locally and in scripts it must not.
    assert same >= (4 if engine.describe()["kind"] in {"http", "vllm"} else 6)


async def test_one_overlong_prompt_fails_alone(engine):
    requests = [
        Request(messages=CHAT, params=GREEDY),
        Request(prompt="word " * 5000, params=GREEDY),
        Request(messages=CHAT, params=GREEDY),
    ]
    fine, broken, also_fine = await engine.generate(requests)
    assert fine.ok
    assert also_fine.ok
    assert fine.text == also_fine.text
    assert broken.finish_reason == "error"
    assert isinstance(broken.error, ContextOverflow)
    assert broken.error.hint
    assert not broken.error.retryable


async def test_words_are_among_the_alternatives_where_tokens_can_be_named(engine):
    params = SamplingParams(temperature=0.0, max_tokens=4, seed=1, logprobs=3, words=("0", "1"))
    completion = (await engine.generate([Request(messages=CHAT, params=params)]))[0]
    assert completion.ok and completion.tokens
    facts = engine.describe()
    for token in completion.tokens:
        if "vllm" in (facts["kind"], facts.get("server")):
            assert {"0", "1"} <= {text for text, _ in token.top}
        else:
            assert 1 <= len(token.top) <= 3
