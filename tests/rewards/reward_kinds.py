"""Every kind of step reward, in several moods, for the contract suite."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from genprm.config import VerifyConfig
from genprm.engines.base import Completion, Engine, Request, TokenLogprob
from genprm.engines.scripted import Scripted, ScriptedEngine
from genprm.errors import EngineTimeout, EngineUnavailable
from genprm.generate.rollout import derive_seed
from genprm.records import VerifyItem
from genprm.rewards import IncrementalReward, ScriptedReward, Verifier
from genprm.rewards.discriminative.classifier import StepClassifier, StepProbabilities, TokenClassifier
from genprm.rewards.discriminative.reward import DiscriminativeReward
from genprm.sandbox import ExecResult, IsolatedSandbox, IsolationReport, Limits, Sandbox, Session

Mood = Literal["calm", "slow", "flaky", "down", "odd"]
"""calm: answers; slow: after a random while; flaky: one call in eight fails, always the same ones; down: all
fail; odd: calls itself sure with numbers that are no probabilities."""

ITEMS = tuple(
    VerifyItem(
        id=f"item{number}",
        problem=f"What is {number} + 3 + 4?",
        steps=tuple(
            f"Step {step + 1}: {number} + {step} = {number + step}" for step in range(1 + number % 4)
        ),
        problem_id=f"problem{number}",
    )
    for number in range(7)
)
VERIFIERS: dict[str, dict[str, Any]] = {
    "direct": {"components": "direct"},
    "cot": {"components": "cot"},
    "execution": {},
    "exact": {"components": "direct", "voting": "exact", "votes": 5},
    "sequential": {"voting": "sequential", "votes": 4, "error_bound": 0.3},
    "shared": {"history": "shared"},
    "stop at first error": {"components": "direct", "stop_at_first_error": True},
    "every path to its error": {
        "components": "direct",
        "stop_at_first_error": True,
        "every_path_to_its_error": True,
    },
    "budget": {"components": "cot", "token_budget": 60},
}
LOCAL = {"components": "direct", "votes": 2, "logprobs": 5}
KINDS = [
    "scripted",
    "discriminative",
    pytest.param("token classifier", marks=pytest.mark.slow),
    pytest.param("local", marks=pytest.mark.slow),
    *VERIFIERS,
]


@dataclass
class Made:
    """A reward, and what can be seen of its doings from outside.

    Attributes:
        calls: how often its engine or its script was asked.
        sessions: interpreter sessions that are open.
    """

    reward: IncrementalReward
    calls: list[int]
    sessions: set[CountedSession] = field(default_factory=set)


class CountedSession:
    """A session that strikes itself off a list when it is closed."""

    def __init__(self, inner: Session, alive: set[CountedSession]) -> None:
        self._inner = inner
        self._alive = alive
        alive.add(self)

    async def run(self, code: str, limits: Limits | None = None) -> ExecResult:
        return await self._inner.run(code, limits)

    def fork(self) -> Session:
        return CountedSession(self._inner.fork(), self._alive)

    async def aclose(self) -> None:
        self._alive.discard(self)
        await self._inner.aclose()


class CountedSandbox:
    """A sandbox that knows which of its sessions are open."""

    def __init__(self, inner: Sandbox) -> None:
        self._inner = inner
        self.alive: set[CountedSession] = set()

    async def open(self) -> Session:
        return CountedSession(await self._inner.open(), self.alive)

    @property
    def report(self) -> IsolationReport:
        return self._inner.report

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def __aenter__(self) -> CountedSandbox:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()


def noisy(request: Request) -> Scripted | str:
    """A model whose words depend on the request's seed and text alone."""
    rng = random.Random(
        derive_seed(request.params.seed or 0, str(request.sample), request.messages[-1].content)
    )
    prefix = request.prefix
    if prefix.endswith("```python\n"):
        return f"try:\n    x += {rng.randint(1, 2)}\nexcept NameError:\n    x = 0\nprint(x)\n```\n"
    if prefix.endswith("<analyze>\n"):
        return f"{rng.random()}\n</analyze>\n"
    word, p_yes = (
        rng.choice(["Yes", "No", "Maybe"] if rng.random() < 0.2 else ["Yes", "No"]),
        rng.uniform(0.02, 0.98),
    )
    if prefix.endswith("\\boxed{"):
        return Scripted(f"{word}}}", (p_yes,))
    if rng.random() < 0.2:
        return f"Again\n```python\nprint({rng.randint(1, 9)})\n```\n"
    return Scripted(f"</verify>\n<output>\n**Judgement**: $\\boxed{{{word}}}$\n</output>", (p_yes,))


def _odd(request: Request) -> Completion | Scripted | str:
    """Judgements whose log-probabilities are no such thing."""
    if not request.prefix.endswith(("\\boxed{", "\n```\n")):
        return noisy(request)
    forced = request.prefix.endswith("{")
    head, tail = ("", "}") if forced else ("</verify>\n<output>\n\\boxed{", "}$\n</output>\n")
    strange = [math.nan, math.inf][request.sample % 2]
    tokens, offset = [], 0
    for text, logprob in ((head, 0.0), ("Yes", strange), (tail, 0.0)):
        tokens.append(TokenLogprob(text, logprob, offset, ((text, logprob), ("No", -1.0))))
        offset += len(text)
    return Completion(text=f"{head}Yes{tail}", finish_reason="stop", tokens=tuple(tokens[forced:]))


def _unlucky(*parts: Any) -> bool:
    return derive_seed(0, *map(str, parts)) % 8 == 0


class MoodyEngine:
    """An engine with a mood in front of one that answers."""

    def __init__(self, inner: Engine, mood: Mood, calls: list[int]) -> None:
        self._inner = inner
        self._mood = mood
        self._calls = calls

    @property
    def name(self) -> str:
        return self._inner.name

    async def generate(self, requests: Sequence[Request]) -> list[Completion]:
        return [await self._one(request) for request in requests]

    async def _one(self, request: Request) -> Completion:
        self._calls.append(1)
        if self._mood == "slow":
            await asyncio.sleep(random.random() * 0.003)
        if self._mood == "down":
            return Completion(finish_reason="error", error=EngineUnavailable("no route"))
        if self._mood == "flaky" and _unlucky(request.params.seed, request.messages, request.prefix):
            return Completion(finish_reason="error", error=EngineTimeout("too slow"))
        if self._mood == "odd":
            (completion,) = await ScriptedEngine(_odd).generate([request])
            return completion
        (completion,) = await self._inner.generate([request])
        return completion

    async def check(self) -> None:
        await self._inner.check()

    def describe(self) -> dict[str, Any]:
        return self._inner.describe()

    async def aclose(self) -> None:
        await self._inner.aclose()


def _script(mood: Mood, calls: list[int]) -> Callable[[str, Sequence[str], int], Any]:
    async def judge_step(problem: str, steps: Sequence[str], index: int) -> float | bool | None:
        calls.append(1)
        rng = random.Random(f"{problem} {steps}")
        await asyncio.sleep(random.random() * 0.003 if mood == "slow" else 0)
        if mood == "down":
            raise EngineUnavailable("no route")
        if mood == "flaky" and _unlucky(problem, steps):
            raise EngineTimeout("too slow")
        if mood == "odd":
            return rng.choice([math.nan, math.inf, -0.1, 1.5])
        return rng.choice([rng.random(), rng.random(), rng.random() < 0.5, None])

    return judge_step


class ClassifierByHeart:
    """A step's probability is drawn from the problem and the steps up to it."""

    name = "discriminative:by heart"

    async def check(self) -> None:
        pass

    async def classify(self, problem: str, steps: Sequence[str]) -> StepProbabilities:
        drawn = [random.Random(f"{problem} {steps[: end + 1]}").random() for end in range(len(steps))]
        return StepProbabilities(tuple(drawn), tokens=len(steps))

    async def aclose(self) -> None:
        pass


class MoodyClassifier(ClassifierByHeart):
    """A classifier with a mood in front of one that answers."""

    def __init__(self, inner: StepClassifier, mood: Mood, calls: list[int]) -> None:
        self._inner, self._mood, self._calls = inner, mood, calls

    async def classify(self, problem: str, steps: Sequence[str]) -> StepProbabilities:
        self._calls.append(1)
        await asyncio.sleep(random.random() * 0.003 if self._mood == "slow" else 0)
        if self._mood == "down":
            raise EngineUnavailable("no route")
        found = await self._inner.classify(problem, steps)
        # What becomes of a step must depend on the steps up to it alone.
        unlucky = self._mood == "flaky"
        values = [
            None if unlucky and _unlucky(problem, steps[: end + 1]) else value
            for end, value in enumerate(found.values)
        ]
        if self._mood == "odd":
            values = [[math.nan, math.inf, -0.1, 1.5][end % 4] for end in range(len(steps))]
        return StepProbabilities(tuple(values), "unlucky" if None in values else None, found.tokens)


@asynccontextmanager
async def discriminative(
    classifier: StepClassifier, mood: Mood, calls: list[int], concurrency: int
) -> AsyncIterator[Made]:
    moody = MoodyClassifier(classifier, mood, calls)
    async with DiscriminativeReward(moody, concurrency=concurrency) as reward:
        yield Made(reward, calls)
    await classifier.aclose()


def _tiny_classifier() -> TokenClassifier:
    """Untrained weights on the built-in world's tokenizer; in 64 bits, where batching changes no digit that counts."""
    pytest.importorskip("torch")
    from tiny_prm import tiny_prm

    return TokenClassifier(tiny_prm(), dtype="float64", batch_tokens=256, device="cpu")


@asynccontextmanager
async def make(
    kind: str, mood: Mood = "calm", *, concurrency: int = 16, seed: int = 1
) -> AsyncIterator[Made]:
    """A reward of that kind, which is closed in the end."""
    calls: list[int] = []
    if kind == "scripted":
        reward = ScriptedReward(_script(mood, calls), concurrency=concurrency)
        yield Made(reward, calls)
        await reward.aclose()
        return
    if kind in ("discriminative", "token classifier"):
        classifier = ClassifierByHeart() if kind == "discriminative" else _tiny_classifier()
        async with discriminative(classifier, mood, calls, concurrency) as made:
            yield made
        return
    if kind == "local":
        pytest.importorskip("torch")
        from genprm.engines import LocalEngine
        from genprm.worlds.arithmetic.tiny import policy_checkpoint

        inner: Engine = LocalEngine(
            policy_checkpoint(), device="cpu", deterministic=True, batch_size=16, threads=1
        )
    else:
        inner = ScriptedEngine(noisy)
    options = LOCAL if kind == "local" else VERIFIERS[kind]
    config = VerifyConfig.model_validate({"profile": "compact", "votes": 3, "max_rounds": 2, **options})
    sandbox = None
    if "execution" in config.components:
        sandbox = CountedSandbox(IsolatedSandbox(tier="plain", workers=1, seed=0))
    verifier = Verifier(
        MoodyEngine(inner, mood, calls), sandbox, config, concurrency=concurrency, seed=seed
    )
    try:
        yield Made(verifier, calls, sandbox.alive if sandbox is not None else set())
    finally:
        await verifier.aclose()
        if sandbox is not None:
            await sandbox.aclose()
        await inner.aclose()
