"""Chats to prompts for servers: rendered here if the model's template is known, else by the server."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from genprm.engines._http.templates import ChatTemplate
from genprm.engines._http.transport import Server, Transport
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
    """

    def __init__(self, transport: Transport, template: ChatTemplate | None) -> None:
        self._transport = transport
        self._template = template
        self._rendered: OrderedDict[tuple[tuple[ChatMessage, ...], bool], str] = OrderedDict()
        self._kind: str | None = None
        self._model: str | None = None
        self._reported: ChatTemplate | None = None
        self._asked = False
        self._alike: dict[_Shape, bool] = {}

    @property
    def bos(self) -> str:
        """What the given template writes out as a sequence's first token; empty if there is none."""
        return self._template.bos if self._template is not None else ""

    def meet(self, kind: str, model: str) -> None:
        """Learn what the servers are and which model they have."""
        self._kind, self._model = kind, model

    def can_render(self) -> bool:
        """Whether chats can be rendered, here or there."""
        return self._template is not None or self._kind in {"llama.cpp", "vllm"}

    def needs_chat_endpoint(self, request: Request) -> bool:
        """Whether the chat endpoint is the way to send a request, if nothing else is asked for.

        vLLM's own rendering costs two exchanges, so it is for chats that its chat endpoint cannot take.
        """
        if self._template is None and self._kind == "vllm":
            return request.add_generation_prompt
        return not self.can_render()

    async def render(self, server: Server, request: Request) -> str:
        """The prompt's text, from memory if the same chat was rendered before."""
        if request.prompt is not None:
            return request.prompt
        key = (request.messages, request.add_generation_prompt)
        found = self._rendered.get(key)
        if found is None:
            if self._template is not None:
                found = self._template.render(request.messages, request.add_generation_prompt)
            elif self._kind == "llama.cpp":
                found = await self._ask_llama(server, request)
            elif self._kind == "vllm":
                found = await self._ask_vllm(server, request)
            else:
                raise EngineRequestError(
                    "rendering a chat needs the model's chat template",
                    hint="give `tokenizer`, the directory of the model's tokenizer",
                )
            self._rendered[key] = found
            if len(self._rendered) > _PROMPTS_KEPT:
                self._rendered.popitem(last=False)
        return found + request.prefix

    async def _ask_llama(self, server: Server, request: Request) -> str:
        shape = (tuple(message.role for message in request.messages), request.add_generation_prompt)
        ours = await self._render_reported(server, request.messages, request.add_generation_prompt)
        if ours is not None and self._alike.get(shape):
            return ours
        answer = await self._transport.post(server, "/apply-template", _chat(request))
        theirs = answer.get("prompt")
        if not isinstance(theirs, str):
            raise EngineProtocolError(
                f"{server.shown}/apply-template answered without a prompt", retryable=True
            )
        self._alike[shape] = self._alike.get(shape, True) and ours == theirs
        return theirs

    async def _ask_vllm(self, server: Server, request: Request) -> str:
        body = {"model": self._model, **_chat(request), "add_special_tokens": False}
        tokens = (await self._transport.post(server, "/tokenize", body)).get("tokens")
        answer = await self._transport.post(server, "/detokenize", {"model": self._model, "tokens": tokens})
        if not isinstance(answer.get("prompt"), str):
            raise EngineProtocolError(
                f"{server.shown}/detokenize answered without a prompt", retryable=True
            )
        return str(answer["prompt"])

    async def _render_reported(
        self, server: Server, messages: Sequence[ChatMessage], add_generation_prompt: bool
    ) -> str | None:
        """The chat in the template that the server reports; None if that does not work here."""
        try:
            if not self._asked:
                facts = await self._transport.get(server, "/props")
                self._asked = True
                tokens = {name: facts[name] for name in ("bos_token", "eos_token") if facts.get(name)}
                if isinstance(facts.get("chat_template"), str):
                    self._reported = ChatTemplate.from_text(facts["chat_template"], tokens)
            return self._reported.render(messages, add_generation_prompt) if self._reported else None
        except EngineError:
            self._asked = True
            return None


def _chat(request: Request) -> dict[str, Any]:
    turns = [message.model_dump(include={"role", "content"}) for message in request.messages]
    return {"messages": turns, "add_generation_prompt": request.add_generation_prompt}
