"""The scorer: from any loop, over a server or in the process, and a failure is unknown with its reason."""

from __future__ import annotations

import asyncio
import pickle
import threading
from collections.abc import Sequence
from typing import Any

import pytest

from genprm import (
    ConfigError,
    DataError,
    EngineUnavailable,
    GenPRMError,
    Scorer,
    ScriptedReward,
    UnknownReward,
)
from genprm.rl import settings
from rl.conftest import BAD, DOWN, GOOD, ODD, by_words
from serve.conftest import running


def test_scores_spans_and_reasons(scorer: Scorer) -> None:
    good, bad, odd, down, empty = scorer.score_many_sync(
        [("p", text) for text in (GOOD, BAD, ODD, DOWN, " ")]
    )
    assert good.score == 0.9
    assert good.unknown is good.reason is None
    assert [GOOD[start:end] for start, end in good.spans] == list(good.steps)
    assert (bad.score, bad.rewards) == (0.1, (0.9, 0.1))
    assert (odd.score, odd.rewards, odd.unknown) == (None, (0.9, None), "unparsed")
    assert (down.score, down.rewards, down.unknown) == (None, (0.9, None), "engine_failed")
    assert down.reason is not None
    assert "the engine is down" in down.reason
    assert (empty.score, empty.unknown) == (None, "empty_text")
    assert scorer.counts == {
        "scored": 2, "unknown/unparsed": 1, "unknown/engine_failed": 1, "unknown/empty_text": 1
    }  # fmt: skip


def test_steps_may_be_given(scorer: Scorer) -> None:
    (found,) = scorer.score_many_sync([("p", ["a good one", "a bad one"])])
    assert (found.rewards, found.spans) == ((0.9, 0.1), ())


@pytest.mark.parametrize("solution", [None, 5, {"a": 1}, b"bytes"])
def test_what_is_no_solution_is_said_before_anything_is_asked(scorer: Scorer, solution: Any) -> None:
    with pytest.raises(DataError, match="the solution of pair 2 cannot be"):
        scorer.score_many_sync([("p", GOOD), ("p", solution)])
    assert not scorer.counts


@pytest.mark.parametrize("pairs", ["ab", ["ab"], [("p", GOOD), "ab"], [("p", GOOD, "more")], [None]])
def test_what_is_no_pair_is_said(scorer: Scorer, pairs: Any) -> None:
    with pytest.raises(DataError, match=r"pair \d is no problem with a solution"):
        scorer.score_many_sync(pairs)


def test_a_number_is_never_made_up(scorer: Scorer) -> None:
    good, odd, down = scorer.score_many_sync([("p", GOOD), ("p", ODD), ("p", DOWN)])
    assert good.number() == 0.9
    assert odd.number(0.5) == 0.5
    with pytest.raises(UnknownReward, match="unparsed") as caught:
        odd.number()
    assert "GENPRM_UNKNOWN" in caught.value.hint
    assert not caught.value.retryable
    with pytest.raises(UnknownReward) as caught:
        down.number()
    assert caught.value.retryable


async def test_a_server_says_the_same_from_any_loop() -> None:
    async with running(ScriptedReward(by_words)) as live:
        scorer = Scorer(live.url)
        found = await scorer.score_many([("p", text) for text in (GOOD, BAD, ODD, DOWN)])
        assert [one.score for one in found] == [0.9, 0.1, None, None]
        assert [one.unknown for one in found] == [None, None, "unparsed", "engine_failed"]
        others: list[Any] = []
        threads = [
            threading.Thread(target=lambda: others.append(asyncio.run(scorer.score("p", GOOD))))
            for _ in range(3)
        ]
        for thread in threads:
            thread.start()
        await asyncio.to_thread(lambda: [thread.join() for thread in threads])
        assert others == [found[0]] * 3
        copied = pickle.loads(pickle.dumps(scorer))
        assert (await copied.score("p", BAD)).score == 0.1
        await asyncio.to_thread(copied.close)
        await asyncio.to_thread(scorer.close)


def test_a_closed_scorer_opens_again(scorer: Scorer) -> None:
    assert scorer.score_many_sync([("p", GOOD)])[0].score == 0.9
    scorer.close()
    scorer.close()
    assert scorer.score_many_sync([("p", BAD)])[0].score == 0.1


async def test_a_server_that_is_gone_is_unknown_and_a_wrong_key_is_an_error() -> None:
    gone = Scorer("http://127.0.0.1:9", deadline=1)
    found = await gone.score("p", GOOD)
    assert found.score is None
    assert found.unknown in ("unreachable", "deadline")
    await asyncio.to_thread(gone.close)
    async with running(ScriptedReward(by_words), api_keys={"trainer": "0" * 64}) as live:
        locked = Scorer(live.url)
        with pytest.raises(ConfigError, match="401"):
            await locked.score("p", GOOD)
        await asyncio.to_thread(locked.close)


async def test_the_deadline_ends_the_wait() -> None:
    hang = threading.Event()

    async def never(problem: str, steps: Sequence[str], index: int) -> float:
        while not hang.is_set():
            await asyncio.sleep(0.01)
        return 0.9

    scorer = Scorer(ScriptedReward(never), deadline=0.1)
    found = await scorer.score("p", GOOD)
    assert (found.score, found.unknown, found.rewards) == (None, "deadline", (None, None))
    hang.set()
    await asyncio.to_thread(scorer.close)


async def test_no_more_than_so_many_at_once() -> None:
    busy, most = 0, 0

    async def judge(problem: str, steps: Sequence[str], index: int) -> float:
        nonlocal busy, most
        busy += 1
        most = max(most, busy)
        await asyncio.sleep(0.005)
        busy -= 1
        return 0.9

    scorer = Scorer(ScriptedReward(judge), concurrency=3)
    found = await scorer.score_many([(f"p{index}", GOOD) for index in range(12)])
    assert {one.score for one in found} == {0.9}
    assert most == 3
    await asyncio.to_thread(scorer.close)


async def test_a_cancelled_caller_cancels_its_verifications() -> None:
    begun, ended = threading.Event(), threading.Event()

    async def never(problem: str, steps: Sequence[str], index: int) -> float:
        begun.set()
        try:
            await asyncio.sleep(600)
        finally:
            ended.set()
        return 0.9

    scorer = Scorer(ScriptedReward(never))
    task = asyncio.create_task(scorer.score("p", GOOD))
    assert await asyncio.to_thread(begun.wait, 30)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(ended.wait, 30)
    await asyncio.to_thread(scorer.close)


def test_an_outage_is_an_error_and_a_hard_sample_is_not() -> None:
    scorer = Scorer(ScriptedReward(by_words), outage=3, concurrency=1)
    scorer.score_many_sync([("p", ODD)] * 5)
    scorer.score_many_sync([(f"p{index}", DOWN) for index in range(2)])
    scorer.score_many_sync([("p", GOOD)])
    with pytest.raises(EngineUnavailable, match="3 solutions in a row"):
        scorer.score_many_sync([(f"p{index}", DOWN) for index in range(3)])
    scorer.close()


@pytest.mark.parametrize(
    ("variables", "wrong"),
    [
        ({}, "no server"),
        ({"GENPRM_URL": "http://h", "GENPRM_SCORE": "best"}, "GENPRM_SCORE"),
        ({"GENPRM_URL": "http://h", "GENPRM_DEADLINE": "soon"}, "GENPRM_DEADLINE"),
        ({"GENPRM_URL": "http://h", "GENPRM_DEADLINE": "nan"}, "GENPRM_DEADLINE"),
        ({"GENPRM_URL": "http://h", "GENPRM_CONCURRENCY": "0"}, "concurrency=0"),
        ({"GENPRM_URL": "h"}, "URL"),
    ],
)
def test_a_mistake_in_the_environment_names_its_place(
    variables: dict[str, str], wrong: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "_scorers", {})
    monkeypatch.delenv("GENPRM_URL", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(GenPRMError, match=wrong):
        settings.scorer()


def test_the_environment_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "_scorers", {})
    monkeypatch.setenv("GENPRM_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("GENPRM_SCORE", "last")
    monkeypatch.setenv("GENPRM_CREDIT", "difference")
    monkeypatch.setenv("GENPRM_UNKNOWN", "0.25")
    assert settings.scorer().score_name == "last"
    assert settings.scorer() is settings.scorer()
    assert settings.scorer("http://127.0.0.1:10") is not settings.scorer()
    assert settings.credit_rule() == "difference"
    assert settings.unknown_number() == 0.25
    monkeypatch.setenv("GENPRM_UNKNOWN", "inf")
    with pytest.raises(ConfigError, match="GENPRM_UNKNOWN"):
        settings.unknown_number()


def test_a_problem_that_is_not_there_is_an_error(scorer: Scorer) -> None:
    with pytest.raises(DataError, match="problem"):
        scorer.score_many_sync([(" ", GOOD)])
