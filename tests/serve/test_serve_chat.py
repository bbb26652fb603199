"""The chat endpoint, asked by OpenAI's own client."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import openai
import pytest
from conftest import Live, Serving

from genprm import (
    EngineUnavailable,
    Request,
    SandboxDied,
    ScriptedEngine,
    ScriptedReward,
    Verifier,
    VerifyConfig,
)

STRATEGIES = {
    "best-of-4": {"kind": "best_of_n", "n": 4},
    "vote-4": {"kind": "weighted", "n": 4},
    "critic": {"kind": "refine", "turns": 2},
}
CHAT: Any = [{"role": "user", "content": "What is 2 + 3?"}]
ANSWERS = ("4", "5", "4", "5")
STYLES = (" 2 + 3.\n\nStep 2: The answer is \\boxed{%s}.", " We add.\n\nStep 2: So \\boxed{%s} it is.")


def write(request: Request) -> str:
    """Four samples, two of each answer; a rewriting is right."""
    if len(request.messages) > 2:
        return STYLES[0] % "5"
    return STYLES[request.sample // 2] % ANSWERS[request.sample % 4]


def right(problem: str, steps: Sequence[str], index: int) -> float:
    """High for the answer 5, highest for the one in the second style."""
    text = steps[index]
    if "boxed" not in text:
        return 0.75
    return 0.0625 if "{4}" in text else 0.875 if "So" in text else 0.625


async def until(holds: Callable[[], Any]) -> None:
    async with asyncio.timeout(20):
        while not await holds():
            await asyncio.sleep(0.01)


def client(live: Live, **options: Any) -> openai.AsyncOpenAI:
    options = {"api_key": "none", "max_retries": 0, **options}
    return openai.AsyncOpenAI(base_url=f"{live.url}/v1", **options)


def policy(respond: Any = write) -> ScriptedEngine:
    return ScriptedEngine(respond)


async def test_the_models_are_the_strategies(serving: Serving) -> None:
    async with (
        serving(ScriptedReward(right), policy=policy(), strategies=STRATEGIES) as live,
        client(live) as ai,
    ):
        assert [model.id async for model in ai.models.list()] == list(STRATEGIES)
        assert (await ai.models.retrieve("critic")).id == "critic"
        with pytest.raises(openai.NotFoundError) as refused:
            await ai.models.retrieve("gpt-5")
        assert (refused.value.code, refused.value.param) == ("model_not_found", "model")
        with pytest.raises(openai.NotFoundError):
            await ai.chat.completions.create(model="gpt-5", messages=CHAT)


@pytest.mark.parametrize(("model", "said"), [("best-of-4", "So \\boxed{5}"), ("vote-4", "\\boxed{5}")])
async def test_the_verifier_chooses_and_all_tokens_are_counted(
    serving: Serving, model: str, said: str
) -> None:
    engine = policy()
    async with (
        serving(ScriptedReward(right), policy=engine, strategies=STRATEGIES) as live,
        client(live) as ai,
    ):
        done = await ai.chat.completions.create(model=model, messages=CHAT)
        assert await live.metric(f'genprm_searches_total{{model="{model}",outcome="answered"}}') == 1
        assert await live.metric('genprm_policy_tokens_total{kind="completion"}') == (
            done.usage.completion_tokens if done.usage else None
        )
    (choice,) = done.choices
    assert said in (choice.message.content or "") and choice.finish_reason == "stop"
    details: Any = done.model_extra["genprm"] if done.model_extra else None
    assert [one["answer"] for one in details["candidates"]] == list(ANSWERS)
    assert sum(one["chosen"] for one in details["candidates"]) == 1
    assert done.usage is not None and done.usage.completion_tokens_details is not None
    # A scripted reward costs nothing; four samples were written and one of them is shown.
    assert done.usage.completion_tokens == details["policy_usage"]["completion_tokens"]
    assert done.usage.total_tokens == done.usage.prompt_tokens + done.usage.completion_tokens
    hidden = done.usage.completion_tokens_details.reasoning_tokens
    assert hidden is not None and 0 < hidden < done.usage.completion_tokens


async def test_tokens_of_the_verifier_are_counted_too(serving: Serving) -> None:
    options = VerifyConfig(components="cot", profile="compact", votes=2)

    def review(request: Request) -> str:
        return "Yes}" if request.prefix.endswith("boxed{") else "Fine.\n</analyze>\n"

    script = ScriptedEngine(review)
    async with (
        serving(Verifier(script, options=options), policy=policy(), strategies=STRATEGIES) as live,
        client(live) as ai,
    ):
        done = await ai.chat.completions.create(model="best-of-4", messages=CHAT)
        judged = await live.metric('genprm_tokens_total{kind="completion"}')
        assert await live.metric("genprm_uncounted_requests_total") == 0
    details: Any = done.model_extra["genprm"] if done.model_extra else None
    parts = [details[f"{who}_usage"]["completion_tokens"] for who in ("policy", "verifier")]
    assert done.usage is not None and done.usage.completion_tokens == sum(parts)
    assert parts[1] == judged and judged > 0


async def test_verifications_that_another_chat_began_cost_nothing_again(serving: Serving) -> None:
    options = VerifyConfig(components="cot", profile="compact", votes=2)
    script = ScriptedEngine(
        lambda request: "Yes}" if request.prefix.endswith("boxed{") else "Fine.\n</analyze>\n"
    )
    same = policy(lambda request: "Step 1: 2 + 3 = 5.\n\nStep 2: So \\boxed{5}.")
    async with (
        serving(Verifier(script, options=options), policy=same, strategies=STRATEGIES) as live,
        client(live) as ai,
    ):
        costs = []
        for _ in range(2):
            done = await ai.chat.completions.create(model="best-of-4", messages=CHAT)
            details: Any = done.model_extra["genprm"] if done.model_extra else None
            costs.append(details["verifier_usage"]["completion_tokens"])
        judged = await live.metric('genprm_tokens_total{kind="completion"}')
    assert costs == [judged, 0] and judged > 0, "four equal candidates are one verification"


async def test_the_critic_has_a_wrong_answer_rewritten(serving: Serving) -> None:
    async with (
        serving(ScriptedReward(right), policy=policy(), strategies=STRATEGIES) as live,
        client(live) as ai,
    ):
        done = await ai.chat.completions.create(model="critic", messages=CHAT)
    details: Any = done.model_extra["genprm"] if done.model_extra else None
    assert "\\boxed{5}" in (done.choices[0].message.content or "")
    assert [(one["answer"], one["first_error"]) for one in details["candidates"]] == [("4", 1), ("5", -1)]
    assert [one["chosen"] for one in details["candidates"]] == [False, True]
    assert [one["judged"] for one in details["candidates"]] == [True, True]
    assert details["strategy"] == {"kind": "refine", "turns": 2}


async def test_the_last_rewriting_is_shown_as_not_judged(serving: Serving) -> None:
    def never(problem: str, steps: Sequence[str], index: int) -> float:
        return 0.125

    async with (
        serving(ScriptedReward(never), policy=policy(), strategies=STRATEGIES) as live,
        client(live) as ai,
    ):
        done = await ai.chat.completions.create(model="critic", messages=CHAT)
    details: Any = done.model_extra["genprm"] if done.model_extra else None
    last = details["candidates"][-1]
    assert (last["judged"], last["scores"], last["first_error"]) == (False, None, None)
    assert all(one["judged"] and one["scores"] for one in details["candidates"][:-1])


async def test_a_stream_shows_the_search_as_it_goes(serving: Serving) -> None:
    permits = asyncio.Semaphore(0)

    async def judge(problem: str, steps: Sequence[str], index: int) -> float:
        await permits.acquire()
        return right(problem, steps, index)

    async with (
        serving(ScriptedReward(judge), policy=policy(), strategies=STRATEGIES) as live,
        client(live) as ai,
    ):
        stream = await ai.chat.completions.create(
            model="best-of-4", messages=CHAT, stream=True, stream_options={"include_usage": True}
        )
        progress, content, usage, finish = "", "", None, None
        async with asyncio.timeout(20):
            async for chunk in stream:
                usage = chunk.usage or usage
                for choice in chunk.choices:
                    line = getattr(choice.delta, "reasoning_content", None)
                    if line:
                        progress += line
                        assert not content
                        permits.release()  # a step is judged only when the line before it has arrived
                    content += choice.delta.content or ""
                    finish = choice.finish_reason or finish
    lines = progress.splitlines()
    assert lines[0] == "Writing 4 solutions." and lines[-1] == "Solution 4 is chosen."
    assert {line.split(":")[0] for line in lines[1:-1]} == {
        f"Solution {number}, step {step}" for number in range(1, 5) for step in (1, 2)
    }
    assert "So \\boxed{5}" in content and finish == "stop"
    assert usage is not None and usage.total_tokens > 0


async def test_chats_with_parts_a_system_turn_and_earlier_turns(serving: Serving) -> None:
    asked: list[Request] = []
    problems: list[str] = []

    def respond(request: Request) -> str:
        asked.append(request)
        return write(request)

    def judge(problem: str, steps: Sequence[str], index: int) -> float:
        problems.append(problem)
        return right(problem, steps, index)

    chat: Any = [
        {"role": "developer", "content": "Be brief."},
        {
            "role": "user",
            "content": [{"type": "text", "text": "What is "}, {"type": "text", "text": "1 + 1?"}],
        },
        {"role": "assistant", "content": "2"},
        {"role": "user", "content": "And plus 3?"},
    ]
    async with (
        serving(ScriptedReward(judge), policy=policy(respond), strategies=STRATEGIES) as live,
        client(live) as ai,
    ):
        await ai.chat.completions.create(
            model="best-of-4",
            messages=chat,
            temperature=0.25,
            top_p=0.5,
            max_tokens=99,
            seed=7,
            extra_body={"top_k": 5, "min_p": 0.0},
        )
        whole = "User: What is 1 + 1?\n\nAssistant: 2\n\nUser: And plus 3?"
        system, user = asked[0].messages
        assert (system.content, set(problems)) == ("Be brief.", {whole}) and whole in user.content
        params = asked[0].params
        assert (params.temperature, params.top_p, params.max_tokens, params.top_k) == (0.25, 0.5, 99, 5)
        for wrong in (
            {"messages": chat[:3]},
            {"messages": chat, "n": 2},
            {"messages": chat, "stop": ["x"]},
            {"messages": chat, "extra_body": {"min_p": 0.1}},
            {"messages": chat, "extra_body": {"structured_outputs": {"choice": ["a"]}}},
            {"messages": chat, "tools": [{"type": "function", "function": {"name": "f"}}]},
            {"messages": chat, "response_format": {"type": "json_object"}},
            {"messages": [{"role": "user", "content": " "}]},
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "u"}}]}]},
            {"messages": [{"role": "tool", "content": "x", "tool_call_id": "1"}]},
            {"messages": []},
        ):
            with pytest.raises(openai.BadRequestError) as refused:
                await ai.chat.completions.create(model="best-of-4", **wrong)  # type: ignore[call-overload]
            assert refused.value.type == "invalid_request_error"


def raise_(error: Exception) -> Any:
    raise error


def raising(*_: Any) -> Any:
    raise EngineUnavailable("refused")


@pytest.mark.parametrize("model", STRATEGIES)
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("judge", "respond", "code"),
    [
        (raising, write, "engine_failed"),
        (lambda problem, steps, index: raise_(SandboxDied("gone")), write, "sandbox_failed"),
        (right, raising, "engine_failed"),
        (lambda problem, steps, index: None, write, "unparsed"),
        (right, lambda request: "", "empty_text"),
        (right, lambda request: asyncio.Event().wait(), "deadline"),
    ],
)
async def test_what_is_unknown_is_an_error_and_never_an_answer(
    serving: Serving, model: str, stream: bool, judge: Any, respond: Any, code: str
) -> None:
    live_config = {"strategies": STRATEGIES, "deadline_seconds": 0.3 if code == "deadline" else 60}
    sections = {"solutions": {"profile": "policy"}}
    async with (
        serving(ScriptedReward(judge), policy=policy(respond), sections=sections, **live_config) as live,
        client(live) as ai,
    ):
        with pytest.raises(openai.APIError) as refused:
            answer = await ai.chat.completions.create(model=model, messages=CHAT, stream=stream)
            async for chunk in answer:
                assert not (chunk.choices and chunk.choices[0].delta.content)
        assert await live.metric(f'genprm_searches_total{{model="{model}",outcome="{code}"}}') == 1
    assert refused.value.code == code and "there is no answer" in refused.value.message
    if not stream:
        lasting = code in ("unparsed", "empty_text")
        kind = openai.UnprocessableEntityError if lasting else openai.InternalServerError
        assert isinstance(refused.value, kind)


@pytest.mark.parametrize("model", STRATEGIES)
@pytest.mark.parametrize("stream", [False, True])
async def test_a_full_queue_ends_a_search_in_an_error(serving: Serving, model: str, stream: bool) -> None:
    begun = asyncio.Event()

    async def hang(problem: str, steps: Sequence[str], index: int) -> float:
        begun.set()
        await asyncio.Event().wait()
        return 0.0

    config = {"strategies": STRATEGIES, "in_work": 1, "queue": 0}
    async with (
        serving(ScriptedReward(hang), policy=policy(), **config) as live,
        client(live) as ai,
    ):
        other = asyncio.create_task(live.post("/v1/verify", {"problem": "other", "steps": ["a"]}))
        async with asyncio.timeout(20):
            await begun.wait()
        with pytest.raises(openai.APIError) as refused:
            answer = await ai.chat.completions.create(model=model, messages=CHAT, stream=stream)
            async for _ in answer:
                pass
        assert refused.value.code == "overloaded"
        if not stream:
            assert isinstance(refused.value, openai.RateLimitError)
            assert int(refused.value.response.headers["Retry-After"]) >= 1
        assert await live.metric(f'genprm_searches_total{{model="{model}",outcome="failed"}}') == 1
        other.cancel()
        await asyncio.gather(other, return_exceptions=True)


async def test_a_vote_without_any_stated_answer_is_no_answer(serving: Serving) -> None:
    async with (
        serving(
            ScriptedReward(lambda p, s, i: 0.5), policy=policy(lambda r: " Hm."), strategies=STRATEGIES
        ) as live,
        client(live) as ai,
    ):
        with pytest.raises(openai.UnprocessableEntityError) as refused:
            await ai.chat.completions.create(model="vote-4", messages=CHAT)
        assert refused.value.code == "no_answer"


async def test_a_fault_that_passes_is_met_by_the_clients_own_retry(serving: Serving) -> None:
    calls = 0

    def respond(request: Request) -> str:
        nonlocal calls
        calls += 1
        return raising() if calls <= 4 else write(request)  # the first try's four samples

    async with (
        serving(ScriptedReward(right), policy=policy(respond), strategies=STRATEGIES) as live,
        client(live, max_retries=2) as ai,
    ):
        done = await ai.chat.completions.create(model="best-of-4", messages=CHAT)
    assert "\\boxed{5}" in (done.choices[0].message.content or "")


@pytest.mark.parametrize("how", ["deadline", "left"])
@pytest.mark.parametrize("phase", ["writing", "judging"])
async def test_a_search_that_was_cut_off_costs_what_was_written(
    serving: Serving, phase: str, how: str
) -> None:
    reached = asyncio.Event()

    async def last_hangs(request: Request) -> str:
        if phase == "writing" and request.sample == 3:
            reached.set()
            await asyncio.Event().wait()
        return write(request)

    async def hang(problem: str, steps: Sequence[str], index: int) -> float:
        reached.set()
        await asyncio.Event().wait()
        return 0.0

    config: dict[str, Any] = {
        "strategies": STRATEGIES,
        "limits": {"*": {"tokens_per_minute": 1}},
        "deadline_seconds": 0.5 if how == "deadline" else 60,
    }
    async with serving(ScriptedReward(hang), policy=policy(last_hangs), **config) as live:
        call = asyncio.create_task(
            live.post("/v1/chat/completions", {"model": "best-of-4", "messages": CHAT})
        )
        async with asyncio.timeout(20):
            await reached.wait()
        if how == "left":
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)
        else:
            assert (await call)[0] == 503
        outcome = "cancelled" if how == "left" else "deadline"

        async def counted() -> bool:
            return await live.metric(f'genprm_searches_total{{model="best-of-4",outcome="{outcome}"}}') == 1

        await until(counted)
        assert (await live.metric('genprm_policy_tokens_total{kind="completion"}') or 0) > 0
        again = await live.post("/v1/chat/completions", {"model": "best-of-4", "messages": CHAT})
        assert again[0] == 429, "the key has paid for it"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_frees_the_search(serving: Serving, stream: bool) -> None:
    waiting = asyncio.Event()

    async def hang(problem: str, steps: Sequence[str], index: int) -> float:
        waiting.set()
        await asyncio.Event().wait()
        return 0.0

    async with (
        serving(ScriptedReward(hang), policy=policy(), strategies=STRATEGIES, searches=1) as live,
        client(live) as ai,
    ):

        async def ask() -> None:
            answer: Any = await ai.chat.completions.create(model="best-of-4", messages=CHAT, stream=stream)
            async for _ in answer:
                pass

        call = asyncio.create_task(ask())
        async with asyncio.timeout(20):
            await waiting.wait()
        assert await live.metric("genprm_searching") == 1
        with pytest.raises(openai.RateLimitError) as refused:
            await ai.chat.completions.create(model="critic", messages=CHAT)
        assert int(refused.value.response.headers["Retry-After"]) >= 1
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)

        async def freed() -> bool:
            return await live.metric("genprm_searching") == 0

        await until(freed)
        assert await live.metric("genprm_running") == 0
        cancelled = 'genprm_searches_total{model="best-of-4",outcome="cancelled"}'
        assert await live.metric(cancelled) == 1
        assert (await live.metric("genprm_cancelled_total") or 0) >= 1


async def test_without_strategies_there_are_no_models(serving: Serving) -> None:
    async with serving(ScriptedReward(right)) as live, client(live) as ai:
        assert [model async for model in ai.models.list()] == []
        with pytest.raises(openai.NotFoundError, match=r"serve\.strategies"):
            await ai.chat.completions.create(model="best-of-4", messages=CHAT)


async def test_errors_before_the_app_are_in_openais_form_too(serving: Serving) -> None:
    config = {"strategies": STRATEGIES, "api_keys": {"a": "0" * 64}}
    async with (
        serving(ScriptedReward(right), policy=policy(), **config) as live,
        client(live) as ai,
    ):
        with pytest.raises(openai.AuthenticationError) as refused:
            await ai.chat.completions.create(model="best-of-4", messages=CHAT)
        assert (refused.value.type, refused.value.code) == ("authentication_error", "unauthorized")
