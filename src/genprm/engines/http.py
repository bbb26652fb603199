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
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from genprm.aio import Once, RetryPolicy, Slots, retry
from genprm.engines._http.asking import Api, Asker, Failed
from genprm.engines._http.discovery import Facts, discover
from genprm.engines._http.prompts import Prompts
from genprm.engines._http.servers import Server
from genprm.engines._http.templates import ChatTemplate
from genprm.engines._http.transport import Transport
from genprm.engines.base import Completion, EngineBase, Request
from genprm.errors import ConfigError, EngineError, EngineTimeout, EngineUnavailable
from genprm.records import Usage


class HttpEngine(EngineBase):
    """Engine on one or several equal OpenAI-compatible servers.

    Args:
        base_urls: one URL or several, with or without `/v1`, `http` if no scheme is given; requests are balanced
            over them.
        model: the model's name there; the first one that the server lists unless given.
        api: `completions` (rendered prompts), `chat`, or `auto`: completions if a prompt can be
            rendered, chat otherwise.
        api_key_env: environment variable that holds the API key; the key is never stored or logged.
        tokenizer: directory of the model's tokenizer, for its chat template.
        timeout: seconds to wait for one answer.
        max_concurrency: requests in flight at most, over all threads and event loops that use the engine.
        retries: further attempts after a retryable failure.
        retry_seconds: upper bound of the first wait before a retry; it doubles each time.
        name: for reports; the model's name unless given.
    """

    kind = "http"
    neutral_options = frozenset(
        {
            *("api_key_env", "timeout", "max_concurrency", "retries", "retry_seconds", "name"),
            *("server", "context", "cut_budgets"),
        }
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
        key = os.environ.get(api_key_env, "").strip()
        if not key.isprintable():
            raise ConfigError(
                f"the API key in {api_key_env} holds a line break or another control character",
                hint="set it to the key alone",
            )
        self._transport = Transport(urls, key or None, timeout)
        template = ChatTemplate(tokenizer) if tokenizer is not None else None
        self._prompts = Prompts(self._transport, template)
        self._asker = Asker(self._transport, self._prompts, api)
        self._model = model
        self._given_name = name
        self._policy = RetryPolicy(attempts=retries + 1, base_seconds=retry_seconds)
        self._slots = Slots(max_concurrency)
        self._facts: Once[Facts] = Once()

    @property
    def name(self) -> str:
        """The model's name, or the server's address until the model is known."""
        facts = self._facts.value
        known = facts.model if facts is not None else self._model
        return self._given_name or known or self._transport.servers[0].url

    async def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """Complete every request, in order, with at most `max_concurrency` in flight over all calls.

        Callable from any number of threads and event loops at the same time.
        """
        if len(requests) == 1:
            return [await self._complete(requests[0])]
        return list(await asyncio.gather(*(self._complete(request) for request in requests)))

    async def check(self) -> None:
        """Raise `EngineUnavailable` if no server answers, `EngineRequestError` if the model is not there."""
        problems = await asyncio.gather(*(self._probe(server) for server in self._transport.servers))
        failures = [problem for problem in problems if problem is not None]
        if len(failures) == len(self._transport.servers):
            raise failures[0]
        await self._facts.get(self._discover)

    def describe(self) -> dict[str, Any]:
        """Facts for the run's record; those of the server are known after `check` or the first answer."""
        facts = self._facts.value
        return {
            "kind": "http",
            "server": facts.kind if facts is not None else None,
            "urls": [server.url for server in self._transport.servers],
            "model": facts.model if facts is not None else self._model,
            "api": "chat" if self._asker.uses_chat(Request()) else "completions",
            "context": facts.context if facts is not None else None,
            "cut_budgets": self._asker.context.cut,
            "missing": sorted(self._asker.dropped),
        }

    async def survey(self) -> dict[str, Any]:
        """What the server can do, tried with a few small requests (see `genprm doctor`).

        Returns:
            plain values: `server`, `models`, `model`, `context`, `log_probabilities` by endpoint, `extensions`,
            `continues_turns`, `turns_remedy`, `counts_tokens`, and `problems` with what an endpoint said in place of an
            answer.

        Raises:
            EngineError: no server answers, or the model is not there.
        """
        from genprm.engines._http.survey import survey

        await self.check()
        facts = await self._facts.get(self._discover)
        return await survey(self._transport, self._transport.choose(), facts)

    async def aclose(self) -> None:
        """Close connections."""
        await self._transport.aclose()

    async def _probe(self, server: Server) -> EngineError | None:
        """Why a server does not answer; one that answers with a refusal is there."""
        try:
            await self._transport.get(server, "/v1/models")
        except (EngineUnavailable, EngineTimeout) as error:
            return error
        except EngineError:
            return None
        return None

    async def _discover(self) -> Facts:
        """Learn what the servers are."""
        facts = await discover(self._transport, self._transport.choose(), self._model)
        self._asker.meet(facts)
        return facts

    async def _complete(self, request: Request) -> Completion:
        async with self._slots:
            began = time.perf_counter()
            failed = Failed()

            async def attempt() -> Completion:
                await self._facts.get(self._discover)
                return await self._asker.ask(request, began, failed)

            try:
                done = await retry(attempt, self._policy)
            except EngineError as error:
                usage = Usage(requests=1, engine_seconds=time.perf_counter() - began)
                done = Completion(finish_reason="error", error=error, usage=usage)
            if failed.written and not done.usage.uncounted:
                done = replace(done, usage=done.usage.model_copy(update={"uncounted": 1}))
            return done
