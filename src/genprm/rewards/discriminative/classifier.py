"""The model of a discriminative reward: token classification by transformers, many solutions in one forward pass."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from genprm.aio import Once
from genprm.engines import resolve_model
from genprm.engines._common.memory import TOO_LITTLE, TOO_LITTLE_HINT, is_out_of_memory
from genprm.engines._common.model_files import positions_of, reason_of, require_here
from genprm.engines._common.quiet import quiet, without_length_warning
from genprm.errors import ConfigError, EngineError, EngineRequestError, GenPRMError, MissingExtraError
from genprm.text.step_tokens import KEY, StepLayout, StepTokens, layout_of

_BATCH_TOKENS = {"cpu": 1, "cuda": 16384}
"""Padded tokens of a forward pass; 1: one solution at a time, so that nothing is padded."""


@dataclass(frozen=True, slots=True)
class StepProbabilities:
    """What a classifier says about a solution.

    Attributes:
        values: for each step p(right); None if it lies beyond what the model can read.
        reason: why values are None.
        tokens: tokens that were read.
    """

    values: tuple[float | None, ...]
    reason: str | None = None
    tokens: int = 0


class StepClassifier(Protocol):
    """Judges all steps of a solution at once; a step's value depends on nothing behind it."""

    @property
    def name(self) -> str:
        """For reports; names the model."""
        ...

    async def check(self) -> None:
        """Raise what keeps it from working. Raises `ConfigError` or `EngineError`."""
        ...

    async def classify(self, problem: str, steps: Sequence[str]) -> StepProbabilities:
        """p(right) of every step. Raises `EngineError` if the model fails."""
        ...

    async def aclose(self) -> None:
        """Release what it holds. Idempotent."""
        ...


@dataclass(frozen=True, slots=True)
class _Loaded:
    model: Any
    tokenizer: Any
    layout: StepLayout
    limit: int
    batch_tokens: int


_Waiting = tuple[StepTokens, "asyncio.Future[list[float] | EngineError]"]


class TokenClassifier:
    """A token-classification model of two classes, loaded when first needed. On one event loop.

    Solutions that wait at the same time share a forward pass. The class of a step is read at the last token of the
    separator behind it (`StepLayout`), as a softmax over the two classes.

    Args:
        model: a folder, or a hub id that an earlier download left on this machine.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        dtype: `auto` is float32 on a CPU and bfloat16 on a GPU. Batching changes a value's last digits only.
        batch_tokens: padded tokens of a forward pass; a longer solution stands alone.
        max_length: most tokens of a solution; the model's own bound unless given.
        layout: how steps are separated; what the model's config says unless given.
        right_label: the class that means right.
    """

    def __init__(
        self,
        model: str,
        *,
        device: str = "auto",
        dtype: str = "auto",
        batch_tokens: int | None = None,
        max_length: int | None = None,
        layout: StepLayout | None = None,
        right_label: Literal[0, 1] = 1,
    ) -> None:
        self._model = model
        self._device = device
        self._dtype = dtype
        self._batch_tokens = batch_tokens
        self._max_length = max_length
        self._layout = layout
        self._right = right_label
        self._loaded: Once[_Loaded] = Once()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="genprm-prm")
        self._turn = asyncio.Lock()
        self._waiting: list[_Waiting] = []

    @property
    def name(self) -> str:
        """See `StepClassifier`."""
        return f"discriminative:{self._model}"

    async def check(self) -> None:
        """See `StepClassifier`: load the model."""
        await self._loaded.get(self._load)

    async def classify(self, problem: str, steps: Sequence[str]) -> StepProbabilities:
        """See `StepClassifier`."""
        loaded = await self._loaded.get(self._load)
        tokens = loaded.layout.encode(loaded.tokenizer, problem, steps)
        fitting = tuple(end for end in tokens.ends if end < loaded.limit)
        beyond: list[float | None] = [None] * (len(steps) - len(fitting))
        reason = f"too long: {len(tokens.ids)} tokens, the model reads {loaded.limit}" if beyond else None
        if not fitting:
            return StepProbabilities(tuple(beyond), reason)
        read = StepTokens(tokens.ids[: fitting[-1] + 1], fitting)
        return StepProbabilities((*await self._values(loaded, read), *beyond), reason, len(read.ids))

    async def aclose(self) -> None:
        """See `StepClassifier`."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _values(self, loaded: _Loaded, tokens: StepTokens) -> list[float]:
        """Whoever has its turn computes for those who wait, too; a computation that was cut short is taken up again."""
        future: asyncio.Future[list[float] | EngineError] = asyncio.get_running_loop().create_future()
        entry = (tokens, future)
        self._waiting.append(entry)
        try:
            async with self._turn:
                if not future.done():
                    batch = self._batch(entry, loaded.batch_tokens)
                    await self._compute(loaded, batch)
            found = future.result()
        finally:
            future.cancel()
            self._waiting = [one for one in self._waiting if not one[1].done()]
        if isinstance(found, EngineError):
            raise found
        return found

    def _batch(self, first: _Waiting, bound: int) -> list[_Waiting]:
        """One entry, and others of similar length as long as they fit."""
        batch, width = [first], len(first[0].ids)
        others = sorted(
            (one for one in self._waiting if one is not first and not one[1].done()),
            key=lambda one: abs(len(one[0].ids) - len(first[0].ids)),
        )
        for one in others:
            wider = max(width, len(one[0].ids))
            if wider * (len(batch) + 1) > bound:
                break
            batch.append(one)
            width = wider
        return batch

    async def _compute(self, loaded: _Loaded, batch: list[_Waiting]) -> None:
        loop = asyncio.get_running_loop()
        solutions = [tokens for tokens, _ in batch]
        task = loop.run_in_executor(self._thread, _forward, loaded, solutions, self._right)
        try:
            found = await asyncio.shield(task)
        except asyncio.CancelledError:
            await asyncio.wait([task])  # a thread cannot be cancelled; nothing of it outlives this call
            raise
        for (_, future), values in zip(batch, found, strict=True):
            if not future.done():
                future.set_result(values)

    async def _load(self) -> _Loaded:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._load_now)

    def _load_now(self) -> _Loaded:
        try:
            from transformers import AutoConfig, AutoModelForTokenClassification, AutoTokenizer

            from genprm.engines._local.loading import choose_device, choose_dtype
        except (ImportError, OSError) as error:
            raise MissingExtraError("torch", "local", "a discriminative reward", error) from error

        source = resolve_model(self._model)
        require_here(source)
        with quiet():
            try:
                device = choose_device(self._device)
                config = AutoConfig.from_pretrained(source, local_files_only=True)
                layout = self._layout or layout_of(getattr(config, KEY, None), self._model)
                _check_classes(config, self._model)
                tokenizer = without_length_warning(
                    AutoTokenizer.from_pretrained(source, local_files_only=True)
                )
                model = AutoModelForTokenClassification.from_pretrained(
                    source, config=config, dtype=choose_dtype(self._dtype, device), local_files_only=True
                )
                model = model.to(device).eval().requires_grad_(False)
            except GenPRMError:
                raise
            except Exception as error:  # whatever damaged or contradictory files make the libraries raise
                if is_out_of_memory(error):
                    raise EngineError(
                        f"cannot load {self._model}: {TOO_LITTLE}", hint=TOO_LITTLE_HINT
                    ) from error
                raise EngineError(
                    f"cannot load {self._model}: {reason_of(error)}",
                    hint="give a folder that 'genprm train-prm' wrote, or download the hub id first",
                ) from error
        limit = min(one for one in (positions_of(config), self._max_length, math.inf) if one is not None)
        bound = self._batch_tokens or _BATCH_TOKENS["cpu" if device.type == "cpu" else "cuda"]
        return _Loaded(model, tokenizer, layout, int(min(limit, 2**31)), bound)


def is_token_classifier(folder: Path) -> bool:
    """Whether a folder holds a token-classification model, going by its `config.json`."""
    import json

    try:
        values = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        return any(str(name).endswith("ForTokenClassification") for name in values["architectures"])
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _check_classes(config: Any, model: str) -> None:
    architectures = config.architectures or []
    if not any(name.endswith("ForTokenClassification") for name in architectures):
        raise ConfigError(
            f"{model} is not a token-classification model but {', '.join(architectures) or 'unknown'}",
            hint="A generative verifier is asked with the engine 'local', 'http' or 'vllm'.",
        )
    if config.num_labels != 2:
        raise ConfigError(
            f"{model} has {config.num_labels} classes; a process reward model has two",
            hint="Give a folder that 'genprm train-prm' wrote.",
        )


def _forward(loaded: _Loaded, batch: list[StepTokens], right: int) -> list[list[float] | EngineError]:
    """p(right) at the ends of every solution's steps; a batch that fails, most likely for want of memory, is halved."""
    import torch

    device = loaded.model.device
    width = max(len(tokens.ids) for tokens in batch)
    ids = torch.zeros((len(batch), width), dtype=torch.long)
    mask = torch.zeros((len(batch), width), dtype=torch.long)
    for row, tokens in enumerate(batch):
        ids[row, : len(tokens.ids)] = torch.tensor(tokens.ids)
        mask[row, : len(tokens.ids)] = 1
    try:
        with torch.inference_mode():
            logits = loaded.model(
                input_ids=ids.to(device), attention_mask=mask.to(device), use_cache=False
            ).logits
            values = logits.double().softmax(-1)[..., right].cpu()
        return [[float(values[row, end]) for end in tokens.ends] for row, tokens in enumerate(batch)]
    except RuntimeError as error:  # on a CPU a lack of memory has no type of its own
        reason = reason_of(error)
    # Out here the error, and the memory that its traceback holds, is gone.
    if len(batch) > 1:
        half = len(batch) // 2
        return [*_forward(loaded, batch[:half], right), *_forward(loaded, batch[half:], right)]
    hint = "if memory is short, lower max_length, or use a device with more"
    return [EngineRequestError(f"the model fails on a solution of {width} tokens: {reason}", hint=hint)]
