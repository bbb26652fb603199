"""The http engine against servers that fail in every way, and against each server's own formats.

Faults are injected by a proxy in front of the real llama-server where the outcome must still be right,
and by a plain loopback server where formats of other servers are played.
"""

from __future__ import annotations

import json
import logging
import socket
import time
from collections import deque
from functools import partial

import pytest
from servers import FAULTS, Loopback, fault, forward, ok

from genprm.engines import HttpEngine, Request, SamplingParams
from genprm.errors import (
    ConfigError,
    ContextOverflow,
    EngineProtocolError,
    EngineRequestError,
    EngineTimeout,
    EngineUnavailable,
)
from genprm.records import ChatMessage

CHAT = (ChatMessage(role="user", content="Say: one two three"),)
STOPPING = SamplingParams(temperature=0.0, max_tokens=8, stop=("}$", "</analyze>"), logprobs=2, seed=1)


@pytest.fixture
def serve():
    started: list[Loopback] = []

    def start(answer) -> Loopback:
        started.append(Loopback(answer))
        return started[-1]

    yield start
    for server in started:
        server.close()


def models(owner: str = "vllm", *names: str):
    return ok({"data": [{"id": name, "owned_by": owner} for name in (names or ("tiny",))]})


def completed(text: str, finish: str = "stop", **choice: object):
    usage = {"prompt_tokens": 9, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 4}}
    return ok({"choices": [{"text": text, "finish_reason": finish, **choice}], "usage": usage})


def server_of(serve, reply, owner: str = "vllm") -> Loopback:
    """A server that lists one model and answers everything else with `reply(path, body)`."""
    return serve(lambda method, path, body: models(owner) if path == "/v1/models" else reply(path, body))


@pytest.mark.parametrize("kind", FAULTS)
async def test_passing_faults_are_retried(serve, kind):
    pending = deque([kind, kind])

    def reply(path, body):
        if pending:
            return fault(pending.popleft())
        return completed("fine")

    engine = HttpEngine(server_of(serve, reply).url, retries=3, retry_seconds=0.01)
    found = (await engine.generate([Request(prompt="x")]))[0]
    await engine.aclose()
    assert found.ok, found.error
    assert found.text == "fine"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("429", EngineUnavailable),
        ("503", EngineUnavailable),
        ("500", EngineUnavailable),
        ("reset", EngineUnavailable),
        ("truncated", EngineUnavailable),
        ("malformed", EngineProtocolError),
        ("hang", EngineTimeout),
    ],
)
async def test_lasting_faults_become_typed_errors_that_name_the_server(serve, name, kind):
    server = server_of(serve, lambda path, body: fault(name))
    engine = HttpEngine(server.url, retries=1, retry_seconds=0.01, timeout=0.4)
    found = (await engine.generate([Request(prompt="x")]))[0]
    await engine.aclose()
    assert isinstance(found.error, kind)
    assert server.url in found.error.message
    assert found.finish_reason == "error"
    assert sum(path == "/v1/completions" for path, _, _ in server.seen) == 2


@pytest.mark.parametrize(
    ("status", "message", "kind"),
    [
        (400, "This model's maximum context length is 2048 tokens.", ContextOverflow),
        (400, "The prompt is longer than the maximum model length of 9", ContextOverflow),
        (400, "temperature must be positive", EngineRequestError),
        (401, "bad key", EngineRequestError),
        (404, "no such model", EngineRequestError),
    ],
)
async def test_rejections_are_not_retried(serve, status, message, kind):
    body = json.dumps({"error": {"message": message, "type": "BadRequestError"}}).encode()
    server = server_of(serve, lambda path, _: (status, {}, body))
    engine = HttpEngine(server.url, retries=3, retry_seconds=0.01)
    found = (await engine.generate([Request(prompt="x")]))[0]
    await engine.aclose()
    assert isinstance(found.error, kind)
    assert isinstance(found.error, ContextOverflow) is (kind is ContextOverflow)
    assert not found.error.retryable
    assert sum(path == "/v1/completions" for path, _, _ in server.seen) == 1


async def test_faults_in_front_of_a_real_server_lose_and_invent_nothing(serve, llama_url):
    """Every third exchange fails in one way or another; each request still gets its own right answer."""
    kinds = ["429", "reset", "truncated", "malformed", "503", "cut json"]
    counter = iter(range(10_000))

    def flaky(method, path, body):
        number = next(counter)
        if path == "/completion" and number % 3 == 1:
            return fault(kinds[number // 3 % len(kinds)])
        return forward(llama_url, method, path, body)

    params = SamplingParams(temperature=0.0, max_tokens=3, seed=1)
    requests = [
        Request(prompt=f"{word} {word} {word}", params=params) for word in ["one", "two", "red", "blue"]
    ]
    plain = HttpEngine(llama_url, max_concurrency=1)
    expected = await plain.generate(requests)
    await plain.aclose()
    engine = HttpEngine(serve(flaky).url, max_concurrency=2, retries=8, retry_seconds=0.01)
    found = await engine.generate(requests)
    await engine.aclose()
    assert all(one.ok for one in found)
    assert [one.text for one in found] == [one.text for one in expected]


async def test_an_unreachable_server_is_named():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    engine = HttpEngine(f"http://127.0.0.1:{port}/v1", retries=0)
    with pytest.raises(EngineUnavailable) as caught:
        await engine.check()
    assert f"http://127.0.0.1:{port}" in caught.value.hint
    found = (await engine.generate([Request(prompt="x")]))[0]
    assert isinstance(found.error, EngineUnavailable)
    await engine.aclose()


async def test_a_wrong_model_name_is_reported_with_the_right_ones(serve):
    server = serve(lambda *_: models("vllm", "alpha", "beta"))
    engine = HttpEngine(server.url, model="gamma")
    with pytest.raises(EngineRequestError) as caught:
        await engine.check()
    await engine.aclose()
    assert "alpha" in caught.value.hint


async def test_requests_are_balanced_and_a_dead_server_is_avoided(serve):
    def reply(path, body):
        time.sleep(0.01)
        return completed("fine")

    first, second = server_of(serve, reply), server_of(serve, reply)
    engine = HttpEngine([first.url, second.url], max_concurrency=4, retry_seconds=0.01)
    await engine.check()
    found = await engine.generate([Request(prompt=str(number)) for number in range(40)])
    assert all(one.ok for one in found)
    counts = [sum(path == "/v1/completions" for path, _, _ in server.seen) for server in (first, second)]
    assert min(counts) >= 10
    first.close()
    found = await engine.generate([Request(prompt=str(number)) for number in range(20)])
    await engine.aclose()
    assert all(one.ok for one in found)


async def test_a_server_that_failed_gets_nothing_until_it_answers_a_probe(serve):
    broken = {"is": True}

    def sick(method, path, body):
        if broken["is"]:
            return fault("500")
        return models() if path == "/v1/models" else completed("cured")

    well = server_of(serve, lambda path, body: completed("fine"))
    ill = serve(sick)
    engine = HttpEngine([well.url, ill.url], max_concurrency=8, retry_seconds=0.01)
    await engine.check()
    requests = [Request(prompt=str(number)) for number in range(24)]
    first = await engine.generate(requests)
    asked = len(ill.seen)
    again = await engine.generate(requests)
    assert {one.text for one in first + again} == {"fine"}
    assert all(path == "/v1/models" for path, _, _ in ill.seen[asked:])
    broken["is"] = False
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if any(one.text == "cured" for one in await engine.generate(requests)):
            break
        time.sleep(0.2)
    else:
        pytest.fail("the cured server never came back")
    await engine.aclose()


async def test_an_overloaded_server_hands_over_at_once(serve):
    busy = server_of(serve, lambda path, body: (429, {"retry-after": "20"}, b"{}"))
    free = server_of(serve, lambda path, body: completed("fine"))
    engine = HttpEngine([busy.url, free.url], retries=2, retry_seconds=0.01)
    started = time.monotonic()
    found = await engine.generate([Request(prompt=str(number)) for number in range(8)])
    await engine.aclose()
    assert {one.text for one in found} == {"fine"}
    assert time.monotonic() - started < 10


async def test_requests_about_one_problem_stay_with_one_server(serve):
    servers = [server_of(serve, lambda path, body: completed("fine")) for _ in range(3)]
    engine = HttpEngine([server.url for server in servers], api="chat")
    for turn in range(4):
        await engine.generate(
            [
                Request(
                    messages=(
                        ChatMessage(role="user", content=f"problem {number}"),
                        *(ChatMessage(role="assistant", content=str(n)) for n in range(turn)),
                    )
                )
                for number in range(12)
            ]
        )
    await engine.aclose()
    homes: dict[str, set[int]] = {}
    for index, server in enumerate(servers):
        for path, body, _ in server.seen:
            if path == "/v1/chat/completions":
                homes.setdefault(body["messages"][0]["content"], set()).add(index)
    assert len(homes) == 12
    assert all(len(places) == 1 for places in homes.values())
    assert {place for places in homes.values() for place in places} == {0, 1, 2}


async def test_llama_renders_only_the_first_chat_of_a_shape(serve, llama_url):
    server = serve(partial(forward, llama_url))
    engine = HttpEngine(server.url)
    params = SamplingParams(max_tokens=1)
    chats = [(ChatMessage(role="user", content=f"Number {n}"),) for n in range(3)]
    found = [(await engine.generate([Request(messages=chat, params=params)]))[0] for chat in chats]
    await engine.aclose()
    assert all(one.ok for one in found)
    assert [path for path, _, _ in server.seen].count("/apply-template") == 1
    prompts = [body["prompt"] for path, body, _ in server.seen if path == "/completion"]
    shown = [{"messages": [{"role": "user", "content": chat[0].content}]} for chat in chats]
    answers = [forward(llama_url, "POST", "/apply-template", body)[2] for body in shown]
    expected = [json.loads(answer)["prompt"] for answer in answers]
    assert prompts == expected


async def test_the_key_is_sent_and_never_shown(serve, monkeypatch, caplog):
    monkeypatch.setenv("MY_KEY", "sk-very-secret")
    caplog.set_level(logging.DEBUG)
    echo = b'{"error":{"message":"wrong key sk-very-secret"}}'
    server = server_of(serve, lambda path, body: (400, {}, echo))
    engine = HttpEngine(server.url, api_key_env="MY_KEY", retries=0)
    found = (await engine.generate([Request(prompt="x")]))[0]
    await engine.aclose()
    assert server.seen[-1][2]["Authorization"] == "Bearer sk-very-secret"
    shown = [
        str(found.error),
        repr(engine),
        json.dumps(engine.describe()),
        caplog.text,
        repr(vars(found.error)),
    ]
    assert all("secret" not in text for text in shown)
    quiet = HttpEngine("http://user:hush@127.0.0.1:9")
    assert "hush" not in json.dumps(quiet.describe())


async def test_vllm_completions_with_legacy_logprobs(serve, tiny_model):
    """`}$` may be one token, the stop string is included or named, and no second BOS is asked for."""
    logprobs = {
        "tokens": ["{", "Yes", "}$"],
        "token_logprobs": [-0.1, -0.2, -0.3],
        "top_logprobs": [{"{": -0.1}, {"No": -1.7, "Yes": -0.2}, None],
        "text_offset": [50, 51, 54],
    }
    server = server_of(serve, lambda p, b: completed("{Yes}$", stop_reason="}$", logprobs=logprobs))
    engine = HttpEngine(server.url, tokenizer=tiny_model)
    request = Request(messages=CHAT, prefix="$\\boxed", params=STOPPING, add_generation_prompt=False)
    found = (await engine.generate([request]))[0]
    await engine.aclose()
    body = server.seen[-1][1]
    assert body["prompt"] == "<s>[user] Say: one two three\n$\\boxed"
    assert body["add_special_tokens"] is False
    assert body["include_stop_str_in_output"] is True
    assert (found.text, found.finish_reason, found.stop) == ("{Yes}$", "stop", "}$")
    assert [(token.text, token.offset) for token in found.tokens] == [("{", 0), ("Yes", 1), ("}$", 4)]
    assert found.tokens[1].top == (("Yes", -0.2), ("No", -1.7))
    assert (found.usage.prompt_tokens, found.usage.cached_tokens, found.usage.completion_tokens) == (
        9,
        4,
        3,
    )


async def test_vllm_says_stop_at_the_end_of_the_turn_too(serve):
    server = server_of(serve, lambda p, b: completed("all done", stop_reason=None))
    engine = HttpEngine(server.url)
    found = (await engine.generate([Request(prompt="x", params=STOPPING)]))[0]
    await engine.aclose()
    assert (found.text, found.finish_reason, found.stop) == ("all done", "eos", None)


@pytest.mark.parametrize(
    ("rest", "expected", "reason"),
    [("</analyze>\nmore", "text</analyze>", "stop"), ("}$ and", "text}$", "stop"), ("", "text", "eos")],
)
async def test_a_stop_string_that_was_cut_off_silently_is_found_again(serve, rest, expected, reason):
    def reply(path, body):
        return completed("text") if "stop" in body else completed(rest, "length")

    server = server_of(serve, reply, owner="somebody")
    engine = HttpEngine(server.url)
    found = (await engine.generate([Request(prompt="x", params=STOPPING)]))[0]
    await engine.aclose()
    assert (found.text, found.finish_reason) == (expected, reason)
    assert "xtext" in [body.get("prompt") for _, body, _ in server.seen]
    asked = sum("prompt" in body for _, body, _ in server.seen)
    spent = (found.usage.requests, found.usage.prompt_tokens, found.usage.completion_tokens)
    assert (*spent, found.length) == (asked, 9 * asked, 3 * asked, 3), (
        "what finding it cost is counted, and is no text"
    )


async def test_a_stop_string_that_began_inside_a_token_is_found_from_the_line_on(serve):
    """`a $}$` ends in the token `$}$`: after `a $` the model says something else than `}$`."""

    def reply(path, body):
        if "stop" in body:
            return completed("so\na $")
        return completed("a $}$ and" if body["prompt"] == "xso\n" else "lost", "length")

    engine = HttpEngine(server_of(serve, reply, owner="somebody").url)
    found = (await engine.generate([Request(prompt="x", params=STOPPING)]))[0]
    await engine.aclose()
    assert (found.text, found.finish_reason, found.stop) == ("so\na $}$", "stop", "}$")


@pytest.mark.parametrize(
    ("choice", "params", "counted", "length"),
    [
        ({"finish_reason": "length"}, SamplingParams(max_tokens=8), 8, 8),
        (
            {"finish_reason": "stop", "logprobs": {"tokens": ["a", "b"], "token_logprobs": [-0.1, -0.2]}},
            SamplingParams(max_tokens=8, logprobs=1),
            2,
            2,
        ),
        ({"finish_reason": "stop"}, SamplingParams(max_tokens=8), 0, 1),
    ],
    ids=["cut", "log-probabilities", "unknown"],
)
async def test_a_server_that_counts_no_tokens_is_named_and_budgets_hold(
    serve, choice, params, counted, length
):
    server = server_of(serve, lambda path, body: ok({"choices": [{"text": "ab", **choice}]}))
    async with HttpEngine(server.url, retries=0) as engine:
        (found,) = await engine.generate([Request(prompt="x", params=params)])
        assert (found.usage.completion_tokens, found.length) == (counted, length)
        assert (found.usage.requests, found.usage.uncounted) == (1, 1)
        assert "usage" in engine.describe()["missing"]


async def test_requests_that_come_together_wait_together_for_a_server_that_fails(serve):
    server = serve(lambda method, path, body: time.sleep(0.02) or fault("503"))
    async with HttpEngine(server.url, model="m", retries=0) as engine:
        (alone,) = await engine.generate([Request(prompt="x")])
        tried = len(server.seen)
        found = await engine.generate([Request(prompt="x", sample=sample) for sample in range(16)])
        assert all(isinstance(one.error, EngineUnavailable) for one in (alone, *found))
        assert tried > 0
        assert len(server.seen) <= 2 * tried


async def test_extensions_that_a_server_rejects_are_left_out_and_reported(serve):
    def reply(path, body):
        for name in ("top_k", "include_stop_str_in_output", "add_special_tokens"):
            if name in body:
                return (
                    400,
                    {},
                    json.dumps({"error": {"message": f"Unrecognized argument: {name}"}}).encode(),
                )
        return completed("a}$")

    server = server_of(serve, reply, owner="somebody")
    engine = HttpEngine(server.url, retries=0)
    params = SamplingParams(top_k=20, stop=("}$",))
    found = (await engine.generate([Request(prompt="x", params=params)]))[0]
    await engine.aclose()
    assert found.ok, found.error
    assert {"top_k", "include_stop_str_in_output", "add_special_tokens"} <= set(
        engine.describe()["missing"]
    )


async def test_the_chat_endpoint_continues_a_turn_where_the_server_can(serve):
    content = {
        "content": [
            {"token": "Yes", "logprob": -0.1, "top_logprobs": [{"token": "Yes", "logprob": -0.1}]},
        ]
    }

    def reply(path, body):
        message = {"role": "assistant", "content": "Yes"}
        choice = {"message": message, "finish_reason": "length", "logprobs": content}
        return ok({"choices": [choice], "usage": {}})

    server = server_of(serve, reply)
    engine = HttpEngine(server.url)
    found = (await engine.generate([Request(messages=CHAT, prefix="{", params=STOPPING)]))[0]
    body = server.seen[-1][1]
    assert (server.seen[-1][0], found.text, found.finish_reason) == (
        "/v1/chat/completions",
        "Yes",
        "length",
    )
    assert body["messages"][-1] == {"role": "assistant", "content": "{"}
    assert body["continue_final_message"] is True
    assert body["add_generation_prompt"] is False
    assert found.tokens[0].top == (("Yes", -0.1),)
    await engine.aclose()
    engine = HttpEngine(server.url, api="chat")
    bare = (await engine.generate([Request(messages=CHAT, prefix="{", add_generation_prompt=False)]))[0]
    await engine.aclose()
    assert isinstance(bare.error, EngineRequestError)
    assert "tokenizer" in bare.error.hint


async def test_vllm_renders_a_chat_that_its_chat_endpoint_cannot_take(serve):
    def reply(path, body):
        if path == "/tokenize":
            return ok({"tokens": [5, 6, 7]})
        return ok({"prompt": "<s>Say."}) if path == "/detokenize" else completed("Yes}$", stop_reason="}$")

    server = server_of(serve, reply)
    engine = HttpEngine(server.url)
    bare = Request(messages=CHAT, prefix="$\\boxed{", add_generation_prompt=False, params=STOPPING)
    found = [(await engine.generate([bare]))[0] for _ in range(2)]
    await engine.aclose()
    assert [one.text for one in found] == ["Yes}$"] * 2
    sent = [(path, body) for path, body, _ in server.seen if path != "/v1/models"]
    assert [path for path, _ in sent] == ["/tokenize", "/detokenize", "/v1/completions", "/v1/completions"]
    assert sent[0][1]["add_generation_prompt"] is False and sent[1][1]["tokens"] == [5, 6, 7]
    assert sent[2][1]["prompt"] == "<s>Say.$\\boxed{" and sent[2][1]["add_special_tokens"] is False


async def test_a_prefix_is_refused_where_it_could_not_be_continued_exactly(serve):
    server = server_of(serve, lambda path, body: completed("no"), owner="somebody")
    engine = HttpEngine(server.url)
    found = (await engine.generate([Request(messages=CHAT, prefix="{")]))[0]
    await engine.aclose()
    assert isinstance(found.error, EngineRequestError)
    assert "tokenizer" in found.error.hint


async def test_llama_chat_and_completions_endpoints_work_too(llama_url):
    params = SamplingParams(temperature=0.0, max_tokens=6, seed=1, logprobs=2)
    texts = []
    for api in ("auto", "completions", "chat"):
        engine = HttpEngine(llama_url, api=api)
        found = (await engine.generate([Request(messages=CHAT, prefix="one", params=params)]))[0]
        await engine.aclose()
        assert found.ok, found.error
        assert found.tokens[0].offset == 0
        texts.append(found.text)
    assert texts[0] == texts[1]
    assert not texts[2].startswith("one")


def test_a_key_of_several_lines_is_a_config_error_and_not_shown(monkeypatch):
    monkeypatch.setenv("MY_KEY", "sk-secret\nsk-other")
    with pytest.raises(ConfigError, match="MY_KEY") as caught:
        HttpEngine("http://x", api_key_env="MY_KEY")
    assert "secret" not in str(caught.value) + caught.value.hint
    monkeypatch.setenv("MY_KEY", "sk-secret\n")
    HttpEngine("http://x", api_key_env="MY_KEY")


def test_wrong_options_are_config_errors():
    with pytest.raises(ConfigError):
        HttpEngine([])
    with pytest.raises(ConfigError):
        HttpEngine("http://x", max_concurrency=0)


@pytest.mark.parametrize(
    "url", ["htp://host", "http://", "http://[::", "", "two words", "http://host:port", "http://host:99999"]
)
def test_what_is_no_url_of_a_server_is_a_config_error(url):
    with pytest.raises(ConfigError, match=r"is not (a|the) URL"):
        HttpEngine(url)


@pytest.mark.parametrize("owner", ["vllm", "llamacpp"])
async def test_half_a_surrogate_pair_becomes_a_replacement_character(serve, owner):
    """JSON can escape one, and no file can hold it: a single answer must not end a run."""

    def reply(path, body):
        if owner == "vllm":
            return completed("odd \ud800, whole \U0001f600")
        return ok({"content": "odd \ud800, whole \U0001f600", "stop_type": "eos"})

    engine = HttpEngine(server_of(serve, reply, owner).url, retries=0)
    found = (await engine.generate([Request(prompt="x")]))[0]
    await engine.aclose()
    assert found.text == "odd \ufffd, whole \U0001f600", found.error
