"""Scripted engines for additions: a policy that is right every other time, a completer, a teacher and a verifier.

Every engine can be made to fail from outside: see `failing`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from genprm.engines import Engine, Request, Scripted, ScriptedEngine, register_engine
from genprm.errors import EngineError, SandboxError

_SUM = re.compile(r"What is (\d+) \+ (\d+)\?")
_ANSWER = re.compile(r"\\boxed\{(\d+)\}")

calls: Counter[str] = Counter()
"""Requests that each engine was given, in this process."""
failing: dict[str, EngineError | SandboxError] = {}
"""Engines that fail, by name."""
watching: list[Callable[[str, int], None]] = []
"""Called before every answer with the engine's name and the problem's first number."""


def register() -> None:
    """Make the engines known."""
    for kind in ("policy", "completer", "teacher", "verifier"):
        register_engine(f"sums-{kind}", f"sums:{kind}")


def write_problems(path: Path, count: int) -> Path:
    """A file of problems whose column names are its own."""
    rows = [
        f'{{"n": "sum-{i}", "q": "What is {i} + {i + 3}?", "gold": "{2 * i + 3}"}}\n' for i in range(count)
    ]
    path.write_text("".join(rows))
    return path


def config(problems: Path) -> dict[str, Any]:
    """A run on such a file, with every role scripted."""
    kinds = {role: {"kind": f"sums-{role}"} for role in ("policy", "completer", "teacher", "verifier")}
    return {
        "problems": {"source": str(problems), "columns": {"id": "n", "text": "q", "answer": "gold"}},
        "roles": kinds,
        "sandbox": {"tier": "plain", "workers": 1},
        "solutions": {"per_class": 2, "batch": 4, "max_samples": 16, "duplicates": "keep"},
        "montecarlo": {"k_start": 20, "k_hard": 4, "k_medium": 4, "k_easy": 4},
        "verify": {"profile": "compact"},
        "store": {"shard_size": 2, "shards_in_flight": 2},
    }


def policy() -> Engine:
    """Every other solution is wrong in its last step."""
    return _scripted("policy", lambda request: _continue(request, right=request.sample % 2 == 0))


def completer() -> Engine:
    """Always right about some problems, seldom about others, half the time about the rest."""

    def respond(request: Request) -> str:
        every = (1, 20, 2)[_sum(request)[0] % 3]
        return _continue(request, right=request.sample % every == 0)

    return _scripted("completer", respond)


def teacher() -> Engine:
    """Judges by the sum itself and lets code confirm it."""

    def respond(request: Request) -> str:
        right = _is_right(request.messages[-1].content, request)
        first, second = _section("True", "Yes"), _section(str(right), "Yes" if right else "No")
        sections = f"### Paragraph 1\n{first}### Paragraph 2\n{second}"
        return _rest(request, sections + f"The first wrong paragraph is \\boxed{{{-1 if right else 2}}}.")

    return _scripted("teacher", respond)


def verifier() -> Engine:
    """Judges the last paragraph it was given, by code."""

    def respond(request: Request) -> Scripted:
        right = _is_right(request.messages[-1].content, request)
        word, chance = ("Yes", 0.9) if right else ("No", 0.2)
        text = _rest(request, _section(str(right), word))
        return Scripted(text, (chance,))

    return _scripted("verifier", respond)


def _scripted(name: str, respond: Callable[[Request], str | Scripted]) -> Engine:
    def watched(request: Request) -> str | Scripted:
        calls[name] += 1
        for watch in watching:
            watch(name, _sum(request)[0])
        if name in failing:
            raise failing[name]
        return respond(request)

    return ScriptedEngine(watched, name=f"sums {name}")


def _sum(request: Request) -> tuple[int, int]:
    text = "\n".join(message.content for message in request.messages)
    match = _SUM.search(text)
    assert match is not None, text
    return int(match[1]), int(match[2])


def _continue(request: Request, *, right: bool) -> str:
    total = sum(_sum(request)) + (0 if right else 1)
    if "Step 2:" in request.prefix:
        return f" The answer is \\boxed{{{total}}}."
    return f" We add the numbers.\n\nStep 2: The answer is \\boxed{{{total}}}."


def _is_right(text: str, request: Request) -> bool:
    stated = _ANSWER.findall(text)
    return not stated or int(stated[-1]) == sum(_sum(request))


def _section(printed: str, word: str) -> str:
    return (
        f"<analyze>\nLet us check.\n</analyze>\n<verify>\n```python\nprint({printed})\n```\n"
        f"[Code Output]\n\n```\n{printed}\n```\n</verify>\n"
        f"<output>\n**Judgement**: $\\boxed{{{word}}}$\n</output>\n"
    )


def _rest(request: Request, text: str) -> str:
    assert text.startswith(request.prefix), (text, request.prefix)
    return text[len(request.prefix) :]
