"""Engines for `benchmarks/pipeline.py`: scripted ones that cost next to nothing, and one that remembers its requests."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from genprm.config import ProblemsConfig
from genprm.engines import Completion, Engine, Request, ScriptedEngine, make_engine, register_engine
from genprm.records import Problem
from genprm.sources import register_source

_SUM = re.compile(r"What is (\d+) \+ (\d+)\?")
made: list[Request] = []
"""Requests that the recording engine was given, in this process."""


def register() -> None:
    """Make the benchmark's engines and its source known."""
    for kind in ("policy", "teacher", "recording"):
        register_engine(f"benchmark-{kind}", f"pipeline_engines:{kind}")
    register_source("benchmark-sums", "pipeline_engines:sums")


def sums(options: ProblemsConfig, seed: int) -> Iterator[Problem]:
    """`options.limit` additions."""
    for index in range(options.limit or 1):
        a, b = index % 97 + 1, index // 97 + 1
        yield Problem(id=f"sum-{index}", text=f"What is {a} + {b}?", answer=str(a + b))


def policy() -> Engine:
    """Every other sample and every other continuation is wrong."""

    def respond(request: Request) -> str:
        match = _SUM.search(request.messages[-1].content)
        assert match is not None
        total = int(match[1]) + int(match[2]) + request.sample % 2
        if "Step 2:" in request.prefix:
            return f" The answer is \\boxed{{{total}}}."
        return f" We add the numbers.\n\nStep 2: The answer is \\boxed{{{total}}}."

    return ScriptedEngine(respond, name="benchmark policy")


def teacher() -> Engine:
    """Judges by the sum itself, without code, so that the pipeline is measured and not the sandbox."""

    def respond(request: Request) -> str:
        text = request.messages[-1].content
        match = _SUM.search(text)
        assert match is not None
        right = f"\\boxed{{{int(match[1]) + int(match[2])}}}" in text
        sections = [_section(1, "Yes"), _section(2, "Yes" if right else "No")]
        review = "".join(sections) + f"The first wrong paragraph is \\boxed{{{-1 if right else 2}}}."
        return review[len(request.prefix) :]

    return ScriptedEngine(respond, name="benchmark teacher")


def _section(number: int, word: str) -> str:
    return (
        f"### Paragraph {number}\n<analyze>\nChecked.\n</analyze>\n"
        f"<output>\n**Judgement**: $\\boxed{{{word}}}$\n</output>\n"
    )


def recording(**options: Any) -> Engine:
    """A replicated local engine that remembers its requests in `made`."""
    return _Recording(make_engine("replicated", **options))


class _Recording:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @property
    def name(self) -> str:
        return self._engine.name

    async def generate(self, requests: Sequence[Request]) -> list[Completion]:
        made.extend(requests)
        return await self._engine.generate(requests)

    async def check(self) -> None:
        await self._engine.check()

    def describe(self) -> dict[str, Any]:
        return self._engine.describe()

    async def aclose(self) -> None:
        await self._engine.aclose()
