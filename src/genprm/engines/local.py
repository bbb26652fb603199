"""A transformers model in this process, with continuous batching: the engine for small models and CPUs.

Requests of any number of concurrent calls share one batch: a row that ends leaves, and the next
request takes its slot at once. Equal prompts are computed once, and a request that continues a
finished one computes only its new tokens. See `genprm.engines._local.scheduler`.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib.util
import secrets
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from genprm.engines._common.chats import ChatTokenizer
from genprm.engines._common.model_files import require_here
from genprm.engines.base import Completion, EngineBase, Request
from genprm.engines.models import resolve_model
from genprm.errors import EngineRequestError, MissingExtraError
from genprm.records import Usage

if TYPE_CHECKING:
    from genprm.engines._local.rows import Job

_ONE_THREAD_BELOW = 20_000_000


class LocalEngine(EngineBase):
    """Engine on a transformers causal language model: the one for small models and CPUs.

    It needs no server, gives bitwise repeatable results on a CPU (`deterministic`), and is what tests, tutorials and
    the built-in world run on. Its decoding is frozen: on a GPU it uses only a small part of the hardware, and vLLM or
    SGLang serve there (`kind: vllm` or `http`; docs/decisions/0007-frozen-local-engine.md).

    Args:
        model: a directory, a hub id whose files an earlier download left on this machine, or a packaged model
            such as `builtin:policy`.
        device: `auto`, `cpu`, `cuda`, `cuda:1`, ...
        dtype: `auto` (float32 on a CPU, bfloat16 on a GPU) or a torch dtype's name.
        batch_size: rows decoded together at most.
        max_context: tokens of prompt and completion together; the model's own limit unless given.
        deterministic: a request's text and log-probabilities are bitwise the same whatever else runs,
            in whatever order. CPU only. States are reused if this machine is found to round them
            alike however they were computed, which takes `threads=1`; shared prefixes are not.
        threads: CPU threads. Unless given, one for a model of under 20 million parameters, whose products are too
            short to be divided (on a busy machine more threads wait for each other), else torch's choice.
        gguf_file: name of a GGUF file in the directory, in place of the usual weights.
        prefix_cache_mb: memory for states of finished requests, for those that continue them.
        name: for reports; the directory's name unless given.

    Raises:
        MissingExtraError: torch or transformers is not installed.
        EngineError: the model is not there, or cannot be run by this engine.
        ConfigError: there is no such packaged model.
    """

    kind = "local"
    neutral_options = frozenset({"name"})
    # A deterministic engine runs on a CPU whatever `device` says, and nothing of the machine shows in its rows.
    neutral_when: ClassVar = {
        "deterministic": frozenset({"device", "batch_size", "threads", "prefix_cache_mb", "replicas"})
    }

    def __init__(
        self,
        model: str | Path,
        *,
        device: str = "auto",
        dtype: str = "auto",
        batch_size: int = 256,
        max_context: int | None = None,
        deterministic: bool = False,
        threads: int | None = None,
        gguf_file: str | None = None,
        prefix_cache_mb: int = 1024,
        name: str | None = None,
    ) -> None:
        source = resolve_model(str(model))
        loading = _import_loading(source)
        from genprm.engines._local.scheduler import Scheduler
        from genprm.engines._local.vocab import Vocabulary

        chosen = loading.choose_device(device)
        tokenizer = loading.load_tokenizer(source, gguf_file)
        loaded = loading.load_model(source, gguf_file, chosen, loading.choose_dtype(dtype, chosen))
        self._limit: int = loading.context_limit(loaded, max_context)
        self._vocabulary = Vocabulary(tokenizer, loaded.config.get_text_config().vocab_size)
        self._name = name or Path(source).name
        self._chats = ChatTokenizer(tokenizer, self._name)
        parameters = sum(part.numel() for part in loaded.parameters())
        if threads is None and chosen.type == "cpu" and parameters < _ONE_THREAD_BELOW:
            threads = 1
        self._facts = {
            "kind": "local",
            "model": source,
            "device": str(chosen),
            "dtype": str(loaded.dtype).removeprefix("torch."),
            "parameters": parameters,
            "gguf_file": gguf_file,
            "batch_size": batch_size,
            "prefix_cache_mb": prefix_cache_mb,
            "max_context": self._limit,
            "threads": threads,
            "deterministic": deterministic,
            "missing": [],
        }
        self._scheduler = Scheduler(
            loaded,
            self._vocabulary,
            loading.end_tokens(loaded, tokenizer),
            slots=batch_size,
            max_context=self._limit,
            threads=threads,
            prefix_bytes=prefix_cache_mb << 20,
            deterministic=deterministic,
        )

    @property
    def name(self) -> str:
        """The model's short name."""
        return self._name

    def render(self, request: Request) -> str:
        """The exact text that the model continues: the chat in the model's template, then the prefix."""
        return self._chats.render(request)

    def prompt_ids(self, text: str) -> list[int]:
        """Token ids of a rendered prompt; the template wrote every special token that belongs there."""
        return self._chats.ids(text)

    async def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """Complete every request, in order; concurrent calls share the batch."""
        loop = asyncio.get_running_loop()
        outcomes: list[Completion | Job] = []
        for request in requests:
            try:
                outcomes.append(self._job(request, loop))
            except EngineRequestError as error:
                outcomes.append(Completion(finish_reason="error", error=error, usage=Usage(requests=1)))
        jobs = [outcome for outcome in outcomes if not isinstance(outcome, Completion)]
        self._scheduler.submit(jobs)
        try:
            return [
                outcome if isinstance(outcome, Completion) else await outcome.future for outcome in outcomes
            ]
        except asyncio.CancelledError:
            for job in jobs:
                job.future.cancel()
            raise

    async def check(self) -> None:
        """Loading the model has shown all there is to show."""

    def describe(self) -> dict[str, Any]:
        """Facts for the run's record."""
        return dict(self._facts)

    def take_weights(self, weights: Mapping[str, Any]) -> None:
        """Continue with other weights of the same model, as a trainer does that samples from what it trains.

        Args:
            weights: a tensor for every parameter, by the names that transformers gives them.

        Raises:
            EngineRequestError: requests are in flight, or a parameter is missing or has another shape.
        """
        self._scheduler.take_weights(weights)

    async def aclose(self) -> None:
        """Stop the worker thread; requests in flight end with an error."""
        await asyncio.to_thread(self._scheduler.close)

    def _job(self, request: Request, loop: asyncio.AbstractEventLoop) -> Job:
        """Turn a request into work, or raise an `EngineRequestError`."""
        from genprm.engines._local.rows import Job
        from genprm.engines._local.sampling import row_key

        params = request.params
        ids = self._chats.prompt(request, self._limit)
        seed = params.seed if params.seed is not None else secrets.randbits(63)
        stops = tuple(stop for stop in params.stop if stop)
        return Job(
            prompt_ids=ids,
            params=params,
            key=row_key(ids, seed, request.sample),
            future=loop.create_future(),
            loop=loop,
            submitted=time.perf_counter(),
            prompt_key=hashlib.blake2b(repr(ids).encode(), digest_size=16).digest(),
            suspects=self._vocabulary.suspects(stops) if stops else None,
        )


def _import_loading(source: str) -> Any:
    """The loading module, which imports torch and transformers, once the model is there: they take seconds."""
    if importlib.util.find_spec("huggingface_hub") is not None:  # else transformers is missing, too
        require_here(source)
    for module in ("torch", "transformers"):
        try:
            __import__(module)
        except (ImportError, OSError) as error:
            raise MissingExtraError(module, "local", "the local engine", error) from error
    from genprm.engines._local import loading

    return loading
