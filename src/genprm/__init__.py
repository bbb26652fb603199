"""genprm: train, run and serve generative process reward models.

    import genprm

    engine = genprm.HttpEngine("http://localhost:8000/v1", model="GenPRM/GenPRM-7B")
    result = genprm.verify(engine, problem="What is 2 + 3 * 4?", steps=["3 * 4 = 12.", "2 + 12 = 16."])
    print(result.first_error, [verdict.reward for verdict in result.verdicts])

Names are loaded when first used, so that importing genprm is cheap and needs no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_EXPORTS = {
    "verify": "genprm.api",
    "verify_many": "genprm.api",
    "Verifier": "genprm.rewards",
    "VerifyItem": "genprm.records",
    "Engine": "genprm.engines",
    "HttpEngine": "genprm.engines",
    "LocalEngine": "genprm.engines",
    "ScriptedEngine": "genprm.engines",
    "VllmEngine": "genprm.engines",
    "make_engine": "genprm.engines",
    "IsolatedSandbox": "genprm.sandbox",
    "RunConfig": "genprm.config",
    "VerifyConfig": "genprm.config",
    "load_config": "genprm.config",
    "Problem": "genprm.records",
    "Solution": "genprm.records",
    "StepVerdict": "genprm.records",
    "Verification": "genprm.records",
    "Vote": "genprm.records",
    "GenPRMError": "genprm.errors",
}

__all__ = ["__version__", *sorted(_EXPORTS)]  # noqa: PLE0604

if TYPE_CHECKING:
    from genprm.api import verify as verify
    from genprm.api import verify_many as verify_many
    from genprm.config import RunConfig as RunConfig
    from genprm.config import VerifyConfig as VerifyConfig
    from genprm.config import load_config as load_config
    from genprm.engines import Engine as Engine
    from genprm.engines import HttpEngine as HttpEngine
    from genprm.engines import LocalEngine as LocalEngine
    from genprm.engines import ScriptedEngine as ScriptedEngine
    from genprm.engines import VllmEngine as VllmEngine
    from genprm.engines import make_engine as make_engine
    from genprm.errors import GenPRMError as GenPRMError
    from genprm.records import Problem as Problem
    from genprm.records import Solution as Solution
    from genprm.records import StepVerdict as StepVerdict
    from genprm.records import Verification as Verification
    from genprm.records import VerifyItem as VerifyItem
    from genprm.records import Vote as Vote
    from genprm.rewards import Verifier as Verifier
    from genprm.sandbox import IsolatedSandbox as IsolatedSandbox


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'genprm' has no attribute '{name}'")
    return getattr(importlib.import_module(_EXPORTS[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_EXPORTS})
