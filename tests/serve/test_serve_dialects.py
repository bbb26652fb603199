"""The dialects: what trainers send is read, and no failure becomes a number that a trainer would learn from."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any

import pytest
from conftest import Serving
from serve_bodies import (
    BODIES,
    CHATML,
    PATHS,
    QUESTION,
    SOLUTION,
    learned,
    nemo_gym,
    openrlhf,
    pooling,
    slime,
)

from genprm import (
    EngineUnavailable,
    IsolatedSandbox,
    Request,
    SandboxDied,
    ScriptedEngine,
    ScriptedReward,
    Verifier,
    VerifyConfig,
)
from genprm.serve.dialects.rendered import plain, question_of, response_of

FRESH = {"id", "created"}
"""What differs between two answers to one request, where a dialect has it."""


def test_every_dialect_is_in_the_suite() -> None:
    assert BODIES.keys() == PATHS.keys()


@pytest.mark.parametrize("name", BODIES)
async def test_a_dialect_is_understood_and_answered(serving: Serving, name: str) -> None:
    asked: list[tuple[str, tuple[str, ...]]] = []

    def judge(problem: str, steps: Sequence[str], index: int) -> float:
        asked.append((problem, tuple(steps)))
        return 0.25 if index else 0.875

    async with serving(ScriptedReward(judge)) as live:
        status, answer, _ = await live.post(PATHS[name], BODIES[name](SOLUTION))
        again = await live.post(PATHS[name], BODIES[name](SOLUTION))
    assert status == 200 and again[1] == {
        **answer,
        **{key: again[1][key] for key in again[1].keys() & FRESH},
    }
    assert asked[-1] == (QUESTION, tuple(SOLUTION.split("\n\n"))) and len(asked) == 2
    assert 0.25 in learned(name, status, answer)


class Trouble:
    """A failure, as it reaches the server."""

    def __init__(self, kind: str, judge: Any, solution: str = SOLUTION) -> None:
        self.kind, self.judge, self.solution = kind, judge, solution


def raising(error: Exception) -> Any:
    def judge(problem: str, steps: Sequence[str], index: int) -> float:
        raise error

    return judge


async def hang(problem: str, steps: Sequence[str], index: int) -> float:
    await asyncio.Event().wait()
    return 1.0


def second_unknown(problem: str, steps: Sequence[str], index: int) -> float | None:
    return None if index else 0.875


TROUBLES = [
    Trouble("engine_failed", raising(EngineUnavailable("refused"))),
    Trouble("sandbox_failed", raising(SandboxDied("gone"))),
    Trouble("deadline", hang),
    Trouble("unparsed", second_unknown),
    Trouble("empty_text", second_unknown, ""),
    Trouble("empty_text", second_unknown, " \n "),
    Trouble("overloaded", hang),
]
TRANSIENT = {"engine_failed", "sandbox_failed", "deadline", "overloaded"}


@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda trouble: trouble.kind)
@pytest.mark.parametrize(("name", "fallback"), [*((name, None) for name in BODIES), ("openrlhf", 0.5)])
async def test_no_failure_becomes_a_number_to_learn_from(
    serving: Serving, name: str, trouble: Trouble, fallback: float | None
) -> None:
    config: dict[str, Any] = {"openrlhf_unknown": fallback, "linger_seconds": 0}
    overloaded = trouble.kind == "overloaded"
    config |= {"in_work": 1, "queue": 0} if overloaded else {}
    config |= {"deadline_seconds": 0.2} if trouble.kind == "deadline" else {}
    async with AsyncExitStack() as stack:
        live = await stack.enter_async_context(serving(ScriptedReward(trouble.judge), **config))
        if overloaded:
            other = asyncio.create_task(live.post("/v1/verify", {"problem": "other", "steps": ["a"]}))
            async with asyncio.timeout(20):
                while not live.service.running:
                    await asyncio.sleep(0.001)
        status, answer, headers = await live.post(PATHS[name], BODIES[name](trouble.solution))
        shown = await live.metric(f'genprm_unknown_total{{dialect="{name}",kind="{trouble.kind}"}}')
        if overloaded:
            other.cancel()
            await asyncio.gather(other, return_exceptions=True)
    assert learned(name, status, answer) == []
    assert shown == 1
    transient = trouble.kind in TRANSIENT
    if name == "nemo_gym":  # it never asks again
        assert (status, answer["failure_kind"]) == (200, f"genprm:{trouble.kind}")
        assert answer["failure_reason"] and math.isfinite(answer["reward"])
    elif name == "openrlhf" and fallback is not None and not overloaded:
        assert answer == {"rewards": [0.5], "scores": [0.5], "extra_logs": {"genprm_unknown": [1.0]}}
    elif name == "slime" and not transient:
        assert (status, answer["reward"], answer["remove_sample"]) == (200, None, True)
        assert answer["unknown"] == trouble.kind
    else:
        assert status == (429 if overloaded else 503 if transient else 422)
        assert answer["error"]["kind"] == trouble.kind
        assert ("Retry-After" in headers) is transient


@pytest.mark.parametrize("name", BODIES)
async def test_a_verifier_whose_engine_is_down_gives_no_number(serving: Serving, name: str) -> None:
    def down(request: Any) -> str:
        raise EngineUnavailable("refused")

    options = VerifyConfig(components="cot", profile="compact", votes=2)
    async with serving(Verifier(ScriptedEngine(down), options=options)) as live:
        status, answer, _ = await live.post(PATHS[name], BODIES[name](SOLUTION))
        assert await live.metric(f'genprm_unknown_total{{dialect="{name}",kind="engine_failed"}}') == 1
    assert learned(name, status, answer) == []
    assert "refused" in str(answer)


def reviewer(request: Request) -> str:
    if request.prefix.endswith("```python\n"):
        return "print(2 + 3)\n```\n"
    if "[Code Output]" in request.prefix:
        return "Fine.\n</verify>\n<output>\n**Judgement**: $\\boxed{Yes}$\n</output>\n"
    return "Let us see.\n</analyze>\n"


@pytest.mark.parametrize("name", BODIES)
async def test_a_verifier_whose_sandbox_is_gone_gives_no_number(serving: Serving, name: str) -> None:
    sandbox = IsolatedSandbox("plain", workers=1)
    async with sandbox:
        pass
    options = VerifyConfig(profile="compact", votes=2)
    async with serving(Verifier(ScriptedEngine(reviewer), sandbox, options)) as live:
        status, answer, _ = await live.post(PATHS[name], BODIES[name](SOLUTION))
        assert await live.metric(f'genprm_unknown_total{{dialect="{name}",kind="sandbox_failed"}}') == 1
    assert learned(name, status, answer) == []
    assert name == "slime" or "the sandbox is closed" in str(answer)  # which has no place for words


@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda trouble: trouble.kind)
async def test_the_native_answer_has_null_where_something_is_unknown(
    serving: Serving, trouble: Trouble
) -> None:
    config: dict[str, Any] = {"in_work": 1, "queue": 0} if trouble.kind == "overloaded" else {}
    config |= {"deadline_seconds": 0.2} if trouble.kind == "deadline" else {}
    async with serving(ScriptedReward(trouble.judge), linger_seconds=0, **config) as live:
        if trouble.kind == "overloaded":
            other = asyncio.create_task(live.post("/v1/verify", {"problem": "other", "steps": ["a"]}))
            async with asyncio.timeout(20):
                while not live.service.running:
                    await asyncio.sleep(0.001)
        body = {"problem": QUESTION, "solution": trouble.solution}
        status, answer, headers = await live.post("/v1/verify", body)
        if trouble.kind == "overloaded":
            other.cancel()
            await asyncio.gather(other, return_exceptions=True)
    if trouble.kind in ("overloaded", "empty_text"):
        assert (status, answer["error"]["kind"]) == (
            (429, "overloaded") if trouble.kind == "overloaded" else (422, "data")
        )
        assert ("Retry-After" in headers) is (trouble.kind == "overloaded")
        return
    assert (status, answer["unknown"]) == (200, trouble.kind)
    assert answer["retry"] is (trouble.kind in TRANSIENT)
    assert set(answer["scores"].values()) == {None} and answer["first_error"] is None
    assert answer["rewards"] == ([0.875, None] if trouble.kind == "unparsed" else [None, None])


async def test_a_retry_after_a_deadline_joins_and_costs_nothing(serving: Serving) -> None:
    go = asyncio.Event()
    asked = 0

    async def judge(problem: str, steps: Sequence[str], index: int) -> float:
        nonlocal asked
        asked += 1
        await go.wait()
        return 0.875

    async with serving(ScriptedReward(judge), deadline_seconds=0.2) as live:
        status, answer, _ = await live.post("/slime", slime(SOLUTION))
        assert (status, answer["error"]["kind"]) == (503, "deadline")
        go.set()
        async with asyncio.timeout(20):
            while status != 200:
                status, answer, _ = await live.post("/slime", slime(SOLUTION))
        assert live.service.counts.verifications == 1
    assert answer["reward"] == 0.875 and asked == 2


async def test_openrlhf_has_the_same_numeric_keys_in_every_sample(serving: Serving) -> None:
    one, two = openrlhf(SOLUTION), openrlhf("")
    both = {key: one[key] + two[key] for key in one}
    async with serving(ScriptedReward(lambda p, s, i: 0.875), openrlhf_unknown=-1.5) as live:
        _, answer, _ = await live.post("/openrlhf", both)
    assert answer == {
        "rewards": [0.875, -1.5],
        "scores": [0.875, -1.5],
        "extra_logs": {"genprm_unknown": [0.0, 1.0]},
    }


async def test_openrlhf_reads_queries_without_their_prompt_and_refuses_what_is_no_chat(
    serving: Serving,
) -> None:
    body = openrlhf(SOLUTION)
    async with serving(ScriptedReward(lambda p, s, i: 0.875)) as live:
        moved = {**body, "query": ["<|endoftext|>" + body["query"][0].replace("Solve.", "Solve!")]}
        assert (await live.post("/openrlhf", moved))[0] == 200
        status, answer, _ = await live.post("/openrlhf", {**body, "query": ["something else"]})
        assert (status, answer["error"]["kind"]) == (422, "unreadable")
        assert (await live.post("/openrlhf", {**body, "prompts": []}))[0] == 422
        status, answer, _ = await live.post("/openrlhf", {"query": [], "prompts": [], "labels": []})
        assert (status, answer["rewards"]) == (200, [])


async def test_slime_gets_the_places_of_the_steps(serving: Serving) -> None:
    body = slime(SOLUTION)
    body["response"] = f"<|im_start|>  {SOLUTION}<|im_end|>"
    async with serving(ScriptedReward(lambda p, s, i: 0.875)) as live:
        _, answer, _ = await live.post("/slime", body)
    texts = [body["response"][start:end] for start, end in answer["step_spans"]]
    assert texts == SOLUTION.split("\n\n") and answer["step_rewards"] == [0.875, 0.875]
    assert answer["reward"] == 0.875 and answer["remove_sample"] is False


async def test_nemo_gym_gets_its_row_back(serving: Serving) -> None:
    body = {**nemo_gym(SOLUTION), "prompt_token_ids": list(range(20_000))}
    async with serving(ScriptedReward(second_unknown)) as live:
        assert (await live.post("/seed_session", body))[:2] == (200, {})
        _, answer, _ = await live.post("/verify", body)
        tools = {**body, "response": {"output": [{"type": "function_call", "name": "f"}]}}
        _, empty, _ = await live.post("/verify", tools)
    assert {key: answer[key] for key in body} == body
    assert answer["step_rewards"] == [0.875, None] and answer["mask_sample"] is True
    assert empty["failure_kind"] == "genprm:empty_text"


async def test_pooling_answers_a_pair_per_step_and_classify_one_per_text(serving: Serving) -> None:
    body = pooling(SOLUTION)
    several = {"model": "prm", "input": [body["input"], body["input"].replace("= 8", "= 9")]}
    async with serving(
        ScriptedReward(lambda p, s, i: 0.25 if "= 8" in s[i] else 1.0), score="last"
    ) as live:
        _, pools, _ = await live.post("/pooling", several)
        _, classes, _ = await live.post("/classify", several)
        assert (await live.post("/pooling", {**body, "task": "embed"}))[0] == 422
        assert (await live.post("/pooling", {"model": "prm"}))[0] == 422
        for path in ("/pooling", "/classify"):  # what would be another answer is refused, not passed over
            for other in ({"encoding_format": "base64"}, {"use_activation": False}):
                assert (await live.post(path, {**body, **other}))[0] == 422
        status, answer, _ = await live.post("/classify", {"model": "prm", "input": "no chat"})
        assert (status, answer["error"]["kind"]) == (422, "unreadable")
    assert [row["data"] for row in pools["data"]] == [[[0.0, 1.0], [0.75, 0.25]], [[0.0, 1.0]] * 2]
    assert [(row["label"], row["probs"]) for row in classes["data"]] == [
        ("wrong", [0.75, 0.25]),
        ("right", [0.0, 1.0]),
    ]


async def test_a_bug_is_no_number_in_any_dialect(serving: Serving) -> None:
    async with serving(ScriptedReward(raising(KeyError("bug"))), openrlhf_unknown=0.5) as live:
        for name, body in BODIES.items():
            assert (await live.post(PATHS[name], body(SOLUTION)))[0] == 500


@pytest.mark.parametrize("name", BODIES)
async def test_half_a_character_costs_that_character_alone(serving: Serving, name: str) -> None:
    """A response that ends within an emoji; Python's `json` sends such halves, and most readers refuse the whole body."""
    asked: list[str] = []

    def judge(problem: str, steps: Sequence[str], index: int) -> float:
        asked.append(steps[index])
        return 0.875

    text = "Step 1: so \U0001f600, \\ud83d, \ude00 and \ud83d"
    async with serving(ScriptedReward(judge)) as live:
        status, answer, _ = await live.post(PATHS[name], BODIES[name](text))
    assert status == 200 and learned(name, status, answer)[0] == 0.875
    assert asked == ["Step 1: so \U0001f600, \\ud83d, \ufffd and \ufffd"]


async def test_wrong_bodies_are_refused(serving: Serving) -> None:
    async with serving(ScriptedReward(lambda p, s, i: 1.0)) as live:
        for path in PATHS.values():
            for body in ([], {}, {"query": 3, "input": 3, "prompt": 3, "response": 3}, "x", None):
                status, answer, _ = await live.post(path, body)
                assert status == 422 and answer["error"]["kind"] == "data", (path, body)


RENDERED = {
    "chatml": (CHATML, "<|im_end|>"),
    "llama3": (
        "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n{question}<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n",
        "<|eot_id|>",
    ),
    "gemma": (
        "<bos><start_of_turn>user\n{question}<end_of_turn>\n<start_of_turn>model\n",
        "<end_of_turn>\n",
    ),
    "phi": ("<|user|>\n{question}<|end|>\n<|assistant|>\n", "<|end|>"),
    "deepseek": (
        "<｜begin▁of▁sentence｜><｜User｜>{question}<｜Assistant｜>",
        "<｜end▁of▁sentence｜>",
    ),
    "mistral": ("<s>[INST] {question} [/INST]", "</s>"),
    "none": ("<s>{question}", "</s>"),
}


@pytest.mark.parametrize("template", RENDERED)
def test_questions_and_responses_are_found_in_rendered_chats(template: str) -> None:
    opening, end = RENDERED[template]
    prompt = opening.format(question="Is 1 < 2, or a|b?")
    assert question_of(prompt) == "Is 1 < 2, or a|b?"
    assert response_of(f"{prompt}Yes: 1 < 2.{end}", prompt) == "Yes: 1 < 2."
    found = response_of(f"{prompt}Yes: 1 < 2.{end}")
    assert found == (None if template == "none" else "Yes: 1 < 2.")


def test_only_special_tokens_are_taken_away() -> None:
    for text in ("a <b> c", "<x|y>", "1 <| 2 |> 3", "<sum>", "|x| < |y|"):
        assert plain(text) == text
    assert plain("</s>") == plain("<|im_end|>\n<|endoftext|>") == ""


@pytest.mark.parametrize("name", ["pooling", "openrlhf"])
async def test_a_deadline_holds_for_all_solutions_of_a_request(serving: Serving, name: str) -> None:
    begun: list[str] = []

    async def judge(problem: str, steps: Sequence[str], index: int) -> float:
        begun.append(problem)
        return await hang(problem, steps, index)

    bodies = [BODIES[name](f"Step 1: {n} + 0 = {n}.") for n in range(6)]
    body = {**bodies[0]}
    if name == "pooling":
        body["input"] = [one["input"] for one in bodies]
    else:
        body |= {key: [one[key][0] for one in bodies] for key in ("query", "prompts", "labels")}
    config: dict[str, Any] = {"in_work": 1, "deadline_seconds": 0.4, "linger_seconds": 0}
    async with serving(ScriptedReward(judge), **config) as live:
        start = time.monotonic()
        status, answer, _ = await live.post(PATHS[name], body)
        took = time.monotonic() - start
    assert took < 1.5 and len(begun) == 1
    assert learned(name, status, answer) == []
