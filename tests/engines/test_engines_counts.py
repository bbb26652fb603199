"""Tokens that a server does not count, or not all of them: what is then known, and that it is called unknown."""

from __future__ import annotations

from collections import deque
from typing import Any

import pytest
from servers import Loopback, fault, ok

from genprm.engines import Completion, HttpEngine, Request, SamplingParams
from genprm.errors import EngineProtocolError
from genprm.records import Usage

USAGE = {"prompt_tokens": 9, "completion_tokens": 3}
LOGPROBS = {"tokens": ["a", "b"], "token_logprobs": [-0.1, -0.2]}


@pytest.fixture
def serve():
    started: list[Loopback] = []

    def start(reply) -> Loopback:
        """A server that lists one model and answers everything else with `reply(body)`."""
        listing = ok({"data": [{"id": "m", "owned_by": "somebody"}]})
        listing[1]["connection"] = "close"
        started.append(
            Loopback(lambda method, path, body: listing if path == "/v1/models" else reply(body))
        )
        return started[-1]

    yield start
    for server in started:
        server.close()


def answer(text: str = "ab", usage: Any = None, **choice: Any):
    return ok({"choices": [{"text": text, "finish_reason": "stop", **choice}], "usage": usage})


async def ask(server: Loopback, params: SamplingParams | None = None, **options: Any) -> Completion:
    options = {"retries": 0, "retry_seconds": 0.01, **options}
    async with HttpEngine(server.url, **options) as engine:
        (found,) = await engine.generate(
            [Request(prompt="x", params=params or SamplingParams(max_tokens=8))]
        )
    return found


@pytest.mark.parametrize(
    ("text", "usage", "uncounted"),
    [
        ("ab", USAGE, 0),
        ("ab", {"completion_tokens": 3}, 1),
        ("ab", {**USAGE, "prompt_tokens": 0}, 1),
        ("ab", {"prompt_tokens": 9}, 1),
        ("ab", {**USAGE, "completion_tokens": "3"}, 1),
        ("", None, 1),
        ("", {"prompt_tokens": 9}, 1),
        ("", {**USAGE, "completion_tokens": 0}, 0),
    ],
)
async def test_a_request_is_counted_if_its_prompt_and_its_completion_are(serve, text, usage, uncounted):
    found = await ask(serve(lambda body: answer(text, usage)))
    assert found.ok
    assert (found.usage.requests, found.usage.uncounted) == (1, uncounted)


@pytest.mark.parametrize(("most", "reason"), [(2, "length"), (8, "eos")])
async def test_an_answer_without_a_reason_is_cut_if_its_log_probabilities_fill_the_budget(
    serve, most, reason
):
    params = SamplingParams(max_tokens=most, logprobs=1)
    found = await ask(serve(lambda body: answer(finish_reason=None, logprobs=LOGPROBS)), params)
    assert (found.finish_reason, found.length) == (reason, 2)


async def test_the_last_token_counts_also_if_it_is_half_a_character(serve):
    table = {"tokens": ["ab", ""], "token_logprobs": [-0.1, -0.2]}
    params = SamplingParams(max_tokens=2, logprobs=1)
    found = await ask(serve(lambda body: answer(finish_reason=None, logprobs=table)), params)
    assert found.finish_reason == "length"


@pytest.mark.parametrize("text", ["ab", ""])
async def test_an_answer_that_may_be_cut_and_tells_nothing_about_it_is_refused(serve, text):
    found = await ask(serve(lambda body: answer(text, finish_reason=None)))
    assert isinstance(found.error, EngineProtocolError)
    assert "neither why its answer ended" in found.error.message


async def test_an_answer_that_tells_nothing_is_whole_if_a_stop_string_is_in_it(serve):
    params = SamplingParams(max_tokens=8, stop=("\n",))
    found = await ask(serve(lambda body: answer("ab\ncd", finish_reason=None)), params)
    assert (found.text, found.finish_reason, found.stop) == ("ab\n", "stop", "\n")
    assert found.usage.uncounted == 1


STATES = {
    "nothing there": ("refused", 0),
    "overloaded": (fault("503"), 0),
    "rejected": ((400, {}, b"no"), 0),
    "failed": (fault("500"), 1),
    "the server behind a proxy": ((504, {}, b"gateway"), 1),
    "timed out": ("hang", 1),
    "broke off": ("reset", 1),
    "unreadable": (fault("cut json"), 1),
    "withheld": (answer(usage=USAGE, finish_reason="content_filter"), 1),
}


@pytest.mark.parametrize("state", STATES)
async def test_a_request_without_an_answer_is_uncounted_if_something_may_have_been_written(serve, state):
    outcome, uncounted = STATES[state]
    server = serve(lambda body: outcome)
    async with HttpEngine(server.url, retries=0, timeout=0.5) as engine:
        await engine.check()
        if outcome == "refused":
            server.close()
        (found,) = await engine.generate([Request(prompt="x")])
    assert not found.ok
    assert (found.usage.requests, found.usage.uncounted) == (1, uncounted)


@pytest.mark.parametrize(("state", "uncounted"), [("503", 0), ("500", 1)])
async def test_what_failed_attempts_may_have_written_is_unknown_though_an_answer_came(
    serve, state, uncounted
):
    outcomes = deque([fault(state), fault(state), answer(usage=USAGE)])
    found = await ask(serve(lambda body: outcomes.popleft()), retries=2)
    assert found.usage.model_copy(update={"engine_seconds": 0.0}) == Usage(
        requests=1, uncounted=uncounted, prompt_tokens=9, completion_tokens=3
    )


async def test_an_answer_whose_stop_string_could_not_be_found_out_was_written(serve):
    params = SamplingParams(max_tokens=8, stop=("}$", "</analyze>"))
    found = await ask(
        serve(lambda body: answer(usage=USAGE) if "stop" in body else (400, {}, b"no")), params
    )
    assert not found.ok
    assert found.usage.uncounted == 1


async def test_what_finding_a_stop_string_cost_is_no_part_of_the_texts_length(serve):
    def reply(body):
        return answer("so\nit is") if "stop" in body else answer(" lost", finish_reason="length")

    params = SamplingParams(max_tokens=64, stop=("}$", "</analyze>"))
    found = await ask(serve(reply), params)
    assert (found.usage.requests, found.usage.uncounted, found.usage.completion_tokens) == (3, 3, 32)
    assert found.length == 2, "estimated from its 8 bytes"


async def test_a_length_is_estimated_by_the_tokens_that_prompts_have(serve):
    """Two bytes a token, in a prompt that is long enough to say so."""
    server = serve(lambda body: answer("a" * 40, {"prompt_tokens": len(body["prompt"]) // 2}))
    async with HttpEngine(server.url, retries=0) as engine:
        await engine.generate([Request(prompt="x" * 800)])
        (found,) = await engine.generate([Request(prompt="x")])
        (cut,) = await engine.generate([Request(prompt="x", params=SamplingParams(max_tokens=8))])
    assert (found.length, cut.length) == (20, 8)


def test_an_engine_that_counts_nothing_has_texts_with_a_length_all_the_same():
    assert Completion("one two three four").length == 4
    assert Completion("a").length == 1
    assert Completion("").length == 0
