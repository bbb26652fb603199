"""An engine whose words come from a Python function: for tests, tutors and demonstrations.

It behaves like a model behind a server: stop strings and the token budget end the text, tokens are
counted, log-probabilities come when asked for. A report shows its name, which starts with `scripted:`.
"""

from __future__ import annotations

import asyncio
import inspect
import math
import re
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from genprm.engines.base import Completion, EngineBase, FinishReason, Request
from genprm.engines.stopping import find_stop
from genprm.engines.tokens import TokenLogprob
from genprm.errors import EngineError
from genprm.records import Usage

_PIECE = re.compile(r"\w+|\s+|[^\w\s]")
_JUDGEMENT = re.compile(r"(?:^|\{)(Yes|No)\}")


@dataclass(frozen=True, slots=True)
class Scripted:
    """A text with stated probabilities for its judgements.

    Attributes:
        text: what the engine would say if nothing stopped it.
        yes_probs: p(Yes) in (0, 1) at the first, second, ... boxed `{Yes}` or `{No}` of `text`, whose
            opening brace may be the prefix's last character; later judgements, and judgements of plain
            strings, are certain.
    """

    text: str
    yes_probs: tuple[float, ...] = ()


Respond = Callable[
    [Request], "str | Scripted | Completion | Awaitable[str] | Awaitable[Scripted] | Awaitable[Completion]"
]


class ScriptedEngine(EngineBase):
    """Engine that answers with `respond(request)`.

    Args:
        respond: gives the whole continuation of a request as a string, a `Scripted`, or a finished
            `Completion` that is passed on untouched; may be a coroutine function. An `EngineError`
            that it raises becomes the completion's error; any other exception is a bug and raises.
        name: shown in reports; `scripted:` is put in front if it is missing.
    """

    kind = "scripted"

    def __init__(self, respond: Respond, name: str = "scripted:function") -> None:
        self._respond = respond
        self._name = name if name.startswith("scripted:") else f"scripted:{name}"

    @property
    def name(self) -> str:
        """The name, with its `scripted:` mark."""
        return self._name

    async def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """Complete every request, in order."""
        return list(await asyncio.gather(*(self._complete(request) for request in requests)))

    async def check(self) -> None:
        """A script can always answer."""

    def describe(self) -> dict[str, Any]:
        """Facts for the run's record."""
        return {"kind": "scripted", "name": self._name, "missing": []}

    async def aclose(self) -> None:
        """Nothing to release."""

    async def _complete(self, request: Request) -> Completion:
        started = time.perf_counter()
        try:
            answer = self._respond(request)
            if inspect.isawaitable(answer):
                answer = await answer
        except EngineError as error:
            return Completion(finish_reason="error", error=error, usage=Usage(requests=1))
        if isinstance(answer, Completion):
            return answer
        script = answer if isinstance(answer, Scripted) else Scripted(answer)
        return _play(script, request, started)


def _play(script: Scripted, request: Request, started: float) -> Completion:
    """Cut a scripted text as a model's output would be cut."""
    params = request.params
    pieces = [(match.start(), match.group()) for match in _PIECE.finditer(script.text)]
    kept = pieces[: params.max_tokens]
    text = script.text[: kept[-1][0] + len(kept[-1][1])] if kept else ""
    stopped = find_stop(text, params.stop)
    # The end-of-turn token costs one token of the budget too.
    reason: FinishReason = "eos" if len(pieces) < params.max_tokens else "length"
    if stopped is not None:
        text, reason = text[: stopped[0]], "stop"
        kept = [piece for piece in kept if piece[0] < stopped[0]]
    usage = Usage(
        requests=1,
        prompt_tokens=count_pieces(scripted_prompt(request)),
        completion_tokens=len(kept),
        engine_seconds=time.perf_counter() - started,
    )
    tokens = _tokens(kept, script) if params.logprobs > 0 else ()
    stop = stopped[1] if stopped is not None else None
    return Completion(text=text, finish_reason=reason, stop=stop, tokens=tokens, usage=usage)


def _tokens(kept: list[tuple[int, str]], script: Scripted) -> tuple[TokenLogprob, ...]:
    """Certain tokens, except for judgements with a stated probability."""
    words = [match.start(1) for match in _JUDGEMENT.finditer(script.text)]
    probs = dict(zip(words, script.yes_probs, strict=False))
    tokens = []
    for offset, piece in kept:
        p_yes = probs.get(offset)
        if p_yes is None:
            tokens.append(TokenLogprob(piece, 0.0, offset, ((piece, 0.0),)))
            continue
        pair = {"Yes": math.log(p_yes), "No": math.log1p(-p_yes)}
        top = tuple(sorted(pair.items(), key=lambda entry: -entry[1]))
        tokens.append(TokenLogprob(piece, pair[piece], offset, top))
    return tuple(tokens)


def scripted_prompt(request: Request) -> str:
    """The text that a scripted engine counts as the prompt: turns one after the other, then the prefix."""
    if request.prompt is not None:
        return request.prompt
    turns = [f"{message.role}: {message.content}\n" for message in request.messages]
    return "".join(turns) + request.prefix


def count_pieces(text: str) -> int:
    """Tokens of a scripted engine: words, runs of white space, and single other characters."""
    return sum(1 for _ in _PIECE.finditer(text))
