"""Chats to prompts for servers: rendered here if the model's template is known, else by the server."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from genprm.aio import Once
from genprm.engines._http.discovery import Facts
from genprm.engines._http.servers import Server
from genprm.engines._http.templates import ChatTemplate
from genprm.engines._http.transport import Transport
from genprm.engines.base import Request
from genprm.errors import EngineError, EngineProtocolError, EngineRequestError
from genprm.records import ChatMessage

_PROMPTS_KEPT = 4096
_Shape = tuple[tuple[str, ...], bool]


class Prompts:
    """Renders requests.

    vLLM tokenises a chat and returns the text of the tokens. llama.cpp renders a chat when asked, at the
    price of one more exchange for every turn. It also reports its template; if that, rendered here,
    gives what the server gives for a chat of the same shape (roles and generation prompt), later chats
    of this shape are rendered here.

    The first token of a sequence (BOS) is written out by templates, and servers put one in front of what they are
    sent: exactly one may reach the model.
    """

    def __init__(self, transport: Transport, template: ChatTemplate | None) -> None:
        self._transport = transport
        self._template = template
        self._rendered: OrderedDict[tuple[tuple[ChatMessage, ...], bool], str] = OrderedDict()
        self._facts: Facts | None = None
        self._reported: ChatTemplate | None = None
        self._alike: dict[_Shape, bool] = {}
        self._adds_bos: Once[bool] = Once()

    def meet(self, facts: Facts) -> None:
        """Learn what the servers are and which model they have."""
        if facts.kind == "llama.cpp" and isinstance(facts.props.get("chat_template"), str):
            tokens = {
                name: facts.props[name]
                for name in ("bos_token", "eos_token")
                if isinstance(facts.props.get(name), str)
            }
            try:
                self._reported = ChatTemplate.from_text(facts.props["chat_template"], tokens)
            except EngineError:
                self._reported = None  # the server renders it
        self._facts = facts

    @property
    def bos(self) -> str:
        """What the template writes out as a sequence's first token; empty if there is none."""
        template = self._template or self._reported
        return template.bos if template is not None else ""

    def needs_chat_endpoint(self, request: Request) -> bool:
        """Whether the chat endpoint is the way to send a request, if nothing else is asked for.

        vLLM's own rendering costs two exchanges, so it is for chats that its chat endpoint cannot take. Ollama puts
        everything that it is sent into its template once more.
        """
        kind = self._facts.kind if self._facts is not None else None
        if kind == "ollama":
            return True
        if self._template is None and kind == "vllm":
            return request.add_generation_prompt
        return self._template is None and kind != "llama.cpp"

    async def render(self, server: Server, request: Request) -> str:
        """The prompt's text, from memory if the same chat was rendered before."""
        if request.prompt is not None:
            return request.prompt
        key = (request.messages, request.add_generation_prompt)
        found = self._rendered.get(key)
        if found is None:
            found = await self._render(server, request)
            self._rendered[key] = found
            if len(self._rendered) > _PROMPTS_KEPT:
                self._rendered.popitem(last=False)
        return found + request.prefix

    async def _render(self, server: Server, request: Request) -> str:
        kind = self._facts.kind if self._facts is not None else None
        if self._template is not None:
            return self._template.render(request.messages, request.add_generation_prompt)
        if kind == "llama.cpp":
            return await self._ask_llama(server, request)
        if kind == "vllm":
            return await self._ask_vllm(server, request)
        raise EngineRequestError(
            "rendering a chat needs the model's chat template",
            hint="give `tokenizer`, the directory of the model's tokenizer",
        )

    async def with_one_bos(self, server: Server, prompt: str, *, exact: bool) -> str:
        """A prompt as it has to be sent, so that exactly one BOS reaches the model.

        Args:
            exact: whether the server was told to add none, and does as it is told.
        """
        bos = self.bos
        if exact or not bos or not prompt.startswith(bos):
            return prompt
        adds = await self._adds_bos.get(lambda: self._ask_for_bos(server, bos))
        return prompt.removeprefix(bos) if adds else prompt

    async def _ask_for_bos(self, server: Server, bos: str) -> bool:
        """Whether the server puts a BOS in front of a prompt that is one: it then has two tokens.

        Most do, so one that does not say is taken to.
        """
        facts = self._facts
        assert facts is not None
        try:
            if facts.kind == "llama.cpp":
                body = {"content": bos, "add_special": True, "parse_special": True}
                tokens = (await self._transport.post(server, "/tokenize", body)).get("tokens")
                return not isinstance(tokens, list) or len(tokens) != 1
            body = {"model": facts.model, "prompt": bos, "max_tokens": 1, "temperature": 0.0}
            usage = (await self._transport.post(server, "/v1/completions", body)).get("usage")
            return not isinstance(usage, dict) or usage.get("prompt_tokens") != 1
        except (EngineRequestError, EngineProtocolError):
            return True

    async def _ask_llama(self, server: Server, request: Request) -> str:
        shape = (tuple(message.role for message in request.messages), request.add_generation_prompt)
        ours = self._render_reported(request.messages, request.add_generation_prompt)
        if ours is not None and self._alike.get(shape):
            return ours
        answer = await self._transport.post(server, "/apply-template", _chat(request))
        theirs = answer.get("prompt")
        if not isinstance(theirs, str):
            raise EngineProtocolError(
                f"{server.url}/apply-template answered without a prompt", retryable=True
            )
        # The server leaves out a BOS that it adds later.
        alike = ours is not None and ours.removeprefix(self.bos) == theirs.removeprefix(self.bos)
        self._alike[shape] = self._alike.get(shape, True) and alike
        return theirs

    async def _ask_vllm(self, server: Server, request: Request) -> str:
        facts = self._facts
        assert facts is not None
        body = {"model": facts.model, **_chat(request), "add_special_tokens": False}
        tokens = (await self._transport.post(server, "/tokenize", body)).get("tokens")
        answer = await self._transport.post(server, "/detokenize", {"model": facts.model, "tokens": tokens})
        if not isinstance(answer.get("prompt"), str):
            raise EngineProtocolError(f"{server.url}/detokenize answered without a prompt", retryable=True)
        return str(answer["prompt"])

    def _render_reported(self, messages: Sequence[ChatMessage], add_generation_prompt: bool) -> str | None:
        """The chat in the template that the server reports; None if that does not work here."""
        try:
            return self._reported.render(messages, add_generation_prompt) if self._reported else None
        except EngineError:
            return None


def _chat(request: Request) -> dict[str, Any]:
    turns = [{"role": message.role, "content": message.content} for message in request.messages]
    return {"messages": turns, "add_generation_prompt": request.add_generation_prompt}
