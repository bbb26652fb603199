"""What the quickstart sets, and what it compares."""

from __future__ import annotations

from typing import Any

from genprm.config import Components

LOCALISATION_MODES: tuple[Components, ...] = ("direct", "cot", "cot+code", "cot+code+execution")
POOL_SIZES = (1, 2, 4, 8, 16)


def quickstart_defaults() -> dict[str, Any]:
    """What the quickstart sets apart from the defaults of `RunConfig`."""
    policy = {
        "kind": "replicated",
        "options": {"model": "builtin:policy", "device": "cpu", "batch_size": 128, "deterministic": True},
    }
    sampling = {"temperature": 0.5, "top_p": 0.95}
    verify = {
        "profile": "compact",
        "max_tokens": 160,
        "max_rounds": 2,
        "logprobs": 5,
        "sampling": {"temperature": 0.6, "top_p": 0.95, "top_k": 20},
    }
    return {
        "seed": 1,
        "concurrency": 1024,
        "problems": {"source": "arithmetic", "split": "train", "limit": 200},
        "roles": {"policy": policy, "teacher": {"kind": "tutor", "options": {"seed": 1}}},
        "sandbox": {"tier": "plain", "soft_seconds": 2.0, "hard_seconds": 3.0},
        "solutions": {
            "per_class": 2,
            "batch": 8,
            "max_samples": 16,
            "max_tokens": 200,
            # Warmer than the completer: at 0.5 most samples repeat an earlier one and are drawn again.
            "sampling": {"temperature": 0.6, "top_p": 0.95},
        },
        "montecarlo": {
            "estimator": "sequential",
            "k_start": 16,
            "k_hard": 16,
            "k_medium": 16,
            "k_easy": 16,
            "max_tokens": 200,
            "sampling": sampling,
        },
        "label": {"method": "posterior"},
        "rationales": {"profile": "tutor"},
        "chats": {"component_shares": {"cot+code+execution": 0.7, "cot+code": 0.1, "cot": 0.2}},
        "train": {
            "model": "builtin:base",
            "learning_rate": 5e-4,
            "batch_size": 2,
            "epochs": 1000,
            "max_tokens": 350_000,
            "max_length": 1024,
            "precision": "float32",
        },
        "verify": verify,
        "refine": {"max_tokens": 200, "sampling": sampling},
        "store": {"shard_size": 25, "shards_in_flight": 8},
    }
