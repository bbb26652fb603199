"""Adaptive voting decides as all votes would, with fewer of them, and says what it used."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genprm.config import VerifyConfig
from genprm.engines.base import Request
from genprm.engines.scripted import Scripted, ScriptedEngine
from genprm.errors import ConfigError
from genprm.identity import costs_of
from genprm.records import StepVerdict, Verification, VerifyItem
from genprm.rewards import Verifier, judge_all
from genprm.rewards.adaptive import flip_probability, settled_exactly, votes_to_ask, voting_rule
from genprm.sandbox import IsolatedSandbox

REWARDS = st.lists(st.floats(0, 1), min_size=1, max_size=9)
STEPS = tuple(f"Step {number}: {number} + 1 = {number + 1}" for number in range(1, 5))


def decide(rewards: list[float], voting: str, bound: float = 0.05) -> tuple[bool, int]:
    """The decision on a list of votes that are asked for in order, and how many were used."""
    rule = voting_rule(VerifyConfig.model_validate({"voting": voting, "error_bound": bound}))
    used = 0
    while count := votes_to_ask(rewards[:used], len(rewards) - used, rule):
        used += count
    return sum(rewards[:used]) / used >= 0.5, used


@given(REWARDS)
def test_exact_voting_decides_as_all_votes_do(rewards: list[float]) -> None:
    decision, used = decide(rewards, "exact")
    full, everything = decide(rewards, "all")
    assert everything == len(rewards) >= used
    assert decision == full


@given(REWARDS, st.integers(0, 8))
def test_what_is_settled_exactly_no_votes_can_change(rewards: list[float], remaining: int) -> None:
    if not settled_exactly(rewards, remaining, 0.5):
        return
    leaning = sum(rewards) >= 0.5 * len(rewards)
    for extreme in (0.0, 1.0):
        for counted in range(remaining + 1):
            final = [*rewards, *[extreme] * counted]
            assert (sum(final) >= 0.5 * len(final)) == leaning


@given(REWARDS, st.integers(0, 8))
def test_the_chance_of_a_change_is_a_probability(rewards: list[float], remaining: int) -> None:
    chance = flip_probability(rewards, remaining, 0.5)
    assert 0 <= chance <= 1
    if settled_exactly(rewards, remaining, 0.5):
        assert chance == pytest.approx(0, abs=1e-9)


@given(
    st.lists(st.floats(0, 1), max_size=9),
    st.integers(0, 8),
    st.sampled_from(["all", "exact", "sequential"]),
)
def test_votes_are_asked_for_until_the_decision_is_settled(
    rewards: list[float], remaining: int, voting: str
) -> None:
    rule = voting_rule(VerifyConfig.model_validate({"voting": voting}))
    count = votes_to_ask(rewards, remaining, rule)
    assert 0 <= count <= remaining
    assert (count == 0) == (remaining == 0 or rule(rewards, remaining))
    if voting == "all":
        assert count == remaining


def test_the_chance_of_a_change_is_that_of_simulation() -> None:
    """Draws of a probability given the votes, then of the votes to come."""
    rng = random.Random(0)
    rewards, remaining = [0.9, 0.4, 0.8], 5
    flips, draws = 0, 40_000
    for _ in range(draws):
        p = rng.betavariate(0.5 + sum(rewards), 0.5 + len(rewards) - sum(rewards))
        total = sum(rewards) + sum(rng.random() < p for _ in range(remaining))
        flips += total < 0.5 * (len(rewards) + remaining)
    assert flip_probability(rewards, remaining, 0.5) == pytest.approx(flips / draws, abs=0.01)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6))
def test_sequential_voting_errs_no_more_than_its_bound(seed: int) -> None:
    """Votes of items whose p(Yes) has the rule's own prior: changed decisions stay within the bound."""
    rng = random.Random(seed)
    changed = used = 0
    for _ in range(500):
        p = rng.betavariate(0.5, 0.5)
        rewards = [float(rng.random() < p) for _ in range(8)]
        decision, count = decide(rewards, "sequential")
        changed += decision != decide(rewards, "all")[0]
        used += count
    assert changed / 500 < 0.08
    assert used / 500 < 6


def test_confident_votes_need_little_more_than_half() -> None:
    assert decide([0.99] * 8, "exact") == (True, 5)
    assert decide([0.01] * 8, "exact") == (False, 5)
    assert decide([0.99] * 8, "sequential") == (True, 3)
    assert decide([0.9, 0.1] * 4, "exact")[1] > 5


def judge(reward_of: Callable[[int, int], float]) -> Callable[[Request], Any]:
    """A model of the form `direct` whose reward is given by (step, path)."""

    def respond(request: Request) -> Scripted:
        reward = reward_of(len(request.messages) // 2 - 1, request.sample)
        return Scripted("Yes}" if reward >= 0.5 else "No}", (reward,))

    return respond


async def verify(respond: Callable[[Request], Any], **options: Any) -> Verification:
    config = VerifyConfig.model_validate({"profile": "compact", "components": "direct", **options})
    item = VerifyItem(id="one", problem="Count.", steps=STEPS)
    (found,) = await judge_all(Verifier(ScriptedEngine(respond), None, config), [item])
    return found


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.floats(0.01, 0.99), min_size=8, max_size=8), min_size=4, max_size=4))
async def test_the_verifier_uses_the_same_votes_in_the_same_order(table: list[list[float]]) -> None:
    respond = judge(lambda step, path: table[step][path])
    full = await verify(respond, votes=8)
    exact = await verify(respond, votes=8, voting="exact")
    assert [v.judgement for v in exact.verdicts] == [v.judgement for v in full.verdicts]
    for short, whole in zip(exact.verdicts, full.verdicts, strict=True):
        assert [v.reward for v in short.votes] == [v.reward for v in whole.votes][: len(short.votes)]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.lists(st.floats(0.01, 0.99), min_size=5, max_size=5), min_size=4, max_size=4),
    st.sampled_from(["all", "exact", "sequential"]),
    st.sampled_from(["independent", "shared"]),
    st.booleans(),
    st.sampled_from([None, 10, 30]),
    st.integers(1, 3),
)
async def test_a_line_and_its_forks_decide_as_the_whole_does(
    table: list[list[float]], voting: str, history: str, stop: bool, budget: int | None, at: int
) -> None:
    options = {"voting": voting, "history": history, "stop_at_first_error": stop, "token_budget": budget}
    config = VerifyConfig.model_validate(
        {"profile": "compact", "components": "direct", "votes": 5, **options}
    )
    verifier = Verifier(ScriptedEngine(judge(lambda step, path: table[step][path])), None, config)
    item = VerifyItem(id="one", problem="Count.", steps=STEPS)
    (whole,) = await judge_all(verifier, [item])
    line = verifier.open(item.problem, id=item.id)
    for step in STEPS[:at]:
        await line.judge(step)
    twin = await line.fork()
    for step in STEPS[at:]:
        await twin.judge(step)
    exclude = costs_of(StepVerdict)
    assert [v.model_dump(exclude=exclude) for v in twin.verdicts] == [
        v.model_dump(exclude=exclude) for v in whole.verdicts
    ]
    assert (line.usage + twin.usage).completion_tokens == whole.usage.completion_tokens


async def test_a_path_that_is_asked_later_catches_up_at_a_cost() -> None:
    doubtful = judge(lambda step, path: 0.99 if step != 2 or path % 2 else 0.01)
    found = await verify(doubtful, votes=8, voting="exact")
    used = [len(verdict.votes) for verdict in found.verdicts]
    assert used[0] == used[1] == used[3] == 5 and used[2] > 5
    counted = sum(vote.usage.requests for verdict in found.verdicts for vote in verdict.votes)
    assert found.usage.requests == counted + 2 * (used[2] - 5)


async def test_a_token_budget_leaves_later_steps_without_votes() -> None:
    sure = judge(lambda step, path: 0.99)
    whole = await verify(sure, votes=2)
    found = await verify(sure, votes=2, token_budget=whole.usage.completion_tokens // 2)
    assert [v.status for v in found.verdicts] == ["ok", "ok", "skipped", "skipped"]
    assert found.verdicts[2].reason == "the token budget was spent"
    assert found.first_error is None and found.score.last is None


async def test_shared_history_continues_from_a_path_that_agrees_with_the_decision() -> None:
    seen: dict[tuple[int, int], str] = {}

    def respond(request: Request) -> str | Scripted:
        step = len(request.messages) // 2 - 1
        if request.prefix.endswith("<analyze>\n"):
            if step:
                seen[step, request.sample] = request.messages[-2].content
            return f"path {request.sample}\n</analyze>\n"
        reward = 0.1 if step == 0 and request.sample == 0 else 0.9
        return Scripted("Yes}" if reward >= 0.5 else "No}", (reward,))

    found = await verify(respond, votes=3, components="cot", history="shared")
    assert found.verdicts[0].judgement is True
    assert all("path 1" in text for (step, _), text in seen.items() if step == 1)
    assert len(seen) == 9


async def test_shared_history_shares_the_interpreter_state() -> None:
    def respond(request: Request) -> str | Scripted:
        step = len(request.messages) // 2 - 1
        last = request.prefix.rsplit("[Code Output]", 1)
        if request.prefix.endswith("<analyze>\n"):
            return "So.\n</analyze>\n"
        if len(last) == 2:
            return Scripted("</verify>\n<output>\n**Judgement**: $\\boxed{Yes}$", (0.9,))
        code = f"who = {request.sample}" if step == 0 else "print('who is', who)"
        return f"{code}\n```\n"

    async with IsolatedSandbox(tier="plain", workers=1) as box:
        config = VerifyConfig.model_validate({"profile": "compact", "votes": 3, "history": "shared"})
        item = VerifyItem(id="one", problem="Count.", steps=STEPS[:2])
        (found,) = await judge_all(Verifier(ScriptedEngine(respond), box, config), [item])
    outputs = {v.rationale.rounds[0].output for v in found.verdicts[1].votes if v.rationale}
    assert outputs == {"who is 0"}


def test_options_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ConfigError, match="every_path_to_its_error"):
        VerifyConfig(every_path_to_its_error=True, voting="exact")
