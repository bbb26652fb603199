"""What a key may use, keys that change while the server runs, and what is kept of the past."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import json
import sqlite3
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing
from pathlib import Path

import pytest
from conftest import Live, Serving

import genprm
from genprm import ScriptedReward
from genprm.config import KeyLimits
from genprm.records import Usage, VerifyItem, Vote
from genprm.rewards.voting import tally, verification
from genprm.serve.answers import Answer
from genprm.serve.history import History
from genprm.serve.limits import Limits

KEYS = {name: f"gp-{name}" for name in ("trainer", "eval", "other")}
HASHES = {name: hashlib.sha256(key.encode()).hexdigest() for name, key in KEYS.items()}
ASKED = {"problem": "p", "steps": ["a", "b"]}
ITEM = VerifyItem(id="i", problem="p", steps=("a",))
ENTRY = ITEM, Answer(verification(ITEM, [tally(0, [Vote(reward=1.0, judgement=True)], 0.5)], verifier="v"))


def scripted() -> ScriptedReward:
    return ScriptedReward(lambda problem, steps, index: 0.875)


def with_key(name: str) -> dict[str, str]:
    return {"X-API-Key": KEYS[name]}


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(20):
        while not await holds():
            await asyncio.sleep(0.02)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def enter(limits: Limits, name: str = "a") -> float:
    """Seconds to wait; 0 if the request is taken on."""
    try:
        with limits.using(name):
            return 0.0
    except genprm.Overloaded as error:
        return error.retry_after


def test_requests_per_minute_are_a_bucket_that_fills_again() -> None:
    clock = Clock()
    limits = Limits({"*": KeyLimits(requests_per_minute=3)}, clock)
    assert [enter(limits) for _ in range(4)] == [0, 0, 0, pytest.approx(20)]
    assert enter(limits, "b") == 0, "each key has its own"
    clock.now += 19
    assert enter(limits) == pytest.approx(1)
    clock.now += 1
    assert enter(limits) == 0 and enter(limits) > 0
    clock.now += 3600
    assert [enter(limits) for _ in range(4)][-1] > 0, "nothing is saved for longer than a minute"


def test_tokens_are_charged_when_they_are_known_and_debt_has_to_pass() -> None:
    clock = Clock()
    limits = Limits({"a": KeyLimits(tokens_per_minute=600)}, clock)
    with limits.using("a") as caller:
        caller.charge(Usage(prompt_tokens=1000, completion_tokens=200))
    assert enter(limits) == pytest.approx(601 / 10)
    assert enter(limits, "free") == 0
    clock.now += 61
    assert enter(limits) == 0


def test_a_place_is_free_again_however_a_request_ends() -> None:
    limits = Limits({"*": KeyLimits(concurrency=1)})
    with limits.using("a"):
        assert enter(limits) > 0 and enter(limits, "b") == 0
    with pytest.raises(KeyError), limits.using("a"):
        raise KeyError
    assert enter(limits) == 0


async def test_a_key_beyond_its_limits_is_429_and_the_others_are_served(serving: Serving) -> None:
    limits = {"trainer": {"requests_per_minute": 2}, "*": {"concurrency": 100}}
    async with serving(scripted(), api_keys=HASHES, limits=limits) as live:
        statuses = []
        for _ in range(3):
            status, answer, headers = await live.post("/v1/verify", ASKED, headers=with_key("trainer"))
            statuses.append(status)
        assert statuses == [200, 200, 429]
        assert (answer["error"]["kind"], answer["error"]["type"]) == ("overloaded", "rate_limit_error")
        assert 1 <= int(headers["Retry-After"]) <= 30 and "'trainer'" in answer["error"]["message"]
        assert (await live.post("/v1/verify", ASKED, headers=with_key("eval")))[0] == 200
        _, text = await live.get("/metrics", headers=with_key("trainer"))
        assert 'genprm_limited_total{key="trainer"} 1.0' in text


async def test_work_is_charged_to_whoever_began_it(serving: Serving) -> None:
    options = genprm.VerifyConfig(components="cot", profile="compact")
    script = genprm.ScriptedEngine(
        lambda request: "Yes}" if request.prefix.endswith("boxed{") else "Fine.\n</analyze>\n"
    )
    limits = {"*": {"tokens_per_minute": 1}}
    async with serving(genprm.Verifier(script, options=options), api_keys=HASHES, limits=limits) as live:

        async def ask(name: str) -> int:
            status, _, _ = await live.post("/v1/verify", ASKED, headers=with_key(name))
            return status

        assert [await ask("trainer"), await ask("trainer")] == [200, 429]
        assert [await ask("eval"), await ask("eval")] == [200, 200], "answered from what the other paid for"


async def test_the_callers_of_a_crowded_key_are_told_when_to_come_back(serving: Serving) -> None:
    begun, go = asyncio.Event(), asyncio.Event()

    async def judge(problem: str, steps: Sequence[str], index: int) -> float:
        begun.set()
        await go.wait()
        return 0.875

    async with serving(ScriptedReward(judge), limits={"*": {"concurrency": 1}}) as live:
        first = asyncio.create_task(live.post("/v1/verify", ASKED))
        async with asyncio.timeout(20):
            await begun.wait()
        status, _, headers = await live.post("/v1/verify", ASKED)
        assert (status, headers["Retry-After"]) == (429, "1")
        assert (await live.get("/readyz"))[0] == (await live.get("/metrics"))[0] == 200
        go.set()
        assert (await first)[0] == 200
        assert (await live.post("/v1/verify", ASKED))[0] == 200


async def test_what_a_key_left_behind_is_a_part_of_its_share(serving: Serving) -> None:
    """A deadline of nothing would otherwise be a way to have any number of verifications in work at the same time."""
    most, go = 0, asyncio.Event()

    async def judge(problem: str, steps: Sequence[str], index: int) -> float:
        await go.wait()
        return 0.875

    limits = {"trainer": {"concurrency": 2}}
    async with serving(ScriptedReward(judge), api_keys=HASHES, limits=limits) as live:

        async def ask(name: str, problem: str, deadline: float | None = 0.001) -> tuple[int, str]:
            body = {**ASKED, "problem": problem, "deadline_seconds": deadline}
            status, answer, _ = await live.post("/v1/verify", body, headers=with_key(name))
            return status, answer["shared"]

        for number in range(6):
            assert await ask("trainer", f"p{number}") == (200, "no")
            most = max(most, live.service.running)
        assert most == 2 and live.service.counts.cancelled == 4, "the oldest ended"
        assert await ask("trainer", "p4") == await ask("trainer", "p5") == (200, "joined"), (
            "retries end nothing"
        )
        for number in range(4):
            assert (await ask("eval", f"e{number}"))[0] == 200
        assert live.service.running == 6, (
            "a key without a bound has none, and keys do not push each other out"
        )
        go.set()
        assert await ask("trainer", "p5", None) in ((200, "joined"), (200, "recent"))
        assert live.service.counts.cancelled == 4


async def test_a_whole_batch_that_was_left_behind_counts_as_its_request(serving: Serving) -> None:
    async def hang(problem: str, steps: Sequence[str], index: int) -> float:
        await asyncio.Event().wait()
        return 0.0

    async with serving(ScriptedReward(hang), limits={"*": {"concurrency": 2}}) as live:
        for name in "ab":
            items = [{"problem": f"{name}{number}", "steps": ["a"]} for number in range(3)]
            asked = {"items": items, "deadline_seconds": 0.5}  # time enough to begin all three
            assert (await live.post("/v1/verify/batch", asked))[0] == 200
        assert live.service.running == 6
        await live.post("/v1/verify", {**ASKED, "deadline_seconds": 0.001})
        assert (live.service.running, live.service.counts.cancelled) == (4, 3)


async def test_work_that_was_cut_off_is_charged_up_to_its_last_verdict(serving: Serving) -> None:
    """Leaving just before the end is no way to have verifications for nothing."""
    hanging = asyncio.Event()

    async def respond(request: genprm.Request) -> str:
        if "the second step" in request.messages[-1].content:
            hanging.set()
            await asyncio.Event().wait()
        return "Yes}" if request.prefix.endswith("boxed{") else "Fine.\n</analyze>\n"

    options = genprm.VerifyConfig(components="cot", profile="compact")
    reward = genprm.Verifier(genprm.ScriptedEngine(respond), options=options)
    body = {"problem": "p", "steps": ["a", "the second step"]}
    async with serving(reward, api_keys=HASHES, limits={"*": {"tokens_per_minute": 1}}) as live:
        call = asyncio.create_task(live.post("/v1/verify", body, headers=with_key("trainer")))
        async with asyncio.timeout(20):
            await hanging.wait()
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)

        async def spent() -> bool:
            _, text = await live.get("/metrics", headers=with_key("trainer"))
            return "genprm_cancelled_total 1.0" in text

        await until(spent)
        assert live.service.counts.usage.completion_tokens > 0
        assert (await live.post("/v1/verify", ASKED, headers=with_key("trainer")))[0] == 429
        late = {**body, "deadline_seconds": 0.5}
        status, answer, _ = await live.post("/v1/verify", late, headers=with_key("eval"))
        assert status == 200 and answer["rewards"][1] is None
        assert answer["usage"]["completion_tokens"] > 0 and answer["seconds"] > 0, "what it has cost so far"


async def test_a_changed_file_of_keys_is_read_again(serving: Serving, tmp_path: Path) -> None:
    file = tmp_path / "keys.yaml"
    file.write_text(f"trainer: {HASHES['trainer']}\n")

    async def status(live: Live, name: str) -> int:
        return (await live.post("/v1/verify", ASKED, headers=with_key(name)))[0]

    config = {"api_keys": {"eval": HASHES["eval"]}, "api_keys_file": str(file)}
    async with serving(scripted(), **config) as live:
        assert [await status(live, name) for name in KEYS] == [200, 200, 401]
        file.write_text(f"other: {HASHES['other']}\n")

        async def changed() -> bool:
            return await status(live, "other") == 200

        await until(changed)
        assert [await status(live, name) for name in KEYS] == [401, 200, 200]
        for broken in ("other: [", "other: gp-other\n", f"eval: {HASHES['eval']}\n", "- a\n"):
            before = (await live.get("/metrics", headers=with_key("eval")))[1]
            file.write_text(broken)

            async def refused(before: str = before) -> bool:
                text = (await live.get("/metrics", headers=with_key("eval")))[1]
                line = 'genprm_key_reloads_total{outcome="refused"}'
                seen = [
                    one.split()[1] for text in (before, text) for one in text.splitlines() if line in one
                ]
                return seen[0] != seen[1]

            await until(refused)
            assert [await status(live, name) for name in KEYS] == [401, 200, 200], broken
        file.write_text("")

        async def empty() -> bool:
            return await status(live, "other") == 401

        await until(empty)
        assert await status(live, "eval") == 200
        assert (await live.post("/v1/verify", ASKED))[0] == 401


async def test_without_any_key_in_its_file_a_server_lets_nobody_in(
    serving: Serving, tmp_path: Path
) -> None:
    file = tmp_path / "keys.yaml"
    file.write_text("")
    async with serving(scripted(), api_keys_file=str(file)) as live:
        assert (await live.post("/v1/verify", ASKED))[0] == 401
    file.unlink()
    with pytest.raises(genprm.ConfigError, match="cannot be read"):
        async with serving(scripted(), api_keys_file=str(file)):
            pass


OLDER_TABLE = """
CREATE TABLE verifications (
    time REAL NOT NULL, key TEXT NOT NULL, item TEXT NOT NULL, verifier TEXT NOT NULL, policy TEXT,
    rewards TEXT NOT NULL, first_error INTEGER, unknown TEXT,
    prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL, seconds REAL NOT NULL,
    problem TEXT, verdicts TEXT
)
"""
OLDER = ("older", "item", "verifier", None, "[1.0]", -1, None, 7, 8, 0.5, None, None)


def rows(file: Path, columns: str = "*") -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(file)) as opened:
        return opened.execute(f"SELECT {columns} FROM verifications ORDER BY time").fetchall()


@pytest.mark.parametrize("content", [False, True])
async def test_the_history_has_figures_and_texts_only_if_wanted(
    serving: Serving, tmp_path: Path, content: bool
) -> None:
    file = tmp_path / "history.sqlite"

    def judge(problem: str, steps: Sequence[str], index: int) -> float | None:
        return None if problem == "odd" else 0.875 if index else 0.25

    config = {"api_keys": HASHES, "history": str(file), "history_content": content}
    async with serving(ScriptedReward(judge), **config) as live:
        for problem in ("the secret problem", "the secret problem", "odd"):
            asked = {"problem": problem, "steps": ["the secret step", "b"]}
            assert (await live.post("/v1/verify", asked, headers=with_key("eval")))[0] == 200
        assert "genprm_history_lost_total 0.0" in (await live.get("/metrics", headers=with_key("eval")))[1]
    found = rows(file, "key, rewards, first_error, unknown, problem, verdicts")
    assert [row[:4] for row in found] == [
        ("eval", "[0.25, 0.875]", 0, None),
        ("eval", "[null, null]", None, "unparsed"),
    ]
    if content:
        assert found[0][4] == "the secret problem"
        assert json.loads(str(found[0][5]))["steps"] == ["the secret step", "b"]
    else:
        assert [row[4:] for row in found] == [(None, None)] * 2 and b"secret" not in file.read_bytes()


@pytest.mark.slow
def test_entries_wait_while_another_process_holds_the_file(tmp_path: Path) -> None:
    file = tmp_path / "history.sqlite"
    with History(file, content=False, days=30) as history:
        history.add(*ENTRY)
        with closing(sqlite3.connect(file, isolation_level=None)) as other:
            other.execute("PRAGMA busy_timeout=20000")
            other.execute("BEGIN EXCLUSIVE")
            for _ in range(3):
                history.add(*ENTRY)
            time.sleep(5.5)  # longer than SQLite waits by itself
            other.execute("COMMIT")
    assert (history.lost, len(rows(file))) == (0, 4)


def test_a_file_that_breaks_while_it_is_used_is_counted(tmp_path: Path) -> None:
    file = tmp_path / "history.sqlite"
    with History(file, content=False, days=30) as history:
        with closing(sqlite3.connect(file)) as opened, opened:
            opened.execute("DROP TABLE verifications")
        history.add(*ENTRY)
    assert history.lost == 1


def test_a_file_of_an_older_version_is_continued_and_uncounted_requests_are_noted(tmp_path: Path) -> None:
    file = tmp_path / "history.sqlite"
    with closing(sqlite3.connect(file)) as opened, opened:
        opened.execute(OLDER_TABLE)
        opened.execute(
            f"INSERT INTO verifications VALUES (?, {', '.join('?' * 12)})", (time.time(), *OLDER)
        )
    item, answer = ENTRY
    usage = Usage(requests=3, uncounted=2, prompt_tokens=5)
    for _ in range(2):
        with History(file, content=False, days=30) as history:
            row = answer.verification.model_copy(update={"usage": usage})
            history.add(item, dataclasses.replace(answer, verification=row))
        assert history.lost == 0
    assert rows(file, "key, uncounted, prompt_tokens") == [("older", None, 7), ("", 2, 5), ("", 2, 5)]


def test_old_entries_are_deleted_and_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    file = tmp_path / "history.sqlite"
    for _ in range(2):
        with History(file, content=False, days=30) as history:
            history.add(*ENTRY)
    with closing(sqlite3.connect(file)) as opened, opened:
        opened.execute("UPDATE verifications SET time = ? WHERE rowid = 1", (time.time() - 31 * 86400,))
    with History(file, content=False, days=30) as history:
        history.add(*ENTRY)
    assert len(rows(file)) == 2
    for wrong in (tmp_path / "no" / "folder.sqlite", tmp_path):
        with pytest.raises(genprm.ConfigError, match="cannot be written"):
            History(wrong, content=False, days=30)
    (tmp_path / "text").write_text("no database at all, but a text that is long enough to be one")
    with pytest.raises(genprm.ConfigError, match="cannot be written"):
        History(tmp_path / "text", content=False, days=30)
