"""Any OpenAI-compatible server as an engine: vLLM, SGLang, llama.cpp, Ollama, LM Studio, TGI, ...

What a server can do is found out, not assumed: its kind from what it says about itself, its
extensions by trying them once. llama.cpp is spoken to by its own endpoint, because only that names the
stop string that matched.

Prompts are rendered here with the model's own chat template (`tokenizer`), or by llama.cpp's
`/apply-template`; without either, the chat endpoint is used.
"""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from genprm.aio import RetryPolicy, retry
from genprm.engines._common.affinity import conversation
from genprm.engines._common.tokens import align
from genprm.engines._http.answers import Answer, read_llama, read_openai
from genprm.engines._http.bodies import EXTENSIONS, llama_body, openai_body
from genprm.engines._http.prompts import Prompts
from genprm.engines._http.templates import ChatTemplate
from genprm.engines._http.transport import Server, Transport
from genprm.engines.base import Completion, EngineBase, FinishReason, Request
from genprm.engines.stopping import find_stop
from genprm.errors import (
    ConfigError,
    EngineError,
    EngineProtocolError,
    EngineRequestError,
)
from genprm.records import Usage

Api = Literal["auto", "completions", "chat"]
_CONTINUES_CHATS = {"vllm", "sglang", "llama.cpp"}
_NAMES_STOPS = {"vllm", "sglang"}
_RECHECK_TOKENS = 16


class _ExtensionRefusedError(Exception):
    """The server rejects parameters that are no part of OpenAI's API."""

    def __init__(self, names: set[str]) -> None:
        super().__init__(", ".join(sorted(names)))
        self.names = names


class HttpEngine(EngineBase):
    """Engine on one or several equal OpenAI-compatible servers.

    Args:
        base_urls: one URL or several, with or without `/v1`; requests are balanced over them.
        model: the model's name there; the first one that the server lists unless given.
        api: `completions` (rendered prompts), `chat`, or `auto`: completions if a prompt can be
            rendered, chat otherwise.
        api_key_env: environment variable that holds the API key; the key is never stored or logged.
        tokenizer: directory of the model's tokenizer, for its chat template.
        timeout: seconds to wait for one answer.
        max_concurrency: requests in flight at most.
        retries: further attempts after a retryable failure.
        retry_seconds: upper bound of the first wait before a retry; it doubles each time.
        name: for reports; the model's name unless given.
    """

    kind = "http"
    neutral_options = frozenset(
        {"api_key_env", "timeout", "max_concurrency", "retries", "retry_seconds", "name", "server"}
    )
    # Servers of one model are equal; without its name, nothing but the address says what answers.
    neutral_when: ClassVar = {"model": frozenset({"base_urls", "urls"})}
    content_options = frozenset({"model", "tokenizer"})

    def __init__(
        self,
        base_urls: str | Sequence[str] = "http://127.0.0.1:8000",
        *,
        model: str | None = None,
        api: Api = "auto",
        api_key_env: str = "OPENAI_API_KEY",
        tokenizer: str | Path | None = None,
        timeout: float = 600.0,
        max_concurrency: int = 64,
        retries: int = 5,
        retry_seconds: float = 0.5,
        name: str | None = None,
    ) -> None:
        urls = [base_urls] if isinstance(base_urls, str) else list(base_urls)
        if not urls:
            raise ConfigError("the http engine has no base URL", hint="give base_urls")
        if api not in {"auto", "completions", "chat"}:
            raise ConfigError(f"unknown api '{api}'", hint="auto, completions or chat")
        if max_concurrency < 1:
            raise ConfigError("max_concurrency must be at least 1", hint="raise max_concurrency")
        self._transport = Transport(urls, os.environ.get(api_key_env) or None, timeout)
        self._model = model
        self._api: Api = api
        self._given_name = name
        template = ChatTemplate(tokenizer) if tokenizer is not None else None
        self._prompts = Prompts(self._transport, template)
        self._policy = RetryPolicy(attempts=retries + 1, base_seconds=retry_seconds)
        self._max_concurrency = max_concurrency
        self._kind: str | None = None
        self._dropped: set[str] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._gate = asyncio.Semaphore(max_concurrency)
        self._discovery = asyncio.Lock()

    @property
    def name(self) -> str:
        """The model's name, or the server's address until the model is known."""
        return self._given_name or self._model or self._transport.servers[0].shown

    async def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """Complete every request, in order, with at most `max_concurrency` in flight."""
        self._bind()
        return list(await asyncio.gather(*(self._complete(request) for request in requests)))

    async def check(self) -> None:
        """Raise `EngineUnavailable` if no server answers, `EngineRequestError` if the model is not there."""
        self._bind()
        problems = await asyncio.gather(*(self._probe(server) for server in self._transport.servers))
        failures = [problem for problem in problems if problem is not None]
        if len(failures) == len(self._transport.servers):
            raise failures[0]
        await self._discover()

    def describe(self) -> dict[str, Any]:
        """Facts for the run's record."""
        return {
            "kind": "http",
            "server": self._kind,
            "urls": [server.shown for server in self._transport.servers],
            "model": self._model,
            "api": "chat" if self._uses_chat(Request()) else "completions",
            "missing": sorted(self._dropped),
        }

    async def aclose(self) -> None:
        """Close connections."""
        await self._transport.aclose()

    def _bind(self) -> None:
        """Locks belong to one event loop; a new loop (a second `run_sync`) gets new ones."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._loop = loop
            self._gate = asyncio.Semaphore(self._max_concurrency)
            self._discovery = asyncio.Lock()

    # Finding out about the server

    async def _probe(self, server: Server) -> EngineError | None:
        try:
            await self._transport.get(server, "/v1/models")
        except EngineError as error:
            return error
        return None

    async def _discover(self) -> None:
        """Learn the server's kind and the model's name, once."""
        async with self._discovery:
            if self._kind is not None:
                return
            server = self._transport.choose()
            listing = await self._transport.get(server, "/v1/models")
            models = [entry for entry in listing.get("data") or [] if isinstance(entry, dict)]
            names = [str(entry["id"]) for entry in models if entry.get("id")]
            owner = str(models[0].get("owned_by", "")).lower() if models else ""
            kind = {"vllm": "vllm", "sglang": "sglang", "llamacpp": "llama.cpp"}.get(owner, "unknown")
            if self._model is None:
                if not names:
                    raise EngineProtocolError(
                        f"{server.shown} lists no model", hint="name the model with `model`"
                    )
                self._model = names[0]
            elif names and self._model not in names and kind != "llama.cpp":
                raise EngineRequestError(
                    f"{server.shown} has no model '{self._model}'", hint=f"it has: {', '.join(names[:8])}"
                )
            if kind != "sglang":
                self._dropped.add("no_stop_trim")
            self._prompts.meet(kind, self._model)
            self._kind = kind

    def _uses_chat(self, request: Request) -> bool:
        if self._api != "auto":
            return self._api == "chat"
        return self._prompts.needs_chat_endpoint(request)

    # One request

    async def _complete(self, request: Request) -> Completion:
        async with self._gate:
            started = time.perf_counter()
            try:
                completion = await retry(lambda: self._attempt(request), self._policy)
            except EngineError as error:
                completion = Completion(finish_reason="error", error=error, usage=Usage(requests=1))
            seconds = time.perf_counter() - started
            return replace(
                completion, usage=completion.usage.model_copy(update={"engine_seconds": seconds})
            )

    async def _attempt(self, request: Request) -> Completion:
        """One answer; repeated at once, without an extension, if the server turned out to lack it."""
        await self._discover()
        while True:
            try:
                return await self._ask(request)
            except _ExtensionRefusedError as refused:
                self._dropped |= refused.names

    async def _ask(self, request: Request) -> Completion:
        if request.params.max_tokens < 1:
            raise EngineRequestError("max_tokens must be at least 1", hint="raise max_tokens")
        server = self._transport.choose(conversation(request))
        if request.prompt is None and self._uses_chat(request):
            answer = await self._ask_chat(server, request)
        elif self._kind == "llama.cpp" and self._api == "auto":
            prompt = await self._prompts.render(server, request)
            answer = read_llama(
                await self._transport.post(server, "/completion", llama_body(prompt, request))
            )
        else:
            prompt = await self._prompts.render(server, request)
            answer = await self._ask_completions(server, prompt, request)
        return await self._finish(server, request, answer)

    def _body(self, request: Request, **extensions: Any) -> dict[str, Any]:
        return openai_body(request, self._model, extensions, self._dropped)

    async def _ask_completions(self, server: Server, prompt: str, request: Request) -> Answer:
        # The template has written the first token out; asking the server not to add it again is an
        # extension, and if that is missing the text must not have it.
        bos = self._prompts.bos
        bare = prompt.removeprefix(bos) if bos and "add_special_tokens" in self._dropped else prompt
        body = self._body(request, add_special_tokens=False) | {"prompt": bare}
        if request.params.logprobs:
            body["logprobs"] = request.params.logprobs
        return await self._post_openai(server, "/v1/completions", body)

    async def _ask_chat(self, server: Server, request: Request) -> Answer:
        if not request.add_generation_prompt:
            raise EngineRequestError(
                "a chat endpoint always opens an assistant turn, and this prompt profile wants none",
                hint="give `tokenizer`, so that prompts are rendered here and sent to /v1/completions",
            )
        turns = [message.model_dump(include={"role", "content"}) for message in request.messages]
        body = self._body(request)
        if request.prefix:
            if self._kind not in _CONTINUES_CHATS:
                raise EngineRequestError(
                    f"the chat endpoint of {server.shown} is not known to continue an assistant turn",
                    hint="give `tokenizer`, so that prompts are rendered here and sent to /v1/completions",
                )
            turns.append({"role": "assistant", "content": request.prefix})
            body |= {"continue_final_message": True, "add_generation_prompt": False}
        body["messages"] = turns
        if request.params.logprobs:
            body |= {"logprobs": True, "top_logprobs": request.params.logprobs}
        answer = await self._post_openai(server, "/v1/chat/completions", body)
        if request.prefix and self._kind == "llama.cpp":
            # llama.cpp repeats the turn's beginning in its answer, vLLM and SGLang do not.
            answer = replace(answer, text=answer.text.removeprefix(request.prefix))
        return answer

    async def _post_openai(self, server: Server, path: str, body: dict[str, Any]) -> Answer:
        """Post and read; a server that rejects an extension by name raises `_ExtensionRefusedError`."""
        try:
            data = await self._transport.post(server, path, body)
        except EngineRequestError as error:
            refused = {
                name for name in EXTENSIONS if name in body and re.search(rf"\b{name}\b", error.message)
            }
            if not refused:
                raise
            raise _ExtensionRefusedError(refused) from error
        return read_openai(data, names_stops=self._kind in _NAMES_STOPS)

    # What the answer means

    async def _finish(self, server: Server, request: Request, answer: Answer) -> Completion:
        """Bring an answer into the protocol's form: stop string included, reason exact."""
        stops = tuple(stop for stop in request.params.stop if stop)
        text = answer.text
        reason: FinishReason
        found = find_stop(text, stops)
        stop: str | None = None
        if found is not None:
            text, stop, reason = text[: found[0]], found[1], "stop"
        elif answer.finish == "length":
            reason = "length"
        elif answer.matched is not None and answer.matched in stops:
            text, stop, reason = text + answer.matched, answer.matched, "stop"
        elif answer.finish == "eos" or not stops or answer.names_stops:
            reason = "eos"
        else:
            stop = await self._recheck(server, request, text)
            reason = "eos" if stop is None else "stop"
            text += stop or ""
        return Completion(
            text=text,
            finish_reason=reason,
            stop=stop,
            tokens=align(answer.tokens, text, request.params.logprobs) if request.params.logprobs else (),
            usage=answer.usage,
        )

    async def _recheck(self, server: Server, request: Request, text: str) -> str | None:
        """Which stop string a server cut off without saying so; None for the end of the turn.

        The few tokens after `text` are asked for again, greedily and without stop strings; if they are
        none of these, once more from the last line break on, because a stop string may begin inside a
        token that the cut text no longer holds. If the turn cannot be continued, a single stop
        string is taken to have matched.
        """
        stops = [stop for stop in request.params.stop if stop]
        if request.prompt is None and self._uses_chat(request) and self._kind not in _CONTINUES_CHATS:
            return stops[0] if len(stops) == 1 else None
        line = text.rfind("\n") + 1
        for start in [len(text), line] if line < len(text) else [len(text)]:
            rest = await self._continued(server, request, text[:start])
            matching = [stop for stop in stops if rest.startswith(text[start:] + stop)]
            if matching:
                return max(matching, key=len)
        return None

    async def _continued(self, server: Server, request: Request, text: str) -> str:
        """What the model most likely says after `text`."""
        params = replace(
            request.params,
            stop=(),
            temperature=0.0,
            max_tokens=_RECHECK_TOKENS,
            logprobs=0,
            top_k=0,
            top_p=1.0,
        )
        again = replace(request, prefix=request.prefix + text, params=params)
        if request.prompt is not None:
            again = replace(request, prompt=request.prompt + text, params=params)
        if again.prompt is None and self._uses_chat(request):
            return (await self._ask_chat(server, again)).text
        prompt = await self._prompts.render(server, again)
        return (await self._ask_completions(server, prompt, again)).text
