"""What servers do that the API's description does not say, each on a real server on loopback."""

from __future__ import annotations

import asyncio
import gzip
import json
import math
from pathlib import Path
from typing import Any

import pytest
from servers import Loopback, ok

from genprm.config import VerifyConfig
from genprm.engines import Completion, HttpEngine, Request, SamplingParams
from genprm.engines._http.templates import ChatTemplate
from genprm.errors import EngineProtocolError, EngineRequestError, EngineUnavailable
from genprm.records import ChatMessage, VerifyItem, VoteStatus
from genprm.rewards import Verifier, judge_all
from genprm.rewards.genprm.judgement import reward_at

TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant] {% endif %}"
)
CHAT = (ChatMessage(role="user", content="What is 2 + 2?"),)
LOGPROBS = SamplingParams(logprobs=5)


@pytest.fixture
def serve():
    started: list[Loopback] = []

    def start(reply, models: Any = None) -> Loopback:
        """A server that lists its models so, and answers everything else with `reply(path, body)`."""
        listing = ok({"data": [{"id": "m", "owned_by": "vllm"}]}) if models is None else models

        def answer(method: str, path: str, body: dict[str, Any]) -> Any:
            return listing if path == "/v1/models" else reply(path, body)

        started.append(Loopback(answer))
        return started[-1]

    yield start
    for server in started:
        server.close()


@pytest.fixture
def tokenizer(tmp_path: Path) -> Path:
    """A tokenizer's directory, as far as prompts are rendered with it."""
    config = {"bos_token": "<s>", "eos_token": {"content": "</s>"}, "chat_template": TEMPLATE}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    return tmp_path


def chosen(**choice: Any):
    """An answer with one choice."""
    return ok({"choices": [{"finish_reason": "stop", **choice}], "usage": {"completion_tokens": 3}})


def raw(text: str, **headers: str):
    return 200, {"content-type": "application/json", **headers}, text.encode()


async def ask(server: Loopback, request: Request | None = None, **options: Any) -> Completion:
    engine = HttpEngine(server.url, **{"retries": 2, "retry_seconds": 0.01, **options})
    (found,) = await engine.generate([request or Request(prompt="x", params=LOGPROBS)])
    await engine.aclose()
    return found


def listed(*names: str, owner: str = "somebody"):
    return ok({"data": [{"id": name, "owned_by": owner} for name in names]})


# Log-probabilities

YES_NO = {
    "text": "{Yes}",
    "finish_reason": "stop",
    "logprobs": {
        "tokens": ["{", "Yes", "}"],
        "token_logprobs": [-0.01, -0.23, -0.01],
        "top_logprobs": [{"{": -0.01}, {"Yes": -8.5, "No": -1.6}, {"}": -0.01}],
    },
}


def judged(*, top: str = '{"Yes": -8.5, "No": -1.6}', first: str = "-0.01") -> str:
    """An answer with other log-probabilities at the judgement, or at the token before it, as a server writes them."""
    text = json.dumps({"choices": [YES_NO]})
    text = text.replace('{"Yes": -8.5, "No": -1.6}', top).replace("[-0.01,", f"[{first},")
    return text.replace('[{"{": -0.01}', f'[{{"{{": {first}}}' if first != "null" else "[null")


async def test_dup_the_sampled_tokens_own_log_probability_counts(serve):
    found = await ask(serve(lambda path, body: raw(judged())))
    reward = reward_at(found.tokens[1])
    assert reward is not None
    assert reward.value == pytest.approx(0.797, abs=0.002)
    assert reward.bound == "exact"


@pytest.mark.parametrize(
    ("top", "reward"),
    [
        # Two tokens that read "Yes", in a list that can hold both: they add up, the sampled one counts once.
        ([("Yes", -0.7), ("Yes", -1.9), ("No", -1.2)], 0.682),
        ([("No", -1.2), (" no", -1.2), ("Yes", -0.7)], 0.452),
        ([("Yes", -0.7), ("No", -math.inf)], None),
    ],
)
async def test_dup_equal_texts_among_alternatives_add_up(serve, top, reward):
    entries = [{"token": text, "logprob": number} for text, number in top]
    content = [{"token": "Yes", "logprob": -0.7, "top_logprobs": entries}]
    server = serve(lambda path, body: chosen(text="Yes", logprobs={"content": content}))
    found = reward_at((await ask(server)).tokens[0])
    assert found is not None
    # Without a "No" the rest of the probability bounds it.
    assert found.value == pytest.approx(math.exp(-0.7) if reward is None else reward, abs=0.001)


@pytest.mark.parametrize(
    "number", ["NaN", "null", '"-0.2"', "Infinity", "2.5", "true", "1e999", "1" + "0" * 400]
)
async def test_nan_what_is_no_log_probability_gives_a_status_and_no_number(serve, tokenizer, number):
    """Also for the verifier as a whole: the vote has no reward, and says why."""
    answer = judged(top=f'{{"Yes": -0.23, "No": {number}}}')
    server = serve(lambda path, body: raw(answer))
    found = await ask(server)
    assert found.text == "{Yes}"
    assert reward_at(found.tokens[1]) is None
    row = await direct(server, tokenizer)
    (vote,) = row.verdicts[0].votes
    assert (vote.status, vote.reward, vote.judgement) == (VoteStatus.NO_LOGPROBS, None, True)
    assert row.verdicts[0].reward is None and row.verdicts[0].judgement is None
    assert vote.reason


async def test_nan_beyond_the_alternatives_that_were_asked_for_is_not_cut_off(serve):
    """Servers add the sampled token to the alternatives, and what they send too much must not hide the unknown."""
    top = ", ".join(f'"other {number}": -{number}.5' for number in range(2, 9))
    server = serve(lambda path, body: raw(judged(top=f'{{"Yes": -0.23, {top}, "No": NaN}}')))
    assert reward_at((await ask(server)).tokens[1]) is None


@pytest.mark.parametrize("number", ["-Infinity", "-9999.0", "-1e999", "-1" + "0" * 400])
async def test_nan_minus_infinity_is_probability_zero(serve, tokenizer, number):
    answer = judged(top=f'{{"Yes": -0.23, "No": {number}}}')
    row = await direct(serve(lambda path, body: raw(answer)), tokenizer)
    assert row.verdicts[0].reward is not None and row.verdicts[0].reward > 0.79


@pytest.mark.parametrize("entry", ["null", "NaN"])
async def test_null_an_unknown_entry_spoils_nothing_but_itself(serve, tokenizer, entry):
    server = serve(lambda path, body: raw(judged(first=entry, top='{"Yes": -0.23, "No": -1.6}')))
    found = await ask(server)
    assert found.text == "{Yes}"
    assert math.isnan(found.tokens[0].logprob)
    assert reward_at(found.tokens[0]) is None
    assert (await direct(server, tokenizer)).verdicts[0].reward == pytest.approx(0.797, abs=0.002)


@pytest.mark.parametrize(
    "logprobs",
    [
        None,
        {},
        {"content": []},
        {"content": [1]},
        {"tokens": ["a"], "token_logprobs": []},
        [],
        "no",
        {"tokens": 3},
    ],
)
async def test_null_log_probabilities_that_cannot_be_read_are_none(serve, logprobs):
    found = await ask(serve(lambda path, body: chosen(text="{Yes}", logprobs=logprobs)))
    assert found.ok, found.error
    assert (found.text, tuple(found.tokens)) == ("{Yes}", ())


async def direct(server: Loopback, tokenizer: Path):
    """The verification of a step by a verifier that says Yes or No alone."""
    options = VerifyConfig(components="direct", logprobs=5)
    engine = HttpEngine(server.url, tokenizer=tokenizer, retries=0)
    item = VerifyItem(id="a", problem="What is 2 + 2?", steps=("It is 4.",))
    (row,) = await judge_all(Verifier(engine, None, options), [item])
    await engine.aclose()
    return row


# How an answer ended


@pytest.mark.parametrize("word", ["eos_token", "eos", "end_turn", "EOS", "end_of_turn"])
async def test_finish_other_servers_words_for_the_end_of_the_turn(serve, word):
    params = SamplingParams(stop=("</analyze>",))
    found = await ask(
        serve(lambda path, body: chosen(text="ok", finish_reason=word), listed("m")),
        Request(prompt="x", params=params),
    )
    assert (found.text, found.finish_reason, found.stop) == ("ok", "eos", None)


@pytest.mark.parametrize("word", ["max_tokens", "MAX_TOKENS", "length", "max_new_tokens"])
async def test_finish_other_servers_words_for_the_budget(serve, word):
    params = SamplingParams(stop=("</analyze>",))
    found = await ask(
        serve(lambda path, body: chosen(text="ok", finish_reason=word)), Request(prompt="x", params=params)
    )
    assert found.finish_reason == "length"


async def test_finish_a_stop_sequence_is_put_back(serve):
    """TGI says that a stop string ended the text, and leaves it out."""

    def reply(path: str, body: dict[str, Any]) -> Any:
        if "stop" in body:
            return chosen(text="ok", finish_reason="stop_sequence")
        return chosen(text="something else", finish_reason="length")

    params = SamplingParams(stop=("</analyze>",))
    found = await ask(serve(reply, listed("m")), Request(prompt="x", params=params))
    assert (found.text, found.finish_reason, found.stop) == ("ok</analyze>", "stop", "</analyze>")


@pytest.mark.parametrize(("tokens", "reason"), [(3, "eos"), (512, "length")])
async def test_finish_a_missing_reason_is_read_off_the_number_of_tokens(serve, tokens, reason):
    answer = {"choices": [{"text": "ok", "finish_reason": None}], "usage": {"completion_tokens": tokens}}
    assert (await ask(serve(lambda path, body: ok(answer)))).finish_reason == reason


@pytest.mark.parametrize("word", ["error", "abort"])
async def test_finish_an_answer_that_broke_off_is_retried(serve, word):
    answers = iter([chosen(text="", finish_reason=word), chosen(text="fine")])
    found = await ask(serve(lambda path, body: next(answers)))
    assert found.text == "fine"


@pytest.mark.parametrize(
    ("choice", "kind", "hint"),
    [
        ({"text": "a", "finish_reason": "content_filter"}, EngineRequestError, "filter"),
        (
            {"message": {"content": None}, "finish_reason": "tool_calls"},
            EngineProtocolError,
            "parser of tool calls",
        ),
        ({"text": "a", "finish_reason": "vanished"}, EngineProtocolError, ""),
    ],
)
async def test_finish_what_is_no_answer_is_a_typed_error(serve, choice, kind, hint):
    found = await ask(serve(lambda path, body: chosen(**choice)))
    assert isinstance(found.error, kind)
    assert hint in found.error.hint


# Errors with HTTP 200


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"message": "Provider returned error", "code": 502}},
        {"error": {"message": "Provider returned error", "code": "503"}},
        {"error": {"message": "slow down", "type": "rate_limit_exceeded"}},
        {"error": "the model is still loading"},
        {"object": "error", "message": "engine died", "code": 500},
        {
            "choices": [
                {"text": "", "finish_reason": "error", "error": {"code": 502, "message": "Provider"}}
            ]
        },
        {"choices": []},
        {"choices": [{"finish_reason": "stop"}]},
        [],
        None,
    ],
)
async def test_200_error_is_retried_like_a_real_one(serve, body):
    answers = iter([ok(body), chosen(text="fine")])
    server = serve(lambda path, _: next(answers))
    assert (await ask(server)).text == "fine"
    lasting = await ask(serve(lambda path, _: ok(body)), retries=1)
    assert lasting.error is not None and lasting.error.retryable


async def test_200_error_with_a_lasting_code_is_not_retried(serve):
    server = serve(lambda path, body: ok({"error": {"message": "no such parameter", "code": 400}}))
    found = await ask(server)
    assert isinstance(found.error, EngineRequestError)
    assert "no such parameter" in found.error.message
    assert sum(path == "/v1/completions" for path, _, _ in server.seen) == 1


@pytest.mark.parametrize(
    "answer",
    [
        (200, {}, b"[" * 200_000),
        (200, {}, b'{"choices": ' + b"[" * 200_000),
        (500, {}, b"[" * 200_000),
        (200, {}, b"\xff\xfe{}"),
        (200, {"content-encoding": "gzip"}, b"no gzip"),
    ],
)
async def test_200_error_what_no_parser_takes_is_retried(serve, answer):
    answers = iter([answer, chosen(text="fine")])

    def reply(path: str, body: dict[str, Any]) -> Any:
        status, headers, data = next(answers)
        return status, dict(headers), data

    assert (await ask(serve(reply))).text == "fine"


@pytest.mark.parametrize("charset", ["rot13", "utf-16", "nonsense", "base64", ""])
async def test_200_error_a_wrong_charset_changes_nothing(serve, charset):
    headers = {"content-type": f"application/json; charset={charset}"}
    data = json.dumps({"choices": [{"text": "größer", "finish_reason": "stop"}]}, ensure_ascii=False)
    assert (await ask(serve(lambda path, body: (200, dict(headers), data.encode())))).text == "größer"


async def test_a_redirection_is_reported_and_not_followed(serve):
    server = serve(lambda path, body: (307, {"location": "http://elsewhere.example/v1"}, b""))
    found = await ask(server)
    assert isinstance(found.error, EngineRequestError)
    assert "http://elsewhere.example/v1" in found.error.message


async def test_an_answer_that_unpacks_to_more_than_any_answer_is_not_read(serve, monkeypatch):
    monkeypatch.setattr("genprm.engines._http.connections._LONGEST_ANSWER", 1 << 20)
    bomb = gzip.compress(json.dumps({"choices": [{"text": "a" * (8 << 20)}]}).encode())
    server = serve(lambda path, body: (200, {"content-encoding": "gzip"}, bomb))
    found = await ask(server, retries=2)
    assert isinstance(found.error, EngineProtocolError)
    assert "more than 1 MB" in found.error.message
    assert sum(path != "/v1/models" for path, *_ in server.seen) == 1, "it would be as large again"


async def test_a_stream_that_nobody_asked_for_is_named(serve):
    stream = b'data: {"choices": [{"text": "ok"}]}\n\ndata: [DONE]\n\n'
    found = await ask(serve(lambda path, body: (200, {"content-type": "text/event-stream"}, stream)))
    assert isinstance(found.error, EngineProtocolError)
    assert "it streams" in found.error.hint


@pytest.mark.parametrize(
    "said", [b"SSH-2.0-OpenSSH_9.9\r\n", b"HTTP/1.1 200 OK\r\nx: " + b"y" * 100_000 + b"\r\n\r\n"]
)
async def test_what_speaks_no_http_is_named(said):
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(said)
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    engine = HttpEngine(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", model="m", retries=0)
    (found,) = await engine.generate([Request(messages=CHAT)])
    await engine.aclose()
    server.close()
    assert isinstance(found.error, EngineUnavailable)
    assert "not HTTP" in found.error.message and "\n" not in found.error.message
    assert "http or https" in found.error.hint


# Models


@pytest.mark.parametrize(
    "models",
    [
        ok([{"id": "m", "object": "model"}]),
        ok(["m"]),
        ok({"models": [{"name": "m"}]}),
        (404, {}, b'{"detail":"Not Found"}'),
        (405, {}, b""),
        (200, {}, b"<html>welcome</html>"),
        ok({"error": "Unexpected endpoint"}),
    ],
)
async def test_models_list_a_bare_list_or_none_works_when_the_model_is_named(serve, models):
    server = serve(lambda path, body: chosen(text="fine"), models)
    engine = HttpEngine(server.url, model="m", retries=0)
    await engine.check()
    (found,) = await engine.generate([Request(prompt="x")])
    await engine.aclose()
    assert found.text == "fine", found.error
    assert server.seen[-1][1]["model"] == "m"


async def test_models_list_none_and_no_name_says_what_to_do(serve):
    for models in ((404, {}, b""), ok({"data": []})):
        found = await ask(serve(lambda path, body: chosen(text="fine"), models))
        assert found.error is not None
        assert "`model`" in found.error.hint


async def test_models_list_a_wrong_key_is_not_taken_for_a_missing_list(serve):
    server = serve(lambda path, body: chosen(text="fine"), (401, {}, b""))
    engine = HttpEngine(server.url, model="m")
    with pytest.raises(EngineRequestError) as caught:
        await engine.check()
    await engine.aclose()
    assert "API key" in caught.value.hint


async def test_latest_a_name_without_its_tag_is_accepted_and_a_missing_one_reported(serve):
    server = serve(
        lambda path, body: chosen(message={"content": "fine"}), listed("qwen2.5:latest", owner="library")
    )
    found = await ask(server, Request(messages=CHAT), model="qwen2.5")
    assert found.text == "fine", found.error
    assert server.seen[-1][1]["model"] == "qwen2.5:latest"
    missing = await ask(server, Request(messages=CHAT), model="llama3")
    assert isinstance(missing.error, EngineRequestError)
    assert "llama3" in missing.error.message and "qwen2.5:latest" in missing.error.hint


# Templates


@pytest.mark.parametrize(("owner", "version"), [("library", None), ("a-publisher", {"version": "0.12.1"})])
async def test_ollama_sees_the_rendered_chat_once(serve, tokenizer, owner, version):
    """It puts what it gets into the template, so it must get the turns, also if a tokenizer is given."""

    def reply(path: str, body: dict[str, Any]) -> Any:
        if path == "/api/version":
            return ok(version)
        return chosen(message={"content": "4"})

    server = serve(reply, listed("qwen2.5:latest", owner=owner))
    found = await ask(server, Request(messages=CHAT), tokenizer=tokenizer)
    assert found.text == "4", found.error
    sent = [(path, body) for path, body, _ in server.seen if not path.endswith(("models", "version"))]
    assert [path for path, _ in sent] == ["/v1/chat/completions"]
    assert sent[0][1]["messages"] == [{"role": "user", "content": "What is 2 + 2?"}]
    for request, options in (
        (Request(prompt="<s>[user] rendered"), {}),
        (Request(messages=CHAT), {"api": "completions"}),
        (Request(messages=CHAT, prefix="It is"), {}),
        (Request(messages=CHAT, add_generation_prompt=False), {}),
    ):
        refused = await ask(server, request, tokenizer=tokenizer, **options)
        assert isinstance(refused.error, EngineRequestError)
        assert "llama-server" in refused.error.hint
    assert not any(path == "/v1/completions" for path, _, _ in server.seen)


@pytest.mark.parametrize("key", ["reasoning_content", "reasoning"])
@pytest.mark.parametrize("content", [None, ""])
async def test_reasoning_split_off_by_the_server_is_reported(serve, key, content):
    message = {"role": "assistant", "content": content, key: "2+2=4 so \\boxed{4}"}
    server = serve(lambda path, body: chosen(message=message, finish_reason="length"), listed("m"))
    found = await ask(server, Request(messages=CHAT))
    assert isinstance(found.error, EngineProtocolError)
    assert key in found.error.message and "reasoning parser" in found.error.hint


async def test_reasoning_beside_an_answer_is_left_out_unless_the_text_must_be_continued(serve):
    message = {"content": "The answer is 4.", "reasoning": "2 + 2 is 4."}
    server = serve(lambda path, body: chosen(message=message))
    assert (await ask(server, Request(messages=CHAT))).text == "The answer is 4."
    continued = await ask(server, Request(messages=CHAT, prefix="<analyze>\n"))
    assert isinstance(continued.error, EngineProtocolError)


async def test_content_in_parts_is_one_text(serve):
    parts = [{"type": "text", "text": "The answer "}, {"type": "text", "text": "is 4."}]
    server = serve(lambda path, body: chosen(message={"content": parts}), listed("m"))
    assert (await ask(server, Request(messages=CHAT))).text == "The answer is 4."


TAGGED = (
    "{{ bos_token }}{% for m in messages %}[{{ m.role }}]"
    "{% if m.role == 'assistant' %}{% generation %}{% set end = '.' %}{{ m.content }}{{ end }}{% endgeneration %}"
    "{% else %}{{ m.content }}{% endif %}{{ end }}\n{% endfor %}{% if tools is not none %}TOOLS{% endif %}"
    "{{ messages[0] | tojson(separators=(',', ':')) }}"
)


def test_generation_tag_is_rendered_as_transformers_renders_it(tiny_model):
    from transformers import AutoTokenizer

    chat = [("user", "2 + 2?"), ("assistant", "4"), ("user", "So?"), ("assistant", "Yes")]
    turns = [{"role": role, "content": content} for role, content in chat]
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    expected = tokenizer.apply_chat_template(turns, chat_template=TAGGED, tokenize=False)
    messages = tuple(ChatMessage(role=role, content=content) for role, content in chat)
    template = ChatTemplate.from_text(TAGGED, {"bos_token": "<s>", "eos_token": "</s>"})
    assert template.render(messages, add_generation_prompt=False) == expected
    assert "[assistant]4.\n" in expected and "TOOLS" not in expected


@pytest.mark.parametrize("owner", ["sglang", "somebody", "llamacpp", "vllm"])
@pytest.mark.parametrize("adds", [True, False])
@pytest.mark.parametrize("counts", [True, False])
async def test_bos_exactly_one_reaches_the_model(serve, tokenizer, owner, adds, counts):
    """A template writes `<s>`; the server's tokenizer puts one in front, or does not, and says so or does not."""
    reached: list[int] = []

    def tokens(text: str, special: bool) -> int:
        return text.count("<s>") + special

    def reply(path: str, body: dict[str, Any]) -> Any:
        if path == "/tokenize" and counts:
            return ok({"tokens": list(range(tokens(body["content"], adds)))})
        if path in ("/tokenize", "/props"):
            return 404, {}, b""
        added = adds and not (owner == "vllm" and body.get("add_special_tokens") is False)
        reached.append(tokens(body["prompt"], added))
        usage = {"prompt_tokens": reached[-1]} if counts else None
        if path == "/completion":
            return ok({"content": "4", "stop_type": "eos"})
        return ok({"choices": [{"text": "4", "finish_reason": "stop"}], "usage": usage})

    if not adds and not counts and owner != "vllm":
        pytest.skip("nothing tells this server from one that adds a BOS, as most do")
    server = serve(reply, listed("m", owner=owner))
    found = await ask(server, Request(messages=CHAT), tokenizer=tokenizer)
    assert found.ok, found.error
    assert reached[-1] == 1


# Addresses


async def test_a_url_without_a_scheme_works(serve):
    server = serve(lambda path, body: chosen(text="fine"))
    bare = server.url.removeprefix("http://")
    for url in (bare, f"{bare}/v1", f"{bare}/v1/", f" {bare}/ "):
        engine = HttpEngine(url, retries=0)
        (found,) = await engine.generate([Request(prompt="x")])
        await engine.aclose()
        assert found.text == "fine", found.error


async def test_a_name_and_password_in_the_url_are_sent_and_never_shown(serve, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "another")
    server = serve(lambda path, body: (400, {}, b"bad"))
    url = server.url.replace("http://", "http://user:hush%21@")
    found = await ask(server, retries=0)
    assert server.seen[-1][2]["Authorization"] == "Bearer another"
    engine = HttpEngine(url, retries=0)
    (found,) = await engine.generate([Request(prompt="x")])
    await engine.aclose()
    assert server.seen[-1][2]["Authorization"] == "Basic dXNlcjpodXNoIQ=="
    assert "hush" not in str(found.error) + json.dumps(engine.describe())
