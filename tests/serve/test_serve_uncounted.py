"""An engine that does not count its tokens: every place that shows tokens says so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from conftest import Serving
from serve_bodies import BODIES, PATHS, SOLUTION

from genprm import Completion, Request, ScriptedEngine, Verifier, VerifyConfig
from genprm.records import Usage

OPTIONS = VerifyConfig(components="cot", profile="compact", votes=2)
CHAT = {"model": "best", "messages": [{"role": "user", "content": "What is 2 + 3?"}]}


class Silent(ScriptedEngine):
    """Says that it was asked, and nothing about tokens."""

    async def generate(self, requests: Sequence[Request]) -> list[Completion]:
        done = await super().generate(requests)
        return [replace(one, usage=Usage(requests=1, uncounted=1)) for one in done]


def review(request: Request) -> str:
    return "Yes}" if request.prefix.endswith("boxed{") else "Fine.\n</analyze>\n"


async def test_chats_say_how_many_requests_of_whom_were_not_counted(serving: Serving) -> None:
    policy = Silent(lambda request: f"Step 1: 2 + 3.\n\nStep 2: So \\boxed{{{request.sample}}}.")
    strategies = {"best": {"kind": "best_of_n", "n": 4}}
    async with serving(
        Verifier(Silent(review), options=OPTIONS), policy=policy, strategies=strategies
    ) as live:
        status, done, _ = await live.post("/v1/chat/completions", CHAT)
        of_the_policy = await live.metric("genprm_policy_uncounted_requests_total")
        of_the_verifier = await live.metric("genprm_uncounted_requests_total")
    assert (status, of_the_policy) == (200, 4)
    assert done["genprm"]["policy_usage"]["uncounted"] == of_the_policy
    assert done["genprm"]["verifier_usage"]["uncounted"] == of_the_verifier
    assert of_the_verifier is not None and of_the_verifier > 0


async def test_answers_about_solutions_say_how_many_requests_were_not_counted(serving: Serving) -> None:
    for name in ("pooling", "classify"):
        async with serving(Verifier(Silent(review), options=OPTIONS)) as live:
            status, done, _ = await live.post(PATHS[name], BODIES[name](SOLUTION))
            uncounted = await live.metric("genprm_uncounted_requests_total")
        assert status == 200
        assert done["genprm"] == {"uncounted": uncounted}
        assert uncounted is not None and uncounted > 0
    body: Any = {"problem": "p", "steps": ["a"]}
    async with serving(Verifier(Silent(review), options=OPTIONS)) as live:
        _, done, _ = await live.post("/v1/verify", body)
    assert done["usage"]["uncounted"] > 0
