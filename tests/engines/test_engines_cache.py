"""The completion cache: what its key holds, what a damaged file does, and how processes share it."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import subprocess
import sys
import textwrap
from dataclasses import replace

import pytest

from genprm.config import VerifyConfig
from genprm.engines import CachedEngine, LocalEngine, Request, SamplingParams, Scripted, ScriptedEngine
from genprm.errors import EngineUnavailable, StoreError
from genprm.records import ChatMessage, VerifyItem
from genprm.rewards import Verifier, judge_all

CHAT = (ChatMessage(role="user", content="judge this"),)


class Counting:
    """Counts what reaches the engine behind a cache."""

    def __init__(self) -> None:
        self.calls: list[Request] = []

    def __call__(self, request: Request) -> Scripted:
        self.calls.append(request)
        if request.prompt == "fail":
            raise EngineUnavailable("down")
        return Scripted(f"answer {len(self.calls)} {{Yes}}", yes_probs=(0.7,))


async def test_the_cache_answers_what_it_has_and_outlives_its_process(tmp_path):
    path = tmp_path / "deep" / "cache.sqlite"
    counting = Counting()
    params = SamplingParams(seed=1, logprobs=2, stop=("}",))
    requests = [Request(messages=CHAT, params=params, sample=n) for n in range(3)]
    cached = CachedEngine(ScriptedEngine(counting), path)
    first = await cached.generate(requests)
    again = await cached.generate([requests[2], *requests])
    await cached.aclose()
    assert len(counting.calls) == 3
    assert [one.text for one in again] == [first[2].text, *(one.text for one in first)]
    assert again[1].tokens == first[0].tokens
    assert again[1].usage.completion_tokens == 0
    reopened = CachedEngine(ScriptedEngine(counting), path)
    assert (await reopened.generate(requests))[1].text == first[1].text
    assert len(counting.calls) == 3
    assert reopened.describe()["cache"] == {"hits": 3, "misses": 0}
    await reopened.aclose()


@pytest.mark.parametrize(
    "bounds",
    [{"max_tokens": 30}, {"max_tokens": 100}, {"max_tokens": 100, "token_budget": 40}],
    ids=["forced", "plenty", "token budget"],
)
async def test_a_repeated_verification_is_the_same_and_pays_for_nothing(tmp_path, bounds):
    """What a budget has left decides the next request, so kept texts are as long as they were."""

    def respond(request: Request) -> Scripted:
        if request.prefix.endswith("\\boxed{"):
            return Scripted("No}", yes_probs=(0.2,))
        if "</analyze>" in request.prefix:
            judged = "</verify>\n<output>\n**Judgement**: $\\boxed{Yes}$\n</output>\n"
            return Scripted(f"print(1)\n```\n{judged}", yes_probs=(0.9,))
        return Scripted("Some words about the step, which come to twenty.\n</analyze>\n")

    items = [VerifyItem(id="one", problem="p", steps=("a", "b", "c"))]
    options = VerifyConfig(votes=2, components="cot+code", **bounds)
    rows, counts = [], []
    for _ in range(2):
        async with CachedEngine(ScriptedEngine(respond), tmp_path / "c.sqlite") as cached:
            async with Verifier(cached, options=options) as verifier:
                rows += await judge_all(verifier, items)
            counts.append(cached.describe()["cache"])
    assert counts[1] == {"hits": counts[0]["misses"], "misses": 0}
    assert rows[0].usage.completion_tokens > rows[1].usage.completion_tokens == 0
    first, again = (
        [(one.status, one.reward, [vote.forced for vote in one.votes]) for one in row.verdicts]
        for row in rows
    )
    assert first == again


async def test_the_cache_key_holds_everything_that_matters(tmp_path):
    counting = Counting()
    cached = CachedEngine(ScriptedEngine(counting), tmp_path / "c.sqlite")
    base = Request(messages=CHAT, prefix="p", params=SamplingParams(seed=1))
    variants = [
        base,
        replace(base, sample=1),
        replace(base, prefix="q"),
        replace(base, add_generation_prompt=False),
        replace(base, messages=(*CHAT, ChatMessage(role="assistant", content="p"))),
        Request(prompt="p"),
        *(
            replace(base, params=replace(base.params, **change))
            for change in (
                {"seed": 2},
                {"temperature": 0.5},
                {"top_p": 0.5},
                {"top_k": 5},
                {"max_tokens": 9},
                {"stop": ("x",)},
                {"logprobs": 1},
            )
        ),
    ]
    await cached.generate(variants)
    assert len(counting.calls) == len(variants)
    await cached.generate(variants)
    assert len(counting.calls) == len(variants)
    other = CachedEngine(ScriptedEngine(counting, name="another"), tmp_path / "c.sqlite")
    await other.generate([base])
    assert len(counting.calls) == len(variants) + 1
    await cached.aclose()
    await other.aclose()


async def test_failures_are_not_kept_and_equal_requests_run_together(tmp_path):
    counting = Counting()
    cached = CachedEngine(ScriptedEngine(counting), tmp_path / "c.sqlite")
    for _ in range(2):
        found = await cached.generate([Request(prompt="fail"), Request(prompt="fine")])
        assert isinstance(found[0].error, EngineUnavailable)
        assert found[1].ok
    assert [call.prompt for call in counting.calls] == ["fail", "fine", "fail"]
    await cached.aclose()


def test_a_file_that_is_no_database_is_a_store_error(tmp_path):
    broken = tmp_path / "broken.sqlite"
    broken.write_bytes(b"this is no database, it only looks like one" * 50)
    with pytest.raises(StoreError, match=r"broken\.sqlite") as caught:
        CachedEngine(ScriptedEngine(lambda request: ""), broken)
    assert "delete the file" in caught.value.hint


REQUESTS = [Request(messages=CHAT, sample=n) for n in range(400)]


async def filled(path) -> None:
    async with CachedEngine(
        ScriptedEngine(lambda request: f"answer {request.sample} " * 20), path
    ) as cached:
        await cached.generate(REQUESTS)


@pytest.mark.parametrize("part", [0.05, 0.3, 0.6, 0.95])
async def test_a_file_that_was_cut_is_one_store_error(tmp_path, part):
    path = tmp_path / "cut.sqlite"
    await filled(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * part)])
    with pytest.raises(StoreError, match=r"cut\.sqlite") as caught:
        async with CachedEngine(ScriptedEngine(lambda request: "new"), path) as cached:
            await cached.generate(REQUESTS)
    assert "delete the file" in caught.value.hint


async def test_damaged_pages_are_one_store_error_and_never_a_wrong_answer(tmp_path):
    path = tmp_path / "damaged.sqlite"
    await filled(path)
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (path.stat().st_size - 4096))
    with pytest.raises(StoreError, match=r"damaged\.sqlite"):
        async with CachedEngine(ScriptedEngine(lambda request: "new"), path) as cached:
            await cached.generate(REQUESTS)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "[1, 2",
        "{}",
        "[1]",
        "null",
        "[" * 200_000,
        '["text", "eos", null, 1, [[1]]]',
        '[5, "eos", null, 1, []]',
        '["text", "why", null, 1, []]',
        '["text", "error", null, 1, []]',
        '["text", "eos", 5, 1, []]',
        '["text", "eos", null, "1", []]',
        '["text", "eos", null, []]',
        '["text", "eos", null, 1, "abc"]',
        '["text", "eos", null, 1, [["a", "x", 0, []]]]',
        '["text", "eos", null, 1, [["a", -0.1, null, []]]]',
        '["text", "eos", null, 1, [["a", -0.1, 0, [["a"]]]]]',
        '["text", "eos", null, 1, [["a", -0.1, 0, [["a", null]]]]]',
        5,
        b"\xff\xfe",
    ],
)
async def test_a_damaged_value_is_a_store_error(tmp_path, value):
    path = tmp_path / "value.sqlite"
    await filled(path)
    with sqlite3.connect(path) as database:
        database.execute("UPDATE completions SET value = ?", (value,))
    database.close()
    async with CachedEngine(ScriptedEngine(lambda request: "new"), path) as cached:
        with pytest.raises(StoreError, match=r"value\.sqlite") as caught:
            await cached.generate(REQUESTS)
    assert "delete the file" in caught.value.hint


def test_a_full_disk_is_a_store_error_and_loses_nothing_that_was_kept(tmp_path):
    """The process may write files up to a size: SQLite meets an error of the file system in the middle."""
    path = tmp_path / "full.sqlite"
    code = f"""
        import asyncio, resource
        from genprm.engines import CachedEngine, Request, ScriptedEngine
        from genprm.errors import StoreError

        kept = 0

        async def main():
            global kept
            async with CachedEngine(ScriptedEngine(lambda request: "long " * 500), {str(path)!r}) as cached:
                await cached.generate([Request(prompt="first")])
                resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
                for kept in range(1, 10_000):
                    await cached.generate([Request(prompt="more", sample=kept)])

        try:
            asyncio.run(main())
        except StoreError as error:
            print(kept, error.message, error.hint, sep="\\n")
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    kept, said, hint = done.stdout.splitlines()
    assert "full.sqlite" in said and "space" in hint

    async def count() -> dict[str, int]:
        async with CachedEngine(ScriptedEngine(lambda request: "new"), path) as cached:
            await cached.generate([Request(prompt="more", sample=number) for number in range(1, int(kept))])
            return cached.describe()["cache"]

    assert asyncio.run(count())["hits"] == int(kept) - 1 > 3


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_folder_without_rights_is_a_store_error(tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(StoreError) as caught:
            CachedEngine(ScriptedEngine(lambda request: ""), tmp_path / "c.sqlite")
    finally:
        tmp_path.chmod(0o700)
    assert "writable" in caught.value.hint


async def test_a_path_that_is_no_file_is_a_store_error(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path, tmp_path / "file" / "cache.sqlite"):
        with pytest.raises(StoreError) as caught:
            CachedEngine(ScriptedEngine(lambda request: ""), path)
        assert "another path" in caught.value.hint


async def test_a_closed_cache_says_so(tmp_path):
    cached = CachedEngine(ScriptedEngine(lambda request: ""), tmp_path / "c.sqlite")
    await cached.aclose()
    with pytest.raises(StoreError) as caught:
        await cached.generate([Request(prompt="x")])
    assert "closed" in caught.value.hint


async def test_a_model_that_was_trained_anew_at_the_same_path_is_another_one(tmp_path, make_model):
    torch = pytest.importorskip("torch")
    from transformers import AutoModelForCausalLM

    folder = make_model(tmp_path / "model")
    requests = [Request(prompt="3 + 4", params=SamplingParams(temperature=0.0, max_tokens=8))]

    async def ask() -> tuple[str, dict[str, int]]:
        engine = LocalEngine(folder, threads=1, device="cpu", deterministic=True)
        async with CachedEngine(engine, tmp_path / "c.sqlite") as cached:
            (found,) = await cached.generate(requests)
            return found.text, cached.describe()["cache"]

    first, counts = await ask()
    assert counts == {"hits": 0, "misses": 1}
    assert await ask() == (first, {"hits": 1, "misses": 0})
    model = AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.neg_()
    model.save_pretrained(folder)
    assert (await ask())[1] == {"hits": 0, "misses": 1}


async def test_a_given_identity_is_the_key_and_leaves_the_engine_alone(tmp_path):
    class Unreachable(ScriptedEngine):
        async def check(self) -> None:
            raise EngineUnavailable("nobody is there")

    path = tmp_path / "c.sqlite"
    request = Request(messages=CHAT)
    counting = Counting()
    for identity in (["http", {"model": "one"}], ["http", {"model": "two"}]):
        async with CachedEngine(ScriptedEngine(counting), path, identity=identity) as cached:
            assert (await cached.generate([request]))[0].ok
    assert len(counting.calls) == 2, "two identities, two answers"
    async with CachedEngine(Unreachable(counting), path, identity=["http", {"model": "one"}]) as cached:
        assert (await cached.generate([request]))[0].text.startswith("answer 1")
    async with CachedEngine(Unreachable(counting), path) as cached:
        (found,) = await cached.generate([request])
    assert isinstance(found.error, EngineUnavailable), "without one, the engine has to say what it is"
    assert len(counting.calls) == 2


def test_processes_share_a_cache(tmp_path):
    """They open it at the same time, write the same and their own completions, and read each other's."""
    code = """
        import asyncio, json, sys
        from genprm.engines import CachedEngine, Request, ScriptedEngine

        number, path = int(sys.argv[1]), sys.argv[2]

        async def main():
            engine = ScriptedEngine(lambda request: f"answer {request.sample}", name="shared")
            async with CachedEngine(engine, path) as cached:
                print("open", flush=True)
                sys.stdin.readline()
                own = range(100 * (number + 1), 100 * (number + 1) + 50)
                for sample in [*range(50), *own]:
                    (found,) = await cached.generate([Request(prompt="x", sample=sample)])
                    assert found.text == f"answer {sample}"
                print("written", flush=True)
                sys.stdin.readline()
                everybodys = [Request(prompt="x", sample=s) for s in (*range(50), *range(100, 150), *range(200, 250))]
                await cached.generate(everybodys)
                print(json.dumps(cached.describe()["cache"]), flush=True)

        asyncio.run(main())
    """
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(code), str(number), str(tmp_path / "shared.sqlite")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(2)
    ]

    def step() -> list[str]:
        lines = [process.stdout.readline().strip() for process in processes]
        for process in processes:
            process.stdin.write("\n")
            process.stdin.flush()
        return lines

    try:
        assert step() == ["open"] * 2
        assert step() == ["written"] * 2
        counts = [json.loads(process.stdout.readline()) for process in processes]
        assert [process.wait(60) for process in processes] == [0, 0]
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    # The last 150 of each process's 250 requests were all there, whoever had written them.
    assert all(count["hits"] >= 150 and sum(count.values()) == 250 for count in counts)
