"""The HTTP interface: the native endpoints, the dialects, and what operators ask."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from functools import partial
from typing import Any

from fastapi import FastAPI, Request, Response
from pydantic import BaseModel
from starlette.exceptions import HTTPException

import genprm
from genprm.aio import bounded_map, cancel_all
from genprm.config import ServeConfig
from genprm.errors import DataError, GenPRMError, Overloaded
from genprm.records import StepVerdict
from genprm.serve.answers import Answer, Unknown
from genprm.serve.chat.routes import Chat
from genprm.serve.chat.search import Searcher
from genprm.serve.dialects import DIALECTS, Asked, Dialect, Reply, Result
from genprm.serve.dialects.rendered import without_halves
from genprm.serve.exchange import ClientGone, EventStream, Relay, while_connected
from genprm.serve.failures import REFUSALS, answer_of, failure_of, refusal
from genprm.serve.guard import Guard
from genprm.serve.gym import add_gym
from genprm.serve.history import History
from genprm.serve.keys import Keys
from genprm.serve.limits import Limits
from genprm.serve.metrics import Metrics
from genprm.serve.service import RewardService
from genprm.serve.wire import (
    BatchRequest,
    Options,
    Readout,
    Served,
    ServedBatch,
    Solution,
    Split,
    VerifyRequest,
    read,
    read_out,
)
from genprm.text.steps import split_steps

_KEEP_ALIVE_SECONDS = 15.0


def create_app(
    service: RewardService,
    config: ServeConfig | None = None,
    *,
    split: Split = split_steps,
    searcher: Searcher | None = None,
    history: History | None = None,
) -> FastAPI:
    """The app around a service, which it closes at its end.

    Args:
        config: limits, keys and the dialects' settings.
        split: makes steps of a text; may be called in any thread.
        searcher: answers chats; without one `/v1/chat/completions` has no models.
        history: of the service, for its metrics.

    `app.state.keys` are its `Keys`, whose `reload` a signal can call, and `app.state.service` is the service.

    Raises:
        ConfigError: a key that is no hash, or a file of keys that cannot be used.
    """
    config = config or ServeConfig()
    keys = Keys(config)
    metrics = Metrics(service, keys, history)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        watching = asyncio.create_task(keys.watch())
        try:
            async with service:
                yield
        finally:
            await cancel_all([watching])

    app = FastAPI(
        title="genprm",
        version=genprm.__version__,
        description="Verifies solutions step by step.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    app.state.keys, app.state.service = keys, service
    _add_failures(app)
    _add_operations(app, service, metrics)
    _Native(service, config, split, metrics).add(app)
    for dialect in DIALECTS:
        _Spoken(dialect, service, config, split, metrics).add(app)
    add_gym(app, _json_body)
    Chat(searcher, metrics, _json_body).add(app)
    app.add_middleware(
        Guard,
        keys=keys,
        limits=Limits(config.limits),
        max_body_bytes=config.max_body_bytes,
        body_seconds=config.body_seconds,
        metrics=metrics,
        paths=frozenset(getattr(route, "path", "") for route in app.routes),
    )
    return app


class _Native:
    """`/v1/verify` and its batch form."""

    def __init__(self, service: RewardService, config: ServeConfig, split: Split, metrics: Metrics) -> None:
        self._service, self._config, self._split, self._metrics = service, config, split, metrics

    def add(self, app: FastAPI) -> None:
        """Add the routes."""
        for path, endpoint, body, answer in (
            ("/v1/verify", self.verify, VerifyRequest, Served),
            ("/v1/verify/batch", self.batch, BatchRequest, ServedBatch),
        ):
            app.add_api_route(
                path,
                endpoint,
                methods=["POST"],
                responses={200: {"model": answer}, **REFUSALS},
                openapi_extra=_json_body(body),
                response_class=Response,
                tags=["native"],
            )

    async def verify(self, request: Request) -> Response:
        """Verify one solution; see `VerifyRequest` and `Served`."""
        asked = read(VerifyRequest, await request.body())
        readout = await self._readout(asked)
        if asked.stream:
            return await self._stream(request, readout, asked)
        served = await while_connected(request, self._one(readout, asked, asked.deadline_seconds))
        return Response(served.model_dump_json(), media_type="application/json")

    async def batch(self, request: Request) -> Response:
        """Verify several solutions; the answers have their order."""
        asked = read(BatchRequest, await request.body())
        if len(asked.items) > self._config.max_items:
            raise DataError(
                f"the batch has {len(asked.items)} items, more than {self._config.max_items}",
                hint="The server's config sets this bound: serve.max_items.",
            )
        ends = _ends(asked.deadline_seconds, self._config)
        readouts = [await self._readout(item, f"item {n}: ") for n, item in enumerate(asked.items, 1)]
        call = bounded_map(partial(self._one_of, options=asked, ends=ends), readouts, self._config.in_work)
        results: list[Served] = []
        for found in await while_connected(request, call):
            if isinstance(found, Overloaded):
                raise found  # the others have finished, so asking again costs nothing of theirs
            results.append(found)
        served = ServedBatch(results=tuple(results))
        return Response(served.model_dump_json(), media_type="application/json")

    async def _readout(self, asked: Solution, place: str = "") -> Readout:
        return await read_out(asked, self._split, self._config.max_steps, place)

    async def _one(self, readout: Readout, options: Options, deadline: float | None) -> Served:
        answer = await self._service.verify(readout.problem, readout.steps, deadline=deadline)
        return self._served(answer, readout, options)

    async def _one_of(self, readout: Readout, options: Options, ends: float) -> Served | Overloaded:
        try:
            return await self._one(readout, options, _left(ends))
        except Overloaded as error:
            return error

    def _served(self, answer: Answer, readout: Readout, options: Options) -> Served:
        if answer.unknown is not None:
            self._metrics.unknown("native", answer.unknown.kind)
        return readout.served(answer, rationales=options.rationales)

    async def _stream(self, request: Request, readout: Readout, options: Options) -> Response:
        relay = Relay(
            self._service.stream(readout.problem, readout.steps, deadline=options.deadline_seconds)
        )
        await (
            relay.begun()
        )  # a full queue refuses at once, while the answer can still have a status of its own
        events = relay.items(request, _KEEP_ALIVE_SECONDS)
        return EventStream(relay, self._lines(events, readout, options))

    async def _lines(
        self, events: AsyncGenerator[StepVerdict | Answer | None, None], readout: Readout, options: Options
    ) -> AsyncIterator[str]:
        try:
            async with aclosing(events):
                async for event in events:
                    yield ": still at work\n\n" if event is None else self._event(event, readout, options)
        except Exception as error:  # the answer has begun, so its end is the only place for a failure
            yield _sse("error", failure_of(error).model_dump_json())

    def _event(self, event: StepVerdict | Answer, readout: Readout, options: Options) -> str:
        if isinstance(event, Answer):
            return _sse("result", self._served(event, readout, options).model_dump_json())
        return _sse("step", readout.step(event, rationales=options.rationales).model_dump_json())


class _Spoken:
    """A dialect's endpoint."""

    def __init__(
        self,
        dialect: Dialect[Any],
        service: RewardService,
        config: ServeConfig,
        split: Split,
        metrics: Metrics,
    ) -> None:
        self._dialect, self._service, self._config = dialect, service, config
        self._split, self._metrics = split, metrics

    def add(self, app: FastAPI) -> None:
        """Add the route."""
        app.add_api_route(
            self._dialect.path,
            self.answer,
            methods=["POST"],
            name=self._dialect.name,
            responses=REFUSALS,
            openapi_extra=_json_body(self._dialect.body),
            response_class=Response,
            tags=["dialects"],
        )

    async def answer(self, request: Request) -> Response:
        """Read the request, verify what it asks about, and write the answer, all as the dialect has it."""
        body = read(self._dialect.body, without_halves(await request.body()))
        asked = self._dialect.read(body)
        if len(asked) > self._config.max_items:
            raise DataError(f"the request has {len(asked)} solutions, more than {self._config.max_items}")
        ends = _ends(self._dialect.deadline, self._config)
        call = bounded_map(partial(self._result, ends=ends), asked, self._config.in_work)
        results = await while_connected(request, call)
        for result in results:
            if result.unknown is not None:
                self._metrics.unknown(self._dialect.name, result.unknown.kind)
        return _written(self._dialect.write(body, results, self._config))

    async def _result(self, asked: Asked | Unknown, ends: float) -> Result:
        if isinstance(asked, Unknown):
            return Result(unknown=asked)
        if not (asked.solution.strip() or any(step.strip() for step in asked.steps or ())):
            return Result(unknown=Unknown("empty_text", "the solution is empty"))
        try:
            given = {"steps": asked.steps} if asked.steps else {"solution": asked.solution}
            solution = Solution(problem=asked.problem, **given)
            readout = await read_out(solution, self._split, self._config.max_steps)
        except DataError as error:
            return Result(unknown=Unknown("unreadable", error.message))
        try:
            answer = await self._service.verify(readout.problem, readout.steps, deadline=_left(ends))
        except Overloaded as error:
            unknown = Unknown("overloaded", error.message, transient=True)
            return Result(unknown=unknown, retry_after=error.retry_after)
        spans = tuple(span for span in readout.spans if span is not None)
        return Result(answer, answer.unknown, spans)


def _add_operations(app: FastAPI, service: RewardService, metrics: Metrics) -> None:
    async def healthz() -> dict[str, str]:
        """The process answers."""
        return {"status": "ok"}

    async def readyz() -> Response:
        """Whether a new verification would be taken on now."""
        if service.accepting:
            return Response('{"status":"ready"}', media_type="application/json")
        return refusal(503, "overloaded", "the queue is full, or the server is shutting down")

    async def shown() -> Response:
        """Counts and times for Prometheus."""
        return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    for path, endpoint in (("/healthz", healthz), ("/readyz", readyz), ("/metrics", shown)):
        app.add_api_route(path, endpoint, methods=["GET"], response_model=None, tags=["operations"])


def _add_failures(app: FastAPI) -> None:
    async def known(_: Request, error: Exception) -> Response:
        return answer_of(error)

    async def http(_: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return refusal(error.status_code, "http", str(error.detail), headers=error.headers)

    async def gone(_: Request, error: Exception) -> Response:
        return Response(status_code=499)

    app.add_exception_handler(GenPRMError, known)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(ClientGone, gone)


def _ends(asked: float | None, config: ServeConfig) -> float:
    """The loop time at which a whole request is answered with what is known, however many solutions it has."""
    return asyncio.get_running_loop().time() + min(asked or math.inf, config.deadline_seconds)


def _left(ends: float) -> float:
    return ends - asyncio.get_running_loop().time()


def _written(reply: Reply) -> Response:
    headers = {} if reply.retry_after is None else {"Retry-After": str(math.ceil(reply.retry_after))}
    body = json.dumps(reply.content, allow_nan=False, ensure_ascii=False).encode()
    return Response(body, reply.status, headers, "application/json")


def _sse(event: str, data: str) -> str:
    return f"event: {event}\ndata: {data}\n\n"


def _json_body(model: type[BaseModel]) -> dict[str, Any]:
    """A request's body in the OpenAPI document; it is read by hand, so that errors do not repeat its content."""
    schema = model.model_json_schema()
    parts = schema.pop("$defs", {})

    def inlined(value: Any) -> Any:
        if isinstance(value, dict):
            name = str(value.get("$ref", "")).removeprefix("#/$defs/")
            return inlined(parts[name]) if name else {key: inlined(one) for key, one in value.items()}
        return [inlined(one) for one in value] if isinstance(value, list) else value

    return {"requestBody": {"required": True, "content": {"application/json": {"schema": inlined(schema)}}}}
