"""Several copies of a local model in processes of their own, one thread each.

On a CPU, small models spend their time in operations too short to be divided among threads; whole copies
keep every core busy instead. Requests about one problem stay with one copy, so that its prefix cache
serves them all. With `deterministic=True` a completion is the same whichever copy makes it.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

from genprm.engines._common.affinity import Affinity, conversation
from genprm.engines._replicas.copies import Copies
from genprm.engines._replicas.count import replica_count
from genprm.engines.base import Completion, EngineBase, Request
from genprm.engines.local import LocalEngine
from genprm.engines.models import resolve_model
from genprm.errors import ConfigError, EngineUnavailable

# A conversation stays with its copy unless that one has so many requests more than another.
_SLACK = 16


class ReplicatedEngine(EngineBase):
    """Copies of `LocalEngine(model, **options)`.

    Args:
        model: as for the local engine.
        replicas: how many processes. `auto` is one per physical core that this process may use, fewer if the
            models and their prefix caches would not fit into free memory, and one on a machine with a GPU unless
            `device` is `cpu`.
        threads: CPU threads of each copy.
        options: further options of `LocalEngine`.

    The processes start together with the first call, and end with `aclose` or with this process. One that ends by itself
    fails the requests it has, and another one takes its place; if it had answered nothing yet, not before a while.

    Raises:
        ConfigError: an unknown option or packaged model, or fewer than one replica.
    """

    kind = "replicated"
    neutral_options = LocalEngine.neutral_options
    neutral_when: ClassVar = LocalEngine.neutral_when
    copies = LocalEngine

    def __init__(
        self,
        model: str | Path,
        *,
        replicas: int | Literal["auto"] = "auto",
        threads: int = 1,
        **options: Any,
    ) -> None:
        unknown = options.keys() - inspect.signature(LocalEngine).parameters.keys()
        if unknown:
            raise ConfigError(
                f"unknown options of the replicated engine: {', '.join(sorted(unknown))}",
                hint="It takes replicas and the options of the local engine.",
            )
        if replicas != "auto" and (not isinstance(replicas, int) or replicas < 1):
            raise ConfigError(f"replicas must be auto or at least 1, not {replicas}")
        source = resolve_model(str(model))
        self._options = {"model": source, "threads": threads, **options}
        self._count = replica_count(source, options) if replicas == "auto" else replicas
        self._copies = Copies(self._options, self._count)
        self._facts: dict[str, Any] = {}
        self._affinity = Affinity(_SLACK)

    @property
    def name(self) -> str:
        """The model's short name."""
        return str(self._options.get("name") or Path(self._options["model"]).name)

    async def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """See `Engine`."""
        try:
            replicas = await self._copies.live()
        except EngineUnavailable as error:
            return [Completion(finish_reason="error", error=error) for _ in requests]
        chosen: dict[int, list[int]] = {}
        for index, request in enumerate(requests):
            loads = {number: replica.load for number, replica in replicas.items()}
            number = self._affinity.choose(conversation(request), loads)
            replicas[number].load += 1
            chosen.setdefault(number, []).append(index)
        tasks = []
        for number, places in chosen.items():
            task = asyncio.ensure_future(replicas[number].ask([requests[at] for at in places]))
            task.add_done_callback(partial(replicas[number].release, len(places)))
            tasks.append(task)
        answers = await asyncio.gather(*tasks)
        done = [Completion()] * len(requests)
        for places, completions in zip(chosen.values(), answers, strict=True):
            for at, completion in zip(places, completions, strict=True):
                done[at] = completion
        return done

    async def check(self) -> None:
        """See `Engine`."""
        facts = await asyncio.gather(*(replica.check() for replica in (await self._copies.live()).values()))
        self._facts = {name: fact for name, fact in facts[0].items() if name != "name"}

    def describe(self) -> dict[str, Any]:
        """See `Engine`; what a copy says of itself, once `check` has asked."""
        return {"kind": "local", **self._options, **self._facts, "replicas": self._count}

    async def aclose(self) -> None:
        """See `Engine`."""
        await self._copies.aclose()
