"""The table of failures on the server's page is what the server does: every row and column is asked and compared."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from conftest import Live, Serving
from serve_bodies import BODIES, PATHS, QUESTION, SOLUTION

from genprm import (
    Engine,
    HttpEngine,
    Request,
    SandboxDied,
    ScriptedEngine,
    ScriptedReward,
    StepReward,
    Verifier,
    VerifyConfig,
)
from genprm.errors import EngineRequestError

PAGE = Path(__file__).resolve().parents[2] / "docs" / "howto" / "serve.md"
COLUMNS = {
    "native": "native",
    "chat": "chat",
    "OpenRLHF": "openrlhf",
    "slime": "slime",
    "NeMo-Gym": "nemo_gym",
    "`/pooling`": "pooling",
    "`/classify`": "classify",
}
STRATEGIES = {"best": {"kind": "best_of_n", "n": 2}}
Fault = Callable[[], Any]


def table() -> dict[str, dict[str, str]]:
    """The rows on the page: what happened -> dialect -> what the cell says."""
    text = PAGE.read_text("utf-8").partition("## What a failure becomes")[2]
    lines = [line for line in text.partition("\n## ")[0].splitlines() if line.startswith("| ")]
    head, *rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in lines if "---" not in line
    ]
    names = [COLUMNS[name] for name in head[1:]]
    assert sorted(names) == sorted(COLUMNS.values())
    return {row[0]: dict(zip(names, row[1:], strict=True)) for row in rows if len(row) == len(head)}


def said(dialect: str, status: int, answer: Any, headers: Any) -> str:
    """An answer in the table's words; a number that is learned from has none."""
    if status != 200:
        assert answer["error"]["message"] and "choices" not in answer and "data" not in answer
        assert ("Retry-After" in headers) is (status in (429, 503))
        return str(status)
    if dialect == "native":
        assert None in answer["rewards"] and set(answer["scores"].values()) == {None}
        return "200, `rewards` with `null`" + (", `retry: true`" if answer["retry"] else "")
    if dialect == "slime":
        assert (answer["reward"], answer["remove_sample"]) == (None, True)
        return "`reward: null`, `remove_sample: true`"
    assert dialect == "nemo_gym" and answer["mask_sample"] and answer["failure_kind"]
    return "`mask_sample: true`"


def body_of(dialect: str, solution: str) -> tuple[str, Any]:
    if dialect == "native":
        return "/v1/verify", {"problem": QUESTION, "solution": solution}
    if dialect == "chat":
        return "/v1/chat/completions", {
            "model": "best",
            "messages": [{"role": "user", "content": QUESTION}],
        }
    return PATHS[dialect], BODIES[dialect](solution)


def writer(text: str = " 2 + 3 = 5.\n\nStep 2: So \\boxed{9}.") -> ScriptedEngine:
    return ScriptedEngine(lambda request: text)


def verifier(engine: Engine) -> Verifier:
    return Verifier(engine, options=VerifyConfig(profile="compact", components="cot"))


def scripted(judge: Any) -> ScriptedReward:
    return ScriptedReward(judge)


async def hang(problem: str, steps: Sequence[str], index: int) -> float:
    await asyncio.Event().wait()
    return 1.0


def died(problem: str, steps: Sequence[str], index: int) -> float:
    raise SandboxDied("its process was killed")


def bug(problem: str, steps: Sequence[str], index: int) -> float:
    raise KeyError("a bug")


def too_long(request: Request) -> str:
    raise EngineRequestError("the prompt is longer than the model's context")


class Case:
    """How a row of the table comes about.

    Args:
        row: its first cell.
        reward: what is served.
        policy: what it writes for chats.
        solution: of the requests of all others.
        busy: whether another request is in work.
        chats: whether it can happen to them, whose solutions the server's own policy writes.
    """

    def __init__(
        self,
        row: str,
        reward: StepReward,
        policy: Engine | None = None,
        solution: str = SOLUTION,
        busy: bool = False,
        chats: bool = True,
        **config: Any,
    ) -> None:
        self.row, self.reward, self.solution, self.busy, self.chats = row, reward, solution, busy, chats
        self.policy, self.config = policy or writer(), config


@asynccontextmanager
async def cases() -> AsyncIterator[list[Case]]:
    async with AsyncExitStack() as stack:
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))  # and nobody listens
            down = HttpEngine(
                f"http://127.0.0.1:{closed.getsockname()[1]}", model="m", api="chat", retries=0
            )
            await stack.enter_async_context(down)
            always = scripted(lambda problem, steps, index: 0.875)
            yield [
                Case("the engine is down", verifier(down)),
                Case("the sandbox is down", scripted(died)),
                Case("the deadline passed", scripted(hang), deadline_seconds=0.3),
                Case(
                    "no judgement could be read",
                    verifier(ScriptedEngine(lambda request: "Hm.\n</analyze>\n")),
                ),
                Case(
                    "a fault that will not pass: too long for the model", verifier(ScriptedEngine(too_long))
                ),
                Case("the response is empty", always, writer(""), solution=" \n"),
                Case(
                    "the response has more than `serve.max_steps` steps",
                    always,
                    solution="Step 1: a\n\nStep 2: b\n\nStep 3: c",
                    max_steps=2,
                    chats=False,
                ),
                Case("the queue is full", scripted(hang), busy=True, in_work=1, queue=0),
                Case(
                    "the key's limits are reached",
                    scripted(hang),
                    busy=True,
                    limits={"*": {"concurrency": 1}},
                ),
                Case("a bug", scripted(bug)),
            ]


async def asked(live: Live, case: Case, dialect: str) -> str:
    if dialect == "chat" and not case.chats:
        return "-"
    path, body = body_of(dialect, case.solution)
    return said(dialect, *await live.post(path, body))


async def test_every_cell_of_the_table_is_what_the_server_does(serving: Serving) -> None:
    stated = table()
    found: dict[str, dict[str, str]] = {}
    async with cases() as rows:
        for case in rows:
            options = {"linger_seconds": 0, "strategies": STRATEGIES, **case.config}
            async with (
                serving(case.reward, policy=case.policy, **options) as live,
                AsyncExitStack() as stack,
            ):
                if case.busy:
                    other = asyncio.create_task(live.post("/v1/verify", {"problem": "q", "steps": ["a"]}))
                    stack.callback(other.cancel)
                    async with asyncio.timeout(20):
                        while not live.service.running:
                            await asyncio.sleep(0.01)
                answers = await asyncio.gather(*(asked(live, case, name) for name in COLUMNS.values()))
            found[case.row] = dict(zip(COLUMNS.values(), answers, strict=True))
    assert found == stated
