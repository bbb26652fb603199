"""Verification on real servers behind a proxy that injects faults: no verdict lost, none invented.

The verifier is a tiny model that knows its reviews by heart, on a real llama-server, and under
`make test-vllm` on a real vLLM.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from typing import Any

import by_heart
import pytest
from servers import Loopback, fault, forward

from genprm.config import SamplingConfig, VerifyConfig
from genprm.engines import HttpEngine, LocalEngine, Request, SamplingParams
from genprm.records import ChatMessage, Verification, VerifyItem, VoteStatus
from genprm.rewards import Verifier
from genprm.rewards.base import judge_all
from genprm.sandbox import IsolatedSandbox

CONFIG = VerifyConfig(profile=by_heart.PROFILE, votes=2, max_tokens=160, max_rounds=2, logprobs=5)
PASSING = ["429", "503", "500", "reset", "truncated", "malformed", "cut json", "no choices", "hang"]


@pytest.fixture(params=["llama", pytest.param("vllm", marks=pytest.mark.vllm)])
def server(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """A real server's URL and what the http engine has to know about it."""
    url: str = request.getfixturevalue(f"by_heart_{request.param}")
    if request.param == "llama":
        return url, {}
    return url, {"tokenizer": request.getfixturevalue("by_heart_model")}


@pytest.fixture
def proxy(server: tuple[str, dict[str, Any]]):
    """Makes a proxy in front of the server: `decide(path, body, number)` names a fault or says None."""
    started: list[Loopback] = []

    def start(decide: Callable[[str, dict[str, Any], int], Any]) -> Loopback:
        numbers = itertools.count()

        def answer(method: str, path: str, body: dict[str, Any]) -> Any:
            chosen = None if method == "GET" else decide(path, body, next(numbers))
            if chosen is not None:
                return fault(chosen) if isinstance(chosen, str) else chosen
            return forward(server[0], method, path, body)

        started.append(Loopback(answer))
        return started[-1]

    yield start
    for one in started:
        one.close()


async def verify(
    url: str, options: dict[str, Any], items: tuple[VerifyItem, ...] = by_heart.ITEMS
) -> list[Verification]:
    engine = HttpEngine(url, retry_seconds=0.01, max_concurrency=4, **options)
    async with IsolatedSandbox(tier="plain", workers=1) as sandbox:
        found = await judge_all(Verifier(engine, sandbox, CONFIG), items)
    await engine.aclose()
    assert [row.item_id for row in found] == [item.id for item in items]
    for row in found:
        assert [verdict.step for verdict in row.verdicts] == list(range(len(row.steps)))
        for verdict in row.verdicts:
            assert [vote.path for vote in verdict.votes] == [0, 1]
            for vote in verdict.votes:
                assert (vote.reward is not None) is (vote.status is VoteStatus.OK)
                assert (vote.reason is None) is (vote.status is VoteStatus.OK)
    return found


def patience(kind: str) -> dict[str, float]:
    """Seconds to wait for an answer: less than a server hangs where it is to hang, else plenty."""
    return {"timeout": 1.0 if kind == "hang" else 60.0}


def assert_known(rows: list[Verification]) -> None:
    for row in rows:
        assert [verdict.judgement for verdict in row.verdicts] == list(by_heart.TRUTH)
        for verdict in row.verdicts:
            assert verdict.reward == pytest.approx(float(verdict.judgement or False), abs=0.05)
            assert all(vote.status is VoteStatus.OK and not vote.forced for vote in verdict.votes)
            assert all(vote.rationale and vote.rationale.rounds for vote in verdict.votes)
        assert row.usage.prompt_tokens > 0 and row.usage.completion_tokens > 0


@pytest.mark.parametrize("kind", PASSING)
async def test_passing_faults_change_no_verdict(server, proxy, kind: str) -> None:
    front = proxy(lambda path, body, number: kind if number % 3 == 1 else None)
    assert_known(await verify(front.url, {**server[1], **patience(kind), "retries": 12}))


@pytest.mark.parametrize("kind", PASSING)
async def test_lasting_faults_lose_votes_with_a_status_and_no_verdict(server, proxy, kind: str) -> None:
    """The server fails for good once it has seen a second turn: first steps stand, later ones are reported as failed."""

    def decide(path: str, body: dict[str, Any], number: int) -> str | None:
        prompt = str(body.get("prompt", "")) + str(body.get("messages", ""))
        return (
            kind if by_heart.ITEMS[0].steps[1] in prompt or by_heart.ITEMS[1].steps[1] in prompt else None
        )

    for row in await verify(proxy(decide).url, {**server[1], **patience(kind), "retries": 1}):
        first, second = row.verdicts
        assert first.judgement is True and first.status == "ok"
        assert (second.status, second.reward, second.judgement) == ("failed", None, None)
        assert second.reason == "engine_failed: 2"
        assert all("Engine" in (vote.reason or "") for vote in second.votes)
        assert row.first_error is None and row.score.mean is None


async def test_an_overlong_solution_fails_alone_with_the_servers_own_word(server) -> None:
    long = VerifyItem(id="long", problem="Very long. " * 2000, steps=("Step 1: no.", "Step 2: no."))
    fine, lost = await verify(server[0], server[1], (by_heart.ITEMS[0], long))
    assert_known([fine])
    assert [verdict.status for verdict in lost.verdicts] == ["failed", "failed"]
    assert all("ContextOverflow" in (vote.reason or "") for vote in lost.verdicts[0].votes)
    assert {vote.status for vote in lost.verdicts[1].votes} == {VoteStatus.NOT_REACHED}


async def test_a_server_without_extensions_gives_the_same_verdicts(server, proxy) -> None:
    """Every parameter that is no part of OpenAI's API is rejected by name; llama.cpp gets its own endpoint otherwise."""

    def decide(path: str, body: dict[str, Any], number: int) -> Any:
        for name in ("top_k", "include_stop_str_in_output", "no_stop_trim", "add_special_tokens"):
            if path.startswith("/v1/") and name in body:
                said = {"error": {"message": f"Unrecognized argument: {name}"}}
                return 400, {"content-type": "application/json"}, json.dumps(said).encode()
        return None

    rows = await verify(proxy(decide).url, {**server[1], "api": "completions"})
    for row in rows:
        assert [verdict.judgement for verdict in row.verdicts] == list(by_heart.TRUTH)


@pytest.mark.vllm
async def test_vllm_renders_chats_as_their_own_template_does(by_heart_model, by_heart_vllm: str) -> None:
    chat = tuple(
        ChatMessage(role=role, content=content)
        for role, content in (
            ("system", "Check."),
            ("user", "1 + 1?"),
            ("assistant", "2."),
            ("user", "So?"),
        )
    )
    params = SamplingParams(temperature=0.0, max_tokens=8, seed=1)
    bare = Request(messages=chat, prefix="<analyze>\n", add_generation_prompt=False, params=params)
    texts = []
    for options in ({}, {"tokenizer": by_heart_model}):
        engine = HttpEngine(by_heart_vllm, **options)
        (found,) = await engine.generate([bare])
        await engine.aclose()
        assert found.ok, found.error
        texts.append((found.text, found.usage.prompt_tokens))
    assert texts[0] == texts[1]


async def test_several_servers_of_which_one_dies_give_the_same_verdicts(server, proxy) -> None:
    dying = proxy(lambda path, body, number: None if number < 4 else "reset")
    healthy = proxy(lambda path, body, number: None)
    engine_options = {**server[1], "retries": 6}
    items = tuple(
        item.model_copy(update={"id": f"{item.id}{copy}"}) for copy in range(3) for item in by_heart.ITEMS
    )
    engine = HttpEngine([dying.url, healthy.url], retry_seconds=0.01, max_concurrency=4, **engine_options)
    async with IsolatedSandbox(tier="plain", workers=1) as sandbox:
        rows = await judge_all(Verifier(engine, sandbox, CONFIG), items)
    await engine.aclose()
    assert_known(rows)
    assert len(dying.seen) > 4 and len(healthy.seen) > 4


@pytest.mark.parametrize("concurrency", [1, 3, 64])
async def test_local_rewards_do_not_depend_on_the_concurrency(by_heart_model, concurrency: int) -> None:
    """Same seed, same engine: the same rewards bit by bit, although the model is warm and code runs in between."""
    hot = SamplingConfig(temperature=2.5)
    config = CONFIG.model_copy(update={"votes": 3, "sampling": hot})
    engine = LocalEngine(by_heart_model, deterministic=True, threads=1, batch_size=8)
    items = tuple(
        item.model_copy(update={"id": f"{item.id}{copy}"}) for copy in range(2) for item in by_heart.ITEMS
    )
    async with IsolatedSandbox(tier="plain", workers=1) as sandbox:
        seen = [
            [
                (vote.reward, vote.status, vote.rationale.text if vote.rationale else None)
                for row in await judge_all(
                    Verifier(engine, sandbox, config, seed=3, concurrency=bound), items
                )
                for verdict in row.verdicts
                for vote in verdict.votes
            ]
            for bound in (16, concurrency)
        ]
    await engine.aclose()
    assert seen[0] == seen[1]
    assert len({text for _, _, text in seen[0]}) > 6, "hot enough that paths differ"
