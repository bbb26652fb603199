"""The engine protocol: requests in, completions out, in the same order.

One request gives one completion. Many samples of one prompt are many requests that differ in
`sample`; engines are expected to notice equal prompts and share their prefill. A completion that
could not be made carries a typed `EngineError` instead of raising, so that one bad request never
loses the others of its batch.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol, Self, runtime_checkable

from genprm.aio import run_sync
from genprm.engines.tokens import TokenLogprob
from genprm.errors import EngineError
from genprm.records import ChatMessage, Usage

FinishReason = Literal["stop", "eos", "length", "error"]
_USUAL_PER_BYTE = 0.25
_HALVES = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How to sample.

    Attributes:
        temperature: 0 means greedy.
        top_k: 0 means no limit. Engines without the extension ignore it and say so in `describe`.
        max_tokens: most tokens to generate.
        stop: strings that end the completion. The completion's text *includes* the one that matched.
        seed: the seed of this request; `None` lets the engine choose. Two requests with equal
            prompt, params and `Request.sample` give equal completions if the engine is seeded.
        logprobs: how many top alternatives to return for each token; 0 for none.
        words: words whose tokens are wanted among the alternatives, with `logprobs`, however unlikely they are.
            Engines that cannot name tokens return the most likely ones.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    max_tokens: int = 512
    stop: tuple[str, ...] = ()
    seed: int | None = None
    logprobs: int = 0
    words: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Request:
    """One completion to make: chat `messages` plus an exact assistant `prefix`, or a raw `prompt`.

    Attributes:
        messages: the chat so far; rendered with the model's own template.
        prefix: text that the assistant turn starts with; continued exactly, and not part of the
            completion's text.
        add_generation_prompt: whether the template opens an assistant turn before `prefix`. The
            released GenPRM checkpoints want it off.
        prompt: a raw prompt, in place of `messages`.
        sample: index of the sample, mixed into the seed and into cache keys.
    """

    messages: tuple[ChatMessage, ...] = ()
    prefix: str = ""
    add_generation_prompt: bool = True
    prompt: str | None = None
    params: SamplingParams = SamplingParams()
    sample: int = 0


@dataclass(frozen=True, slots=True)
class Completion:
    """What an engine made of a request.

    Attributes:
        text: the generated text, the matched stop string included. Half of a surrogate pair, which no file can hold,
            becomes U+FFFD.
        finish_reason: `stop` for a stop string (then `stop` names it), `eos` for the model's end of
            turn, `length` for the token budget, `error` if `error` says why there is no text.
        tokens: per-token log-probabilities if `SamplingParams.logprobs` asked for them and the
            engine has them; otherwise empty.
        usage: what the completion cost; all zero for one that cost nothing.
        made: tokens of the text where `usage` may have another number (a kept completion cost nothing, and finding a
            stop string costs more); 0 for the same.
    """

    text: str = ""
    finish_reason: FinishReason = "eos"
    stop: str | None = None
    tokens: Sequence[TokenLogprob] = ()
    usage: Usage = field(default_factory=Usage)
    error: EngineError | None = None
    made: int = 0

    def __post_init__(self) -> None:
        if not self.text.isascii():
            object.__setattr__(self, "text", _HALVES.sub("\ufffd", self.text))

    @property
    def ok(self) -> bool:
        """Whether there is a text (of whatever length)."""
        return self.error is None

    @property
    def length(self) -> int:
        """Tokens of the text, whatever they cost: what budgets count. Estimated where nobody counted them."""
        counted = self.made or self.usage.completion_tokens or len(self.tokens)
        return counted or estimated_tokens(self.text)


def estimated_tokens(text: str, per_byte: float = 0.0) -> int:
    """About how many tokens a text has that nobody counted, 0 only if it is empty.

    Args:
        per_byte: tokens per byte of UTF-8; 0 for as many as English text usually has.
    """
    size = len(text.encode("utf-8", "replace"))
    return max(1, round(size * (per_byte or _USUAL_PER_BYTE))) if size else 0


@runtime_checkable
class Engine(Protocol):
    """What every engine offers. Implementations live beside this module and never import each other."""

    @property
    def name(self) -> str:
        """A short name for reports; a scripted engine says so here."""
        ...

    async def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """Complete every request; the answer has the same length and order.

        May be called concurrently from many tasks of one event loop; the engine batches across
        calls. Failures come back as completions with `error`; only a programming error raises.
        """
        ...

    async def check(self) -> None:
        """Raise an `EngineError` that names the remedy if the engine cannot answer."""
        ...

    def describe(self) -> dict[str, Any]:
        """Facts for the run's record: kind, model, device, extensions that are missing."""
        ...

    async def aclose(self) -> None:
        """Release what the engine holds. Idempotent."""
        ...


class EngineBase(ABC):
    """What the engines here have in common: how they are closed, and which of their options decide.

    Attributes:
        kind: the engine's name in `genprm.engines.ENGINES`.
        neutral_options: options (or facts of `describe`) that cannot change a completion. Every other one decides,
            and is part of the identity (`genprm.engines.engine_identity`).
        neutral_when: further neutral options, by the option that makes them so when it is set.
        content_options: options that name a model or tokenizer, whose files decide, not whose name.
        copies: the engine class of which this one runs copies; its options are options here too. With
            `deterministic`, copies count as the engine that they copy.
    """

    kind: ClassVar[str]
    neutral_options: ClassVar[frozenset[str]] = frozenset()
    neutral_when: ClassVar[Mapping[str, frozenset[str]]] = {}
    content_options: ClassVar[frozenset[str]] = frozenset({"model"})
    copies: ClassVar[type[EngineBase] | None] = None

    @abstractmethod
    async def aclose(self) -> None:
        """Release what the engine holds. Idempotent."""

    def close(self) -> None:
        """Release what the engine holds, from synchronous code. Idempotent."""
        run_sync(self.aclose())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
