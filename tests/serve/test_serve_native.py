"""The native interface over HTTP, with a real server and real clients."""

from __future__ import annotations

import asyncio
import hashlib
import json
import threading
import time
from collections.abc import Sequence
from typing import Any

import pytest
from conftest import Serving

import genprm
from genprm import (
    AsyncRewardClient,
    RewardClient,
    ScriptedEngine,
    ScriptedReward,
    Served,
    ServedStep,
    Verifier,
)
from genprm.config import SandboxConfig, VerifyConfig
from genprm.engines import Request, Scripted
from genprm.serve.run import check_serving
from genprm.serve.wire import Solution, read_out

KEY = "gp-an-api-key-of-the-tests"
HASH = hashlib.sha256(KEY.encode()).hexdigest()
SOLUTION = "Step 1: 2 + 3 = 5.\r\n\r\nStep 2: 5 + 4 = 8 \N{THINKING FACE}.\n\nStep 3: So it is 8."
ASKED = {"problem": "What is 2 + 3 + 4?", "solution": SOLUTION}


def second_is_wrong(problem: str, steps: Sequence[str], index: int) -> float:
    return 0.25 if index == 1 else 0.875


def scripted(judge: Any = second_is_wrong) -> ScriptedReward:
    return ScriptedReward(judge)


async def until(condition: Any) -> None:
    async with asyncio.timeout(20):
        while not await condition():
            await asyncio.sleep(0.01)


async def test_a_text_is_split_and_each_step_has_its_span(serving: Serving) -> None:
    async with serving(scripted()) as live:
        status, answer, _ = await live.post("/v1/verify", {**ASKED, "id": "mine"})
    assert status == 200
    assert answer["id"] == "mine" and answer["first_error"] == 1
    assert answer["rewards"] == [0.875, 0.25, 0.875]
    assert answer["judgements"] == [True, False, True]
    assert answer["scores"]["min"] == 0.25
    assert answer["unknown"] is None and answer["shared"] == "no" and answer["policy"] is None
    for step in answer["steps"]:
        start, end = step["span"]
        assert SOLUTION[start:end] == step["text"]
    assert [step["text"][:6] for step in answer["steps"]] == ["Step 1", "Step 2", "Step 3"]


async def test_steps_are_taken_as_they_are_and_the_second_question_costs_nothing(serving: Serving) -> None:
    body = {"problem": "p", "steps": ["a\n\nb", "c"]}
    async with serving(scripted()) as live:
        first, second = [(await live.post("/v1/verify", body))[1] for _ in range(2)]
    assert [step["text"] for step in first["steps"]] == ["a\n\nb", "c"]
    assert [step["span"] for step in first["steps"]] == [None, None]
    assert (first["shared"], second["shared"]) == ("no", "recent")


def reviewer(request: Request) -> str | Scripted:
    if request.prefix.endswith("```python\n"):
        return "print(2 + 3)\n```\n"
    if "[Code Output]" in request.prefix:
        return Scripted("Fine.\n</verify>\n<output>\n**Judgement**: $\\boxed{Yes}$\n</output>\n", (0.75,))
    return "Let us see.\n</analyze>\n"


async def test_what_the_verifier_wrote_and_its_code_printed_is_sent_unless_unwanted(
    serving: Serving,
) -> None:
    options = VerifyConfig(profile="compact", votes=2)
    async with (
        Verifier(
            ScriptedEngine(reviewer),
            options=options,
            sandbox_options=SandboxConfig(tier="plain", workers=1),
        ) as verifier,
        serving(verifier) as live,
    ):
        body = {"problem": "p", "steps": ["Step 1: 2 + 3 = 5"]}
        _, full, _ = await live.post("/v1/verify", body)
        _, short, _ = await live.post("/v1/verify", {**body, "rationales": False})
    votes = full["steps"][0]["votes"]
    assert [vote["reward"] for vote in votes] == pytest.approx([0.75, 0.75])
    (code,) = votes[0]["rationale"]["rounds"]
    assert (code["code"].strip(), code["output"].strip()) == ("print(2 + 3)", "5")
    assert full["usage"]["completion_tokens"] > 0
    assert [vote["rationale"] for vote in short["steps"][0]["votes"]] == [None, None]
    assert short["rewards"] == full["rewards"]


async def test_a_batch_is_answered_in_order(serving: Serving) -> None:
    items = [
        {"id": str(number), "problem": f"p{number}", "steps": ["a"] * number} for number in range(1, 6)
    ]
    async with serving(scripted(), in_work=2, queue=0) as live:
        status, answer, _ = await live.post("/v1/verify/batch", {"items": items})
    assert status == 200
    assert [one["id"] for one in answer["results"]] == ["1", "2", "3", "4", "5"]
    assert [len(one["rewards"]) for one in answer["results"]] == [1, 2, 3, 4, 5]


async def test_steps_are_streamed_before_the_solution_is_finished(serving: Serving) -> None:
    permits = asyncio.Semaphore(1)

    async def judge(problem: str, steps: Sequence[str], index: int) -> float:
        await permits.acquire()
        return 0.875

    async with serving(scripted(judge)) as live, AsyncRewardClient(live.url) as client:
        seen: list[ServedStep | Served] = []
        async with asyncio.timeout(20):
            async for event in client.stream("p", SOLUTION):
                seen.append(event)
                permits.release()  # the next step is judged only when this one has arrived
    assert [event.step for event in seen if isinstance(event, ServedStep)] == [0, 1, 2]
    assert isinstance(seen[-1], Served) and seen[-1].first_error == genprm.NO_ERROR


async def test_a_client_that_leaves_frees_its_work(serving: Serving) -> None:
    asked = asyncio.Event()

    async def hang(problem: str, steps: Sequence[str], index: int) -> float:
        asked.set()
        await asyncio.Event().wait()
        return 0.0

    async with serving(scripted(hang)) as live:
        for stream in (False, True):
            asked.clear()
            call = asyncio.create_task(live.post("/v1/verify", {**ASKED, "stream": stream}))
            async with asyncio.timeout(20):
                await asked.wait()
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)

            async def freed(times: int = 1 + stream) -> bool:
                return await live.metric("genprm_cancelled_total") == times

            await until(freed)
            assert await live.metric("genprm_running") == 0


async def test_a_failure_within_a_stream_has_its_own_type(serving: Serving) -> None:
    begun = asyncio.Event()

    async def hang(problem: str, steps: Sequence[str], index: int) -> float:
        begun.set()
        if problem == "bug":
            raise KeyError("a bug")
        await asyncio.Event().wait()
        return 0.0

    async with serving(scripted(hang)) as live, AsyncRewardClient(live.url) as client:

        async def read(problem: str) -> None:
            async for _ in client.stream(problem, ["a"]):
                pass

        with pytest.raises(genprm.EngineUnavailable, match="500") as broken:
            await read("bug")
        assert not broken.value.retryable
        begun.clear()
        reading = asyncio.create_task(read("p"))
        async with asyncio.timeout(20):
            await begun.wait()
        await live.service.aclose()
        with pytest.raises(genprm.Overloaded, match="shutting down"):
            await reading


async def test_a_deadline_is_answered_with_what_is_known(serving: Serving) -> None:
    async def judge(problem: str, steps: Sequence[str], index: int) -> float:
        if index:
            await asyncio.Event().wait()
        return 0.875

    async with serving(scripted(judge)) as live:
        status, answer, _ = await live.post("/v1/verify", {**ASKED, "deadline_seconds": 0.5})
        assert await live.metric('genprm_unknown_total{dialect="native",kind="deadline"}') == 1
    assert status == 200
    assert answer["rewards"] == [0.875, None, None]
    assert [step["unknown"] for step in answer["steps"]] == [None, "deadline", "deadline"]
    assert (answer["unknown"], answer["retry"], answer["first_error"]) == ("deadline", True, None)
    assert set(answer["scores"].values()) == {None}


async def test_a_full_queue_is_429_with_the_time_to_come_back(serving: Serving) -> None:
    begun = asyncio.Event()

    async def judge(problem: str, steps: Sequence[str], index: int) -> float:
        begun.set()
        await asyncio.Event().wait()
        return 0.0

    async with serving(scripted(judge), in_work=1, queue=0) as live:
        call = asyncio.create_task(live.post("/v1/verify", ASKED))
        async with asyncio.timeout(20):
            await begun.wait()
        assert (await live.get("/readyz"))[0] == 503
        assert (await live.get("/healthz"))[0] == 200
        for stream in (False, True):
            status, answer, headers = await live.post(
                "/v1/verify", {"problem": "q", "steps": ["a"], "stream": stream}
            )
            assert (status, answer["error"]["kind"]) == (429, "overloaded")
            assert int(headers["Retry-After"]) >= 1
        async with AsyncRewardClient(live.url, attempts=1) as client:
            with pytest.raises(genprm.Overloaded) as refused:
                await client.verify("q", ["a"])
            assert refused.value.retry_after >= 1
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "the body is not JSON"),
        (b"{}", "'problem' is missing"),
        (b'{"problem": "p", "steps": [' + b"1," * 20_000 + b"1]}", "'steps' has a list of 20001 entries"),
        (
            b'{"problem": "p",' + b",".join(b'"k%d": 1' % n for n in range(2000)) + b"}",
            "the body has 2000 mistakes",
        ),
        (b'{"problem": 3, "steps": [1]}', "'problem' must be a text; 'steps[0]' must be a text"),
        (b"[1]", "object"),
        (b"{" * 100_000, "JSON"),
        (b'{"problem": "p"}', "steps or solution"),
        (b'{"problem": "p", "steps": ["a"], "solution": "b"}', "steps or solution"),
        (b'{"problem": "p", "steps": []}', "at least one step"),
        (b'{"problem": " ", "steps": ["a"]}', "problem is empty"),
        (b'{"problem": "p", "steps": ["a", " "]}', "step 2 is empty"),
        (b'{"problem": "p", "solution": "\\n "}', "solution is empty"),
        (b'{"problem": "p", "solution": "\\ud800"}', ""),
        (b'{"problem": "p", "steps": ["a"], "voets": 3}', "unknown key 'voets'"),
        (
            b'{"problem": "p", "steps": ["a"], "deadline_seconds": -1}',
            "'deadline_seconds' must be greater than 0",
        ),
        (b'{"problem": "p", "steps": ["a"], "rationales": 7}', "'rationales' must be true or false"),
        (b"{" + b", ".join(b'"k%d": 1' % number for number in range(9)) + b"}", "; and more"),
        (b'{"problem": "p", "' + b"k" * 10_000 + b'": 1}', "kkk..."),
        (b'{"problem": "p", "steps": ["a", "a", "a", "a"]}', "more than 3"),
    ],
)
async def test_a_wrong_request_is_422_and_says_what_is_wrong(
    serving: Serving, body: bytes, said: str
) -> None:
    async with (
        serving(scripted(), max_steps=3) as live,
        live.http.post(live.url + "/v1/verify", data=body) as response,
    ):
        answer = await response.json()
        assert response.status == 422
        assert said in answer["error"]["message"] and answer["error"]["kind"] == "data"


@pytest.mark.parametrize(
    ("path", "body", "hint"),
    [
        ("/v1/verify", {"problem": "p", "solutoin": "a"}, "Did you mean 'solution'?"),
        ("/v1/verify", {"problem": "p", "steps": "a"}, "one text goes into 'solution'"),
        ("/v1/verify", {"problem": "p", "solution": ["a"]}, "a list goes into 'steps'"),
        ("/v1/verify", {**ASKED, "votes": 8}, "the server's config does"),
        ("/v1/verify", {**ASKED, "zzz": 8}, "Known keys here: deadline_seconds, id, problem"),
        ("/v1/verify", {"items": [ASKED]}, "/v1/verify/batch"),
        ("/v1/verify/batch", ASKED, "Each of 'items' has its own"),
        ("/v1/verify/batch", {"items": [{"problem": "p", "stps": ["a"]}]}, "Did you mean 'steps'?"),
    ],
)
async def test_a_hint_says_what_was_probably_meant(
    serving: Serving, path: str, body: Any, hint: str
) -> None:
    async with serving(scripted()) as live:
        status, answer, _ = await live.post(path, body)
    assert status == 422 and hint in answer["error"]["hint"]
    assert "pydantic" not in str(answer) and "Input" not in str(answer)


@pytest.mark.parametrize("items", [b"{}," * 20_000 + b"{}", b'{"steps": [' + b"1," * 20_000 + b"1]}"])
async def test_a_batch_of_countless_mistakes_is_one_mistake(serving: Serving, items: bytes) -> None:
    async with (
        serving(scripted()) as live,
        live.http.post(f"{live.url}/v1/verify/batch", data=b'{"items": [' + items + b"]}") as response,
    ):
        answer = await response.json()
    assert response.status == 422
    assert answer["error"]["message"] == "'items' has a list of 20001 entries, more than 10000"


async def test_a_long_text_is_split_while_others_are_served() -> None:
    served = threading.Event()

    def split(text: str) -> tuple[str, ...]:
        return (text[:1],) if served.wait(20) else ()

    reading = asyncio.create_task(read_out(Solution(problem="p", solution="x" * 200_000), split, 8))
    await asyncio.sleep(0)
    served.set()
    assert (await reading).steps == ("x",)


async def test_too_many_items_and_unknown_paths(serving: Serving) -> None:
    async with serving(scripted(), max_items=1) as live:
        items = [{"problem": "p", "steps": ["a"]}] * 2
        assert (await live.post("/v1/verify/batch", {"items": items}))[0] == 422
        assert (await live.post("/nowhere", {}))[0] == 404
        assert (await live.get("/v1/verify"))[0] == 405
        assert await live.metric('genprm_http_requests_total{key="",path="other",status="404"}') == 1


async def test_bodies_are_bounded_in_size_and_time(serving: Serving) -> None:
    async with serving(scripted(), max_body_bytes=1000, body_seconds=0.2) as live:
        assert (await live.post("/v1/verify", {"problem": "p" * 2000, "steps": ["a"]}))[0] == 413

        async def parts() -> Any:
            for _ in range(20):
                yield b"x" * 100

        async with live.http.post(live.url + "/v1/verify", data=parts()) as response:
            assert response.status == 413

        host, port = live.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"POST /v1/verify HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        async with asyncio.timeout(20):
            assert (await reader.readline()).startswith(b"HTTP/1.1 408")
        writer.close()


async def test_a_key_is_asked_for_everywhere_but_at_the_probes(serving: Serving) -> None:
    async with serving(scripted(), api_keys={"trainer": HASH}) as live:
        for headers in ({}, {"Authorization": "Bearer no"}, {"X-API-Key": HASH}, {"Authorization": KEY}):
            status, answer, _ = await live.post("/v1/verify", ASKED, headers=headers)
            assert (status, answer["error"]["kind"]) == (401, "unauthorized")
            sent = "X-API-Key" in headers or "Bearer" in str(headers)
            assert answer["error"]["message"] == (
                "the API key is none of this server's" if sent else "this server asks for an API key"
            )
        assert (await live.get("/metrics"))[0] == (await live.get("/openapi.json"))[0] == 401
        assert (await live.get("/healthz"))[0] == (await live.get("/readyz"))[0] == 200
        filled_in = {"Authorization": "Bearer EMPTY", "X-API-Key": KEY}
        for headers in ({"Authorization": f"Bearer {KEY}"}, {"X-API-Key": KEY}, filled_in):
            assert (await live.post("/v1/verify", ASKED, headers=headers))[0] == 200
        _, text = await live.get("/metrics", headers={"X-API-Key": KEY})
        assert 'key="trainer",path="/v1/verify",status="200"} 3.0' in text and KEY not in text
        async with AsyncRewardClient(live.url, api_key=KEY) as client:
            assert (await client.verify("p", ["a"])).first_error == genprm.NO_ERROR
        async with AsyncRewardClient(live.url) as client:
            with pytest.raises(genprm.ConfigError, match="API key"):
                await client.verify("p", ["a"])


def test_other_addresses_than_loopback_need_a_key() -> None:
    for host in ("127.0.0.1", "::1", "[::1]", "localhost", "127.9.9.9"):
        check_serving(genprm.ServeConfig(host=host), VerifyConfig())
    for host in ("0.0.0.0", "::", "192.168.1.2", "example.org"):
        with pytest.raises(genprm.ConfigError, match="anyone who reaches it"):
            check_serving(genprm.ServeConfig(host=host), VerifyConfig())
        check_serving(genprm.ServeConfig(host=host, api_keys={"a": HASH}), VerifyConfig())
        check_serving(genprm.ServeConfig(host=host, open_without_keys=True), VerifyConfig())
    with pytest.raises(genprm.ConfigError, match=r"serve.api_keys.a is no SHA-256") as refused:
        check_serving(genprm.ServeConfig(api_keys={"a": KEY}), VerifyConfig())
    assert KEY not in str(refused.value)
    with pytest.raises(genprm.ConfigError, match="stop_at_first_error"):
        check_serving(genprm.ServeConfig(), VerifyConfig(stop_at_first_error=True))


async def test_a_bug_is_500_without_its_words(serving: Serving) -> None:
    def judge(problem: str, steps: Sequence[str], index: int) -> float:
        raise KeyError("secret")

    async with serving(scripted(judge)) as live:
        status, answer, _ = await live.post("/v1/verify", ASKED)
        async with AsyncRewardClient(live.url) as client:
            with pytest.raises(genprm.EngineUnavailable, match="unexpected"):
                [event async for event in client.stream("p", ["a"])]
    assert status == 500 and "secret" not in json.dumps(answer)


async def test_the_clients_agree(serving: Serving) -> None:
    items = [genprm.VerifyItem(id=f"i{number}", problem="p", steps=("a", "b")) for number in range(3)]
    async with serving(scripted()) as live:

        def ask() -> tuple[Any, ...]:
            with RewardClient(live.url) as client:
                return (
                    client.verify("p", ["a", "b"]),
                    client.verify_many(items),
                    list(client.stream("p", "Step 1: a\nStep 2: b")),
                )

        one, many, events = await asyncio.to_thread(ask)
        async with AsyncRewardClient(live.url + "/") as client:
            assert (await client.verify("p", ["a", "b"])).rewards == one.rewards == (0.875, 0.25)
            assert await client.verify_many([]) == []
            with pytest.raises(genprm.DataError, match="an item cannot be 'text'"):
                await client.verify_many(["text"])  # type: ignore[list-item]
        assert [row.id for row in many] == ["i0", "i1", "i2"]
        assert isinstance(events[-1], Served) and events[-1].rewards == (0.875, 0.25)


@pytest.mark.parametrize("key", ["gp-a\n", " gp-a", "gp a", "gp-\N{EM DASH}", "gp-a\r\nX-Other: 1"])
async def test_a_key_that_no_header_can_hold_is_refused_before_it_is_sent(key: str) -> None:
    with pytest.raises(genprm.ConfigError, match="API key") as refused:
        AsyncRewardClient("http://127.0.0.1:9", api_key=key)
    assert key not in str(refused.value)


async def test_a_client_without_a_server_says_so() -> None:
    with pytest.raises(genprm.ConfigError, match="not the URL"):
        AsyncRewardClient("localhost:8400")
    async with AsyncRewardClient("http://127.0.0.1:9", attempts=1) as client:
        with pytest.raises(genprm.EngineUnavailable, match="does not answer"):
            await client.verify("p", ["a"])


async def test_the_openapi_document_has_every_path_and_no_dangling_reference(serving: Serving) -> None:
    async with serving(scripted()) as live:
        _, text = await live.get("/openapi.json")
    document = json.loads(text)
    assert {
        "/v1/verify",
        "/v1/verify/batch",
        "/openrlhf",
        "/slime",
        "/verify",
        "/pooling",
        "/classify",
    } <= set(document["paths"])
    names = set(document["components"]["schemas"])
    found = {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}
    assert found <= names and "#/$defs" not in text


async def test_a_burst_of_equal_requests_costs_one_verification(serving: Serving) -> None:
    calls = 0

    async def judge(problem: str, steps: Sequence[str], index: int) -> float:
        nonlocal calls
        calls += 1
        await asyncio.sleep(0)
        return 0.875

    async with serving(scripted(judge)) as live:
        answers = await asyncio.gather(*(live.post("/v1/verify", ASKED) for _ in range(8)))
    assert {status for status, _, _ in answers} == {200}
    assert calls == 3
    assert len({json.dumps(answer["rewards"]) for _, answer, _ in answers}) == 1


async def test_fewer_votes_under_load_are_shown_in_the_answer_and_the_metrics(serving: Serving) -> None:
    begun, go = asyncio.Event(), asyncio.Event()

    async def judge(problem: str, steps: Sequence[str], index: int) -> float:
        begun.set()
        await go.wait()
        return 0.875

    busy = scripted(lambda problem, steps, index: 0.75)
    load = {"in_work": 1, "busy_voting": "exact", "busy_above": 0}
    async with serving(scripted(judge), busy, **load) as live:
        bodies = [{"problem": f"p{number}", "steps": ["a"]} for number in range(3)]
        calls = [asyncio.create_task(live.post("/v1/verify", bodies[0]))]
        async with asyncio.timeout(20):
            await begun.wait()
            calls += [asyncio.create_task(live.post("/v1/verify", body)) for body in bodies[1:]]
            while live.service.waiting < 2:
                await asyncio.sleep(0.001)
        go.set()
        answers = [answer for _, answer, _ in await asyncio.gather(*calls)]
        policy = "voting=exact: more than 0 verifications were waiting"
        assert sorted(str(answer["policy"]) for answer in answers) == ["None", "None", policy]
        assert await live.metric(f'genprm_policies_total{{policy="{policy}"}}') == 1
        assert [answer["rewards"] for answer in answers if answer["policy"]] == [[0.75]]


async def test_a_deadline_holds_for_a_whole_batch_and_what_comes_too_late_is_not_begun(
    serving: Serving,
) -> None:
    begun: list[str] = []

    async def hang(problem: str, steps: Sequence[str], index: int) -> float:
        begun.append(problem)
        await asyncio.Event().wait()
        return 1.0

    items = [{"problem": f"p{n}", "steps": ["a"]} for n in range(8)]
    async with serving(ScriptedReward(hang), in_work=2, linger_seconds=0) as live:
        start = time.monotonic()
        status, answer, _ = await live.post("/v1/verify/batch", {"items": items, "deadline_seconds": 0.5})
        took = time.monotonic() - start
    assert status == 200 and took < 1.5 and len(begun) == 2
    assert [row["unknown"] for row in answer["results"]] == ["deadline"] * 8
    assert all(row["retry"] for row in answer["results"])


async def test_an_item_that_is_refused_lets_the_others_of_its_batch_finish(serving: Serving) -> None:
    begun: list[str] = []
    opened = asyncio.Event()

    async def wait(problem: str, steps: Sequence[str], index: int) -> float:
        begun.append(problem)
        await opened.wait()
        return 0.75

    asked = {"items": [{"problem": f"p{n}", "steps": ["a"]} for n in range(4)]}
    async with serving(ScriptedReward(wait), in_work=4, queue=0) as live:
        other = asyncio.create_task(live.post("/v1/verify", {"problem": "other", "steps": ["a"]}))
        async with asyncio.timeout(20):
            while not begun:
                await asyncio.sleep(0.001)
            refused = asyncio.create_task(live.post("/v1/verify/batch", asked))
            while live.service.counts.refused == 0 or len(begun) < 4:
                await asyncio.sleep(0.001)
        opened.set()
        await other
        status, _, headers = await refused
        again = await live.post("/v1/verify/batch", asked)
        counts = live.service.counts
    assert status == 429 and float(headers["Retry-After"]) >= 1 and counts.cancelled == 0
    assert again[0] == 200 and sorted(begun) == ["other", "p0", "p1", "p2", "p3"]
    assert [row["shared"] for row in again[1]["results"]] == ["recent"] * 3 + ["no"]
