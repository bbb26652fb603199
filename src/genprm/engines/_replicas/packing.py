"""Requests and completions as plain tuples, on their way between processes.

Pickling dataclasses with slots and pydantic models one by one costs more than decoding their tokens does
with a tiny model.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from genprm.engines.base import Completion, Request, SamplingParams
from genprm.engines.tokens import TokenLogprob
from genprm.records import ChatMessage, Usage

Packed = tuple[Any, ...]

_PARAMS = tuple(field.name for field in dataclasses.fields(SamplingParams))
_USAGE = tuple(Usage.model_fields)


def pack_request(request: Request) -> Packed:
    """A request as a tuple."""
    return (
        [(message.role, message.content) for message in request.messages],
        request.prefix,
        request.add_generation_prompt,
        request.prompt,
        tuple(getattr(request.params, name) for name in _PARAMS),
        request.sample,
    )


def unpack_request(packed: Packed) -> Request:
    """The request that was packed."""
    turns, prefix, add_generation_prompt, prompt, params, sample = packed
    return Request(
        messages=tuple(ChatMessage.model_construct(role=role, content=content) for role, content in turns),
        prefix=prefix,
        add_generation_prompt=add_generation_prompt,
        prompt=prompt,
        params=SamplingParams(*params),
        sample=sample,
    )


def pack_completion(completion: Completion) -> Packed:
    """A completion as a tuple; an error goes without its traceback, which cannot travel."""
    error = completion.error
    return (
        completion.text,
        completion.finish_reason,
        completion.stop,
        [(token.text, token.logprob, token.offset, token.top) for token in completion.tokens],
        tuple(getattr(completion.usage, name) for name in _USAGE),
        error.with_traceback(None) if error is not None else None,
        completion.made,
    )


def unpack_completion(packed: Packed) -> Completion:
    """The completion that was packed."""
    text, finish_reason, stop, tokens, usage, error, made = packed
    return Completion(
        text=text,
        finish_reason=finish_reason,
        stop=stop,
        tokens=tuple(TokenLogprob(*token) for token in tokens),
        usage=Usage.model_construct(**dict(zip(_USAGE, usage, strict=True))),
        error=error,
        made=made,
    )
