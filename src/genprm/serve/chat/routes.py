"""`/v1/chat/completions` and `/v1/models`, for OpenAI's clients."""

from __future__ import annotations

import json
import math
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterator
from contextlib import aclosing, contextmanager
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from genprm.errors import DataError, Overloaded
from genprm.serve.answers import Unknown
from genprm.serve.chat.search import Found, Question, Searcher
from genprm.serve.chat.wire import ChatRequest, Writer
from genprm.serve.exchange import EventStream, Relay, while_connected
from genprm.serve.failures import REFUSALS, failure_of, refusal
from genprm.serve.metrics import Metrics
from genprm.serve.wire import Refusal, read

_KEEP_ALIVE_SECONDS = 15.0
_RETRY_SECONDS = 1.0
_NO_MODEL = {"model": Refusal, "description": "no such model"}


class Chat:
    """The routes.

    Args:
        searcher: searches; without one there are no models.
        metrics: counts searches.
        body_of: makes the OpenAPI description of a request's body from its model.
    """

    def __init__(
        self,
        searcher: Searcher | None,
        metrics: Metrics,
        body_of: Callable[[type[BaseModel]], dict[str, Any]],
    ) -> None:
        self._searcher, self._metrics, self._body_of = searcher, metrics, body_of
        self._since = int(time.time())
        self._inside = 0

    def add(self, app: FastAPI) -> None:
        """Add the routes."""
        app.add_api_route(
            "/v1/chat/completions",
            self.complete,
            methods=["POST"],
            responses={**REFUSALS, 404: _NO_MODEL},
            openapi_extra=self._body_of(ChatRequest),
            response_class=Response,
            tags=["chat"],
        )
        for path, endpoint in (("/v1/models", self.models), ("/v1/models/{name:path}", self.model)):
            app.add_api_route(
                path,
                endpoint,
                methods=["GET"],
                response_model=None,
                responses={404: _NO_MODEL} if "{" in path else None,
                tags=["chat"],
            )

    async def models(self) -> dict[str, Any]:
        """The names that a chat's `model` can have."""
        return {"object": "list", "data": [self._shown(name) for name in self._names]}

    async def model(self, name: str) -> Response:
        """One of them."""
        return JSONResponse(self._shown(name)) if name in self._names else self._no_model()

    async def complete(self, request: Request) -> Response:
        """Search for an answer; see `ChatRequest`. What has no answer is an error in OpenAI's form."""
        try:
            asked = read(ChatRequest, await request.body())
            if self._searcher is None or asked.model not in self._names:
                return self._no_model()
            config = self._searcher.config
            question = asked.question(config.solutions, config.seed)
        except DataError as error:
            return refusal(400, "data", " ".join(filter(None, (f"{error.message}.", error.hint))))
        writer = Writer(asked.model, self._searcher.described(asked.model), self._searcher.verifier)
        events = self._counted(self._searcher, asked.model, question)
        if not asked.stream:
            found = await while_connected(request, _last(events))
            return _failed(found.unknown) if found.unknown else JSONResponse(writer.whole(found))
        relay = Relay(events)
        await (
            relay.begun()
        )  # too many searches are refused while the answer can still have a status of its own
        usage = asked.stream_options is not None and asked.stream_options.include_usage
        lines = _lines(relay.items(request, _KEEP_ALIVE_SECONDS), writer, usage=usage)
        return EventStream(relay, lines)

    @property
    def _names(self) -> list[str]:
        return [] if self._searcher is None else list(self._searcher.strategies)

    def _shown(self, name: str) -> dict[str, Any]:
        return {"id": name, "object": "model", "created": self._since, "owned_by": "genprm"}

    def _no_model(self) -> Response:
        hint = (
            f"Models: {', '.join(self._names)}." if self._names else "serve.strategies configures models."
        )
        message = f"there is no such model. {hint}"  # OpenAI's clients show the message alone
        return refusal(404, "model_not_found", message, param="model")

    async def _counted(
        self, searcher: Searcher, name: str, question: Question
    ) -> AsyncGenerator[str | Found, None]:
        """A search within the bound on their number, counted by how it ends."""
        policy = searcher.metered()
        with self._place(searcher.config.serve.searches), self._metrics.search(name, policy) as ended:
            async with aclosing(searcher.search(name, question, policy)) as events:
                async for event in events:
                    if isinstance(event, Found):
                        ended(event.unknown.kind if event.unknown else "answered")
                    yield event

    @contextmanager
    def _place(self, most: int) -> Iterator[None]:
        if self._inside >= most:
            raise Overloaded(f"{most} chats are being answered already", retry_after=_RETRY_SECONDS)
        self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1


def _last(events: AsyncGenerator[str | Found, None]) -> Coroutine[Any, Any, Found]:
    """A search's end."""

    async def last() -> Found:
        async with aclosing(events):
            async for event in events:
                if isinstance(event, Found):
                    return event
        raise AssertionError("a search ends with what it found")

    return last()


def _failed(unknown: Unknown) -> Response:
    """Why there is no answer."""
    status = 503 if unknown.transient else 422
    headers = {"Retry-After": str(math.ceil(_RETRY_SECONDS))} if unknown.transient else None
    return refusal(status, unknown.kind, f"there is no answer: {unknown.detail}", headers=headers)


async def _lines(
    events: AsyncGenerator[str | Found | None, None], writer: Writer, *, usage: bool
) -> AsyncIterator[str]:
    """Server-sent events: progress as it happens, then the answer, or an error in its place."""
    try:
        yield _data(writer.begin())
        async with aclosing(events):
            async for event in events:
                if event is None:
                    yield ": still at work\n\n"
                elif isinstance(event, str):
                    yield _data(writer.progress(event))
                elif event.unknown is not None:
                    yield f"data: {bytes(_failed(event.unknown).body).decode()}\n\n"
                    return
                else:
                    for part in writer.end(event, usage=usage):
                        yield _data(part)
                    yield "data: [DONE]\n\n"
    except Exception as error:  # the answer has begun, so its end is the only place for a failure
        yield f"data: {failure_of(error).model_dump_json()}\n\n"


def _data(content: dict[str, Any]) -> str:
    return f"data: {json.dumps(content, ensure_ascii=False, allow_nan=False)}\n\n"
