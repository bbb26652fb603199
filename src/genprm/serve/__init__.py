"""Serving: a reward behind HTTP, for programs and for RL trainers.

`RewardService` has no HTTP inside; `genprm.serve.app` is its native interface and the dialects of trainers, and
`RewardClient` asks it. FastAPI and uvicorn are imported by the app alone.
"""

from __future__ import annotations

from genprm.serve.answers import Answer, Unknown
from genprm.serve.client import AsyncRewardClient, RewardClient
from genprm.serve.service import BusyPolicy, RewardService, ServiceCounts
from genprm.serve.wire import Served, ServedStep

__all__ = [
    "Answer",
    "AsyncRewardClient",
    "BusyPolicy",
    "RewardClient",
    "RewardService",
    "Served",
    "ServedStep",
    "ServiceCounts",
    "Unknown",
]
