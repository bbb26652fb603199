"""Request bodies for llama.cpp's own endpoint and for OpenAI's."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from genprm.engines._common.seeds import request_seed
from genprm.engines.base import Request

EXTENSIONS = (
    "top_k",
    "include_stop_str_in_output",
    "no_stop_trim",
    "add_special_tokens",
    "logprob_token_ids",
)


def llama_body(prompt: str, request: Request) -> dict[str, Any]:
    """llama.cpp's own parameters, its extra samplers and penalties switched off."""
    params = request.params
    body: dict[str, Any] = {
        "prompt": prompt,
        "n_predict": params.max_tokens,
        "temperature": params.temperature,
        "top_p": params.top_p,
        "top_k": params.top_k,
        # Temperature first, as in vLLM and transformers; the server's default puts it last.
        "samplers": ["temperature", "top_k", "top_p"],
        "stop": [stop for stop in params.stop if stop],
        "cache_prompt": True,
    }
    if params.seed is not None:
        body["seed"] = request_seed(request)
    if params.logprobs:
        body["n_probs"] = params.logprobs
    return body


def openai_body(
    request: Request, model: str, dropped: Collection[str], *, chat: bool, tokens: Sequence[int] = ()
) -> dict[str, Any]:
    """Parameters of OpenAI's API, and those extensions that are not in `dropped`; prompt or messages come on top.

    Args:
        chat: for the chat endpoint, whose log-probabilities are asked for in another way.
        tokens: those whose log-probabilities are asked for in place of the most likely ones.
    """
    params = request.params
    body: dict[str, Any] = {
        "model": model,
        "max_tokens": params.max_tokens,
        "temperature": params.temperature,
        "top_p": params.top_p,
    }
    extensions: dict[str, Any] = {} if chat else {"add_special_tokens": False}
    stops = [stop for stop in params.stop if stop]
    if stops:
        body["stop"] = stops
        extensions |= {"include_stop_str_in_output": True, "no_stop_trim": True}
    if params.top_k:
        extensions["top_k"] = params.top_k
    if tokens:
        extensions["logprob_token_ids"] = list(tokens)
    if params.seed is not None:
        body["seed"] = request_seed(request)
    if params.logprobs and chat:
        body |= {"logprobs": True, "top_logprobs": params.logprobs}
    elif params.logprobs:
        body["logprobs"] = params.logprobs
    body.update({name: value for name, value in extensions.items() if name not in dropped})
    return body
