"""The only asyncio helpers of genprm: bounded concurrency, retries, seeds, and the bridge from synchronous code."""

from __future__ import annotations

from genprm.aio.bridge import await_on_bridge, iterate_sync, run_sync
from genprm.aio.concurrency import RetryPolicy, bounded_map, cancel_all, chunked, retry, stream_map
from genprm.aio.once import Once
from genprm.aio.seeds import derive_seed
from genprm.aio.slots import Slots

__all__ = [
    "Once",
    "RetryPolicy",
    "Slots",
    "await_on_bridge",
    "bounded_map",
    "cancel_all",
    "chunked",
    "derive_seed",
    "iterate_sync",
    "retry",
    "run_sync",
    "stream_map",
]
