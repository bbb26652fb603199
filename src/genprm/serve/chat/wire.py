"""Chat completions as OpenAI's clients send and read them."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from genprm.config import SolutionsConfig
from genprm.errors import DataError
from genprm.records import Usage
from genprm.serve.chat.search import Found, Question
from genprm.serve.dialects.rendered import content_text
from genprm.text.checked import checked_text
from genprm.text.steps import join_steps

# What would change the answer and is not done here, and the values that ask for nothing.
_UNSUPPORTED: dict[str, tuple[Any, ...]] = {
    "n": (None, 1),
    "tools": (None, []),
    "functions": (None, []),
    "tool_choice": (None, "none", "auto"),
    "function_call": (None, "none", "auto"),
    "response_format": (None, {"type": "text"}),
    "logprobs": (None, False),
    "top_logprobs": (None, 0),
    "stop": (None, [], ""),
    "logit_bias": (None, {}),
    "modalities": (None, ["text"]),
    "audio": (None,),
    "presence_penalty": (None, 0),
    "frequency_penalty": (None, 0),
    # vLLM's and SGLang's own, which clients send as `extra_body`.
    "min_p": (None, 0),
    "repetition_penalty": (None, 1),
    "length_penalty": (None, 1),
    "min_tokens": (None, 0),
    "best_of": (None, 1),
    "use_beam_search": (None, False),
    "ignore_eos": (None, False),
    "stop_token_ids": (None, []),
    "bad_words": (None, []),
    "structured_outputs": (None,),
    "regex": (None,),
    "continue_final_message": (None, False),
}
_ROLES = ("system", "developer", "user", "assistant")
_FIRST_SEEDS = 2**63


class Turn(BaseModel):
    """One turn; its content is a text, or a list of parts of type `text`."""

    model_config = ConfigDict(frozen=True, extra="allow")

    role: str
    content: str | tuple[Any, ...] | None = None


class StreamOptions(BaseModel):
    """How a stream ends."""

    model_config = ConfigDict(frozen=True, extra="allow")

    include_usage: bool = False


class ChatRequest(BaseModel):
    """`POST /v1/chat/completions`. `model` names a strategy; keys that only describe the caller are let through."""

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)

    model: str
    messages: tuple[Turn, ...] = Field(min_length=1)
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    top_k: int | None = Field(default=None, ge=-1, le=1_000_000, description="0 and -1: no limit")
    max_tokens: int | None = Field(default=None, gt=0, description="of one solution")
    max_completion_tokens: int | None = Field(default=None, gt=0, description="the same")
    seed: int | None = Field(default=None, gt=-_FIRST_SEEDS, lt=_FIRST_SEEDS)

    def question(self, solutions: SolutionsConfig, seed: int) -> Question:
        """What is asked, with the server's settings for whatever is left open; its token budget is the upper bound.

        Raises:
            DataError: the request asks for something that is not done here, or has no question.
        """
        for name, neutral in _UNSUPPORTED.items():
            value = (self.model_extra or {}).get(name)
            if value not in neutral:
                raise DataError(f"'{name}' is not supported here", hint="Leave it out.")
        system, problem = _read(self.messages)
        given: dict[str, float | None] = {"temperature": self.temperature, "top_p": self.top_p}
        changed = {name: value for name, value in given.items() if value is not None}
        if self.top_k is not None:
            changed["top_k"] = max(0, self.top_k)
        bounds = (solutions.max_tokens, self.max_tokens, self.max_completion_tokens)
        return Question(
            problem,
            system=system,
            sampling=solutions.sampling.model_copy(update=changed),
            max_tokens=min(bound for bound in bounds if bound is not None),
            seed=seed if self.seed is None else self.seed,
        )


def _read(messages: Sequence[Turn]) -> tuple[str | None, str]:
    """The system's words, and the problem: the user's turn, or, of a longer chat, all turns with who spoke."""
    system, turns = [], []
    for number, message in enumerate(messages, start=1):
        if message.role not in _ROLES:
            raise DataError(f"messages.{number}: the role '{message.role[:40]}' is not supported here")
        parts = message.content if isinstance(message.content, tuple) else ()
        if any(not isinstance(part, dict) or part.get("type") != "text" for part in parts):
            raise DataError(f"messages.{number}: only text is supported here")
        text = checked_text(content_text(message.content), f"messages.{number}: the content")
        if message.role in ("system", "developer"):
            system.append(text)
        else:
            turns.append((message.role, text))
    if not turns or turns[-1][0] != "user":
        raise DataError("the chat has to end with a user's turn")
    several = "\n\n".join(f"{role.capitalize()}: {text}" for role, text in turns)
    problem = turns[0][1] if len(turns) == 1 else several
    return "\n\n".join(system) or None, problem


class Writer:
    """Writes one request's answer, whole or in chunks; all parts have one id and one time."""

    def __init__(self, model: str, strategy: dict[str, Any], verifier: str) -> None:
        self._head = {
            "id": f"chatcmpl-{uuid.uuid4().hex}",
            "created": int(time.time()),
            "model": model,
        }
        self._strategy, self._verifier = strategy, verifier

    def whole(self, found: Found) -> dict[str, Any]:
        """The answer of a request without `stream`."""
        text, finish = _said(found)
        message = {"role": "assistant", "content": text, "refusal": None}
        choice = {"index": 0, "message": message, "finish_reason": finish, "logprobs": None}
        return {
            **self._head,
            "object": "chat.completion",
            "choices": [choice],
            "usage": _usage(found),
            "genprm": self._details(found),
        }

    def begin(self) -> dict[str, Any]:
        """The first chunk."""
        return self._chunk({"role": "assistant", "content": ""})

    def progress(self, line: str) -> dict[str, Any]:
        """A line about the search; clients that show a model's reasoning show it there, others pass it over."""
        return self._chunk({"reasoning_content": line})

    def end(self, found: Found, *, usage: bool) -> list[dict[str, Any]]:
        """The answer, how it ended, and, if wanted, what it cost."""
        text, finish = _said(found)
        last = {**self._chunk({}, finish), "genprm": self._details(found)}
        parts = [self._chunk({"content": text}), last]
        if usage:
            parts.append({**self._chunk({}), "choices": [], "usage": _usage(found)})
        return parts

    def _chunk(self, delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}
        return {**self._head, "object": "chat.completion.chunk", "choices": [choice]}

    def _details(self, found: Found) -> dict[str, Any]:
        """What OpenAI's format has no place for: the candidates, and who cost what."""
        return {
            "strategy": self._strategy,
            "verifier": self._verifier,
            "candidates": [
                {
                    "answer": candidate.solution.answer,
                    "judged": candidate.verification is not None,
                    "scores": candidate.verification.score.model_dump() if candidate.verification else None,
                    "first_error": candidate.verification.first_error if candidate.verification else None,
                    "chosen": candidate.solution is found.solution,
                }
                for candidate in found.candidates
            ],
            "policy_usage": _share(found.policy),
            "verifier_usage": _share(found.verifier),
        }


def _said(found: Found) -> tuple[str, str]:
    solution = found.solution
    assert solution is not None
    return join_steps(solution.steps), "length" if solution.invalid == "unfinished" else "stop"


def _tokens(usage: Usage) -> dict[str, int]:
    return {"prompt_tokens": usage.prompt_tokens, "completion_tokens": usage.completion_tokens}


def _share(usage: Usage) -> dict[str, int]:
    """Tokens, and the requests whose tokens nobody counted."""
    return {**_tokens(usage), "uncounted": usage.uncounted}


def _usage(found: Found) -> dict[str, Any]:
    """All tokens of policy and verifier; those of them that are not the answer's count as reasoning."""
    total = found.policy + found.verifier
    shown = found.solution.usage.completion_tokens if found.solution is not None else 0
    return {
        **_tokens(total),
        "total_tokens": total.prompt_tokens + total.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": total.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": total.completion_tokens - shown},
    }
