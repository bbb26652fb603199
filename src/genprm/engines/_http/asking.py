"""One request to one server: by which endpoint, with what in it, and what the answer means."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, replace
from typing import Any, Literal

from genprm.engines._common.affinity import conversation
from genprm.engines._http.answers import Answer, end_unstated, read_llama, read_openai
from genprm.engines._http.bodies import EXTENSIONS, llama_body, openai_body
from genprm.engines._http.context import Context
from genprm.engines._http.discovery import Facts
from genprm.engines._http.prompts import Prompts
from genprm.engines._http.servers import Server
from genprm.engines._http.transport import Transport, may_have_written
from genprm.engines._http.words import Words
from genprm.engines.base import Completion, FinishReason, Request, SamplingParams
from genprm.engines.stopping import find_stop
from genprm.errors import ContextOverflow, EngineError, EngineRequestError
from genprm.records import Usage

Api = Literal["auto", "completions", "chat"]

CONTINUES_CHATS = frozenset({"vllm", "sglang", "llama.cpp"})
_NAMES_STOPS = frozenset({"vllm", "sglang"})
_RECHECK_TOKENS = 16
_TOKENIZER_HINT = "give `tokenizer`, so that prompts are rendered here and sent to /v1/completions"
_OLLAMA_HINT = "serve the same weights with llama.cpp's llama-server or with vLLM, which can"


def remedy(kind: str) -> str:
    """What to do about a server whose chat endpoint is not known to continue a turn."""
    return _OLLAMA_HINT if kind == "ollama" else _TOKENIZER_HINT


class _ExtensionRefusedError(Exception):
    """The server rejects parameters that are no part of OpenAI's API."""

    def __init__(self, names: set[str]) -> None:
        super().__init__(", ".join(sorted(names)))
        self.names = names


@dataclass(frozen=True, slots=True)
class Way:
    """How a request is sent.

    Attributes:
        text: the prompt; of a chat that the server renders, its turns.
        turns: the messages of such a chat; None if the text is sent.
    """

    text: str
    turns: list[dict[str, str]] | None = None


@dataclass(slots=True)
class Failed:
    """Attempts at a request that gave no completion.

    Attributes:
        written: whether a server may have written tokens for one of them.
    """

    written: bool = False

    def note(self, *, written: bool) -> None:
        """One more."""
        self.written |= written


class Asker:
    """Asks servers that are known, and remembers which extensions they refuse."""

    def __init__(self, transport: Transport, prompts: Prompts, api: Api) -> None:
        self._transport = transport
        self._prompts = prompts
        self._api: Api = api
        self._facts: Facts | None = None
        self._words = Words(transport)
        self.context = Context(transport)
        self.dropped: set[str] = set()

    @property
    def facts(self) -> Facts:
        """What is known about the servers; they have to be met first."""
        assert self._facts is not None
        return self._facts

    def meet(self, facts: Facts) -> None:
        """Learn what the servers are."""
        if facts.kind != "sglang":
            self.dropped.add("no_stop_trim")
        if facts.kind != "vllm":
            self.dropped.add("add_special_tokens")
        self._prompts.meet(facts)
        self.context.meet(facts)
        self._facts = facts

    def uses_chat(self, request: Request) -> bool:
        """Whether a request goes to the chat endpoint."""
        if request.prompt is not None or self._api == "completions":
            return False
        return self._api == "chat" or self._prompts.needs_chat_endpoint(request)

    async def ask(self, request: Request, began: float, failed: Failed) -> Completion:
        """One answer; asked for again at once, without an extension, if the server turns out to lack it.

        Args:
            began: `time.perf_counter()` when the engine took the request up.
            failed: earlier attempts at the request, and this one if it fails.

        Raises:
            EngineError: no answer, or one that cannot be used.
        """
        if request.params.max_tokens < 1:
            raise EngineRequestError("max_tokens must be at least 1", hint="raise max_tokens")
        server = self._transport.choose(conversation(request))
        try:
            answer = await self._answer(server, request)
        except EngineError as error:
            failed.note(written=may_have_written(error))
            raise
        try:
            return await self._finish(server, request, answer, began)
        except EngineError:
            failed.note(written=True)
            raise

    async def _answer(self, server: Server, request: Request) -> Answer:
        while True:
            try:
                return await self._answer_once(server, request)
            except _ExtensionRefusedError as refused:
                self.dropped |= refused.names

    async def _answer_once(self, server: Server, request: Request) -> Answer:
        """The answer of a server, within a budget that fits its context."""
        way = await self._way(server, request)
        chat = self._chat_fields(way, request) if way.turns is not None else None
        wanted = request.params.max_tokens
        budget = await self.context.budget(server, way.text, wanted, chat=chat)
        try:
            answer = await self._send(server, request, way, budget)
        except ContextOverflow:
            fitting = await self.context.budget(server, way.text, budget, chat=chat, exact=True)
            if fitting == budget:
                raise
            answer = await self._send(server, request, way, fitting)
        self.context.learn(way.text, answer.counts.prompt)
        return answer

    async def _way(self, server: Server, request: Request) -> Way:
        if not self.uses_chat(request):
            if self.facts.kind == "ollama":
                raise EngineRequestError(
                    f"{server.url} is Ollama, which puts every prompt into the model's chat template once more",
                    hint=f"send chats without a prompt or prefix, or {_OLLAMA_HINT}",
                )
            prompt = await self._prompts.render(server, request)
            exact = "add_special_tokens" not in self.dropped and not self._own_endpoint
            return Way(await self._prompts.with_one_bos(server, prompt, exact=exact))
        hint = remedy(self.facts.kind)
        if not request.add_generation_prompt:
            raise EngineRequestError(
                "a chat endpoint always opens an assistant turn, and this prompt profile wants none",
                hint=hint,
            )
        turns = [{"role": message.role, "content": message.content} for message in request.messages]
        if request.prefix:
            if self.facts.kind not in CONTINUES_CHATS:
                raise EngineRequestError(
                    f"the chat endpoint of {server.url} is not known to continue an assistant turn",
                    hint=hint,
                )
            turns.append({"role": "assistant", "content": request.prefix})
        return Way("\n".join(turn["content"] for turn in turns), turns)

    @property
    def _own_endpoint(self) -> bool:
        """Whether prompts go to llama.cpp's own endpoint, because only that names the stop string that matched."""
        return self.facts.kind == "llama.cpp" and self._api == "auto"

    @staticmethod
    def _chat_fields(way: Way, request: Request) -> dict[str, Any]:
        fields: dict[str, Any] = {"messages": way.turns}
        if request.prefix:
            fields |= {"continue_final_message": True, "add_generation_prompt": False}
        return fields

    async def _send(self, server: Server, request: Request, way: Way, budget: int) -> Answer:
        if budget != request.params.max_tokens:
            request = replace(request, params=replace(request.params, max_tokens=budget))
        if way.turns is None and self._own_endpoint:
            data = await self._transport.post(server, "/completion", llama_body(way.text, request))
            return self._counted(read_llama(data, alternatives=request.params.logprobs), budget)
        named = await self._named(server, request.params)
        chat = way.turns is not None
        body = openai_body(request, self.facts.model, self.dropped, chat=chat, tokens=named)
        body |= self._chat_fields(way, request) if chat else {"prompt": way.text}
        path = "/v1/chat/completions" if chat else "/v1/completions"
        answer = read_openai(
            server.url,
            await self._post_openai(server, path, body),
            names_stops=self.facts.kind in _NAMES_STOPS,
            most=budget,
            continued=bool(request.prefix),
            # The sampled token comes on top of those that were named.
            alternatives=max(request.params.logprobs, len(named) + 1) if request.params.logprobs else 0,
        )
        if chat and request.prefix and self.facts.kind == "llama.cpp":
            # llama.cpp repeats the turn's beginning in its answer, vLLM and SGLang do not.
            answer = replace(answer, text=answer.text.removeprefix(request.prefix))
        return self._counted(answer, budget)

    def _counted(self, answer: Answer, budget: int) -> Answer:
        """The answer with how many tokens it has, so that budgets hold where its server does not count them."""
        counts, logprobs = answer.counts, answer.logprobs
        if not counts.complete:
            self.dropped.add("usage")
        if counts.completion is not None:
            return replace(answer, told=counts.completion, length=counts.completion)
        told = budget if answer.finish == "length" else 0
        if logprobs is not None:
            told = logprobs.count or told
        return replace(answer, told=told, length=told or min(self.context.estimate(answer.text), budget))

    async def _named(self, server: Server, params: SamplingParams) -> tuple[int, ...]:
        """The tokens whose log-probabilities are asked for by name."""
        if not params.logprobs or "logprob_token_ids" in self.dropped:
            return ()
        return await self._words.ids(server, self.facts, params.words)

    async def _post_openai(self, server: Server, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Post; a server that rejects an extension by name raises `_ExtensionRefusedError`."""
        try:
            return await self._transport.post(server, path, body)
        except ContextOverflow:
            raise
        except EngineRequestError as error:
            refused = {
                name for name in EXTENSIONS if name in body and re.search(rf"\b{name}\b", error.message)
            }
            if not refused:
                raise
            raise _ExtensionRefusedError(refused) from error

    # What the answer means

    async def _finish(self, server: Server, request: Request, answer: Answer, began: float) -> Completion:
        """Bring an answer into the protocol's form: stop string included, reason exact."""
        stops = tuple(stop for stop in request.params.stop if stop)
        text = answer.text
        reason: FinishReason
        found = find_stop(text, stops)
        stop: str | None = None
        rechecks: list[Answer] = []
        if found is not None:
            text, stop, reason = text[: found[0]], found[1], "stop"
        elif answer.finish is None:
            raise end_unstated(server.url)
        elif answer.finish == "length":
            reason = "length"
        elif answer.matched is not None and answer.matched in stops:
            text, stop, reason = text + answer.matched, answer.matched, "stop"
        elif answer.finish == "eos" or not stops or (answer.names_stops and answer.finish == "stop"):
            reason = "eos"
        else:
            stop, rechecks = await self._recheck(server, request, text)
            if stop is None and answer.finish == "string" and len(stops) == 1:
                stop = stops[0]
            reason = "eos" if stop is None else "stop"
            text += stop or ""
        tokens = () if answer.logprobs is None else answer.logprobs.along(text)
        asked = [answer, *rechecks]
        usage = Usage(
            requests=len(asked),
            uncounted=sum(not one.counts.complete for one in asked),
            prompt_tokens=sum(one.counts.prompt or 0 for one in asked),
            cached_tokens=sum(one.counts.cached for one in asked),
            completion_tokens=sum(one.told for one in asked),
            engine_seconds=time.perf_counter() - began,
        )
        made = answer.length
        return Completion(text=text, finish_reason=reason, stop=stop, tokens=tokens, usage=usage, made=made)

    async def _recheck(
        self, server: Server, request: Request, text: str
    ) -> tuple[str | None, list[Answer]]:
        """Which stop string a server cut off without saying so, None for the end of the turn; and what answers said so.

        The few tokens after `text` are asked for again, greedily and without stop strings; if they are
        none of these, once more from the last line break on, because a stop string may begin inside a
        token that the cut text no longer holds. If the turn cannot be continued, a single stop
        string is taken to have matched.
        """
        stops = [stop for stop in request.params.stop if stop]
        if self.uses_chat(request) and self.facts.kind not in CONTINUES_CHATS:
            return stops[0] if len(stops) == 1 else None, []
        asked: list[Answer] = []
        line = text.rfind("\n") + 1
        for start in [len(text), line] if line < len(text) else [len(text)]:
            rest = await self._continued(server, request, text[:start])
            asked.append(rest)
            matching = [stop for stop in stops if rest.text.startswith(text[start:] + stop)]
            if matching:
                return max(matching, key=len), asked
        return None, asked

    async def _continued(self, server: Server, request: Request, text: str) -> Answer:
        """What the model most likely says after `text`."""
        params = SamplingParams(temperature=0.0, max_tokens=_RECHECK_TOKENS, seed=request.params.seed)
        again = replace(request, prefix=request.prefix + text, params=params)
        if request.prompt is not None:
            again = replace(request, prompt=request.prompt + text, params=params)
        return await self._answer(server, again)
