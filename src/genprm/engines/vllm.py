"""vLLM in this process, without a server between: for GPUs, and for CPUs with vLLM's CPU build.

vLLM batches, caches prefixes and schedules; this module brings requests and answers into the protocol's
form. Its engine lives on an event loop of its own in a thread of its own, so that one engine serves
calls from any number of event loops, and tokenising one caller's prompts does not hold up the others.
"""

from __future__ import annotations

import asyncio
import importlib.util
import itertools
import threading
import time
from collections.abc import Coroutine, Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from genprm.aio import cancel_all
from genprm.engines._common.chats import ChatTokenizer
from genprm.engines._common.seeds import request_seed
from genprm.engines._common.spellings import spellings
from genprm.engines._common.tokens import RawToken, align, best_first
from genprm.engines.base import Completion, EngineBase, FinishReason, Request
from genprm.engines.models import resolve_model
from genprm.errors import EngineError, EngineRequestError, EngineUnavailable, MissingExtraError
from genprm.records import Usage

ResultT = TypeVar("ResultT")


class VllmEngine(EngineBase):
    """Engine on a model that vLLM runs in this process.

    Args:
        model: a directory or a hub id, as vLLM takes it, or a packaged model such as `builtin:policy`.
        max_context: tokens of prompt and completion together; the model's own limit unless given.
        dtype: `auto` or a torch dtype's name.
        seed: of vLLM itself; requests carry their own.
        max_logprobs: the most alternatives that a request may ask for.
        name: for reports; the model's name unless given.
        options: anything else that `vllm.AsyncEngineArgs` takes, for example `tensor_parallel_size` or
            `gpu_memory_utilization`.

    The model is loaded by `check` or the first `generate`. Results are repeatable as far as vLLM's are:
    what shares a batch may turn a rare draw.

    Raises:
        MissingExtraError: vllm is not installed.
    """

    kind = "vllm"
    neutral_options = frozenset({"max_logprobs", "name"})
    content_options = frozenset({"model", "tokenizer"})

    def __init__(
        self,
        model: str | Path,
        *,
        max_context: int | None = None,
        dtype: str = "auto",
        seed: int = 0,
        max_logprobs: int = 20,
        name: str | None = None,
        **options: Any,
    ) -> None:
        if importlib.util.find_spec("vllm") is None:
            raise MissingExtraError("vllm", "vllm", "the vllm engine")
        source = resolve_model(str(model))
        self._arguments: dict[str, Any] = {
            "model": source,
            "dtype": dtype,
            "seed": seed,
            "max_logprobs": max_logprobs,
            **options,
        }
        if max_context is not None:
            self._arguments["max_model_len"] = max_context
        self._name = name or Path(source).name
        self._home: _Home | None = None
        self._starting = threading.Lock()
        self._closed = False
        self._facts: dict[str, Any] = {}

    @property
    def name(self) -> str:
        """The model's short name."""
        return self._name

    async def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """Complete every request, in order; vLLM batches across concurrent calls."""
        if not requests:
            return []
        try:
            home = await self._started()
        except EngineError as error:
            return [Completion(finish_reason="error", error=error) for _ in requests]
        return await home.run(home.complete_all(list(requests)))

    async def check(self) -> None:
        """Load the model; raise an `EngineError` that says why it cannot be loaded."""
        home = await self._started()
        await home.run(home.check())

    async def reset_prefix_cache(self) -> None:
        """Forget all cached prefixes; for measurements that start cold."""
        home = await self._started()
        await home.run(home.reset_prefix_cache())

    def describe(self) -> dict[str, Any]:
        """Facts for the run's record; the context's length is known once the model is loaded."""
        chosen = {key: value for key, value in self._arguments.items() if key != "model"}
        return {
            "kind": "vllm",
            "model": self._arguments["model"],
            **chosen,
            **self._facts,
            "missing": [],
        }

    async def aclose(self) -> None:
        """Stop vLLM; requests in flight end with an error."""
        self._closed = True
        home, self._home = self._home, None
        if home is not None:
            await asyncio.to_thread(home.close)

    async def _started(self) -> _Home:
        if self._home is None:
            await asyncio.to_thread(self._start)
        home = self._home
        if home is None:
            raise EngineUnavailable("the vllm engine is closed", retryable=False)
        return home

    def _start(self) -> None:
        with self._starting:
            if self._home is None and not self._closed:
                home = _Home(self._arguments, self._name)
                self._facts = home.facts
                self._home = home


class _Home:
    """vLLM's engine and the thread and event loop on which it lives."""

    def __init__(self, arguments: dict[str, Any], name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="genprm-vllm-engine", daemon=True
        )
        self._numbers = itertools.count()
        self._open: set[asyncio.Task[Any]] = set()
        self._closing = False
        self._thread.start()
        try:
            self._submit(self._load(arguments, name)).result()
        except BaseException:
            self._stop_loop()
            raise

    async def _load(self, arguments: dict[str, Any], name: str) -> None:
        import vllm
        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.platforms import current_platform
        from vllm.v1.engine.async_llm import AsyncLLM

        if current_platform.is_cpu():
            # A seeded request whose prompt is computed in parts ends vLLM 0.32's CPU worker: it turns the
            # generator back, which torch's CPU generator cannot do.
            arguments = {"enable_chunked_prefill": False, **arguments}
        try:
            options = AsyncEngineArgs(**arguments)
        except TypeError as error:
            raise EngineError(f"vLLM does not take these options: {error}") from error
        try:
            self._engine = AsyncLLM.from_engine_args(options)
        except Exception as error:
            # vLLM raises whatever its parts raise: pydantic, the hub, torch, its own process.
            first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise EngineError(
                f"vLLM cannot load {arguments['model']}: {first_line}",
                hint="see vLLM's own log above; dtype, max_context and memory options can be given here",
            ) from error
        self._chats = ChatTokenizer(self._engine.get_tokenizer(), name)
        self._limit: int = self._engine.model_config.max_model_len
        self.facts = {"max_context": self._limit, "version": vllm.__version__}

    async def run(self, work: Coroutine[Any, Any, ResultT]) -> ResultT:
        """Await work that runs on the engine's own loop; cancelling the wait cancels the work."""
        return await asyncio.wrap_future(self._submit(work))

    async def check(self) -> None:
        """Raise if vLLM's engine is dead."""
        try:
            await self._engine.check_health()
        except Exception as error:
            raise _typed(error) from error

    async def reset_prefix_cache(self) -> None:
        """Forget all cached prefixes."""
        await self._engine.reset_prefix_cache()

    async def complete_all(self, requests: list[Request]) -> list[Completion]:
        """Complete requests together."""
        return list(await asyncio.gather(*(self._complete(request) for request in requests)))

    async def _complete(self, request: Request) -> Completion:
        started = time.perf_counter()
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            completion = await self._ask(request)
        except EngineError as error:
            begun = isinstance(error, EngineUnavailable)
            usage = Usage(requests=1, uncounted=int(begun))
            completion = Completion(finish_reason="error", error=error, usage=usage)
        except asyncio.CancelledError:
            if not self._closing:
                raise
            closed = EngineUnavailable("the vllm engine was closed", retryable=False)
            completion = Completion(
                finish_reason="error", error=closed, usage=Usage(requests=1, uncounted=1)
            )
        finally:
            self._open.discard(task)
        seconds = time.perf_counter() - started
        return replace(completion, usage=completion.usage.model_copy(update={"engine_seconds": seconds}))

    async def _ask(self, request: Request) -> Completion:
        from vllm.inputs import TokensPrompt

        ids = self._chats.prompt(request, self._limit)
        try:
            (prompt,) = await self._engine.renderer.render_cmpl_async([TokensPrompt(prompt_token_ids=ids)])
            sampling = _sampling(request, self._named(request))
            stream = self._engine.generate(prompt, sampling, str(next(self._numbers)))
            answers = [answer async for answer in stream]
        except Exception as error:
            raise _typed(error) from error
        if not answers:
            raise EngineUnavailable("vLLM ended a request without an answer")
        return _read(request, answers[-1], len(sampling.logprob_token_ids or ()))

    def _named(self, request: Request) -> list[int]:
        """The tokens whose log-probabilities are asked for by name; none if a word is no single token."""
        found: set[int] = set()
        for word in request.params.words if request.params.logprobs else ():
            tokens = [self._chats.ids(spelling) for spelling in spellings(word)]
            if len(tokens[0]) != 1:
                return []
            found |= {ids[0] for ids in tokens if len(ids) == 1}
        return sorted(found)

    def close(self) -> None:
        """Stop vLLM, its process, and the loop."""
        self._submit(self._shut_down()).result()
        self._stop_loop()

    async def _shut_down(self) -> None:
        self._closing = True
        await cancel_all(self._open)
        self._engine.shutdown()
        del self._engine  # or its finaliser stops it again when the interpreter is half gone

    def _submit(self, work: Coroutine[Any, Any, ResultT]) -> Future[ResultT]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def _stop_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def _sampling(request: Request, named: list[int]) -> Any:
    """vLLM's sampling parameters; log-probabilities of named tokens take the place of the most likely ones."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    params = request.params
    stops = [stop for stop in params.stop if stop]
    try:
        return SamplingParams(
            temperature=params.temperature,
            top_p=params.top_p,
            top_k=params.top_k,
            max_tokens=params.max_tokens,
            stop=stops or None,
            include_stop_str_in_output=True,
            seed=request_seed(request) if params.seed is not None else None,
            logprobs=None if named else params.logprobs or None,
            logprob_token_ids=named or None,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
    except ValueError as error:
        raise EngineRequestError(f"vLLM rejects the sampling parameters: {error}") from error


def _read(request: Request, answer: Any, named: int) -> Completion:
    """A finished `RequestOutput` as a completion; `named` tokens may be among the alternatives."""
    output = answer.outputs[0]
    stop = output.stop_reason if isinstance(output.stop_reason, str) else None
    reason: FinishReason
    match output.finish_reason:
        case "length":
            reason = "length"
        case "stop":
            reason = "stop" if stop is not None else "eos"
        case other:
            raise EngineUnavailable(f"vLLM ended the request with '{other}'")
    return Completion(
        text=output.text,
        finish_reason=reason,
        stop=stop,
        tokens=align(_raw_tokens(output), output.text, max(request.params.logprobs, named + 1)),
        usage=Usage(
            requests=1,
            prompt_tokens=len(answer.prompt_token_ids or ()),
            cached_tokens=answer.num_cached_tokens or 0,
            completion_tokens=len(output.token_ids),
        ),
    )


def _raw_tokens(output: Any) -> list[RawToken]:
    found = []
    for token, position in zip(output.token_ids, output.logprobs or (), strict=False):
        top = best_first((one.decoded_token or "", one.logprob) for one in position.values())
        own = position[token]
        found.append((own.decoded_token or "", own.logprob, top))
    return found


def _typed(error: Exception) -> EngineError:
    """One of vLLM's exceptions as one of ours."""
    from vllm.exceptions import VLLMClientError
    from vllm.v1.engine.exceptions import EngineDeadError

    if isinstance(error, EngineError):
        return error
    said = f"{type(error).__name__}: {error.__cause__ or error}"
    if isinstance(error, EngineDeadError):
        return EngineUnavailable(
            f"vLLM's engine died ({said})", hint="see vLLM's log above", retryable=False
        )
    if isinstance(error, (VLLMClientError, ValueError)):
        return EngineRequestError(f"vLLM rejected the request: {said}")
    return EngineUnavailable(f"vLLM failed on the request ({said})", hint="see vLLM's log above")
