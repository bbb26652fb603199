"""The scorer of adapters that a trainer loads by their path, from the environment.

| variable | meaning | unless set |
|---|---|---|
| `GENPRM_URL` | of a running `genprm serve` | must be set, or `use` called |
| `GENPRM_API_KEY` | if the server asks for one | none |
| `GENPRM_SCORE` | `min`, `last`, `mean` or `prod`: the solution's reward | `min` |
| `GENPRM_CREDIT` | `min`, `last`, `difference` or `sum`: what steps get, where a trainer takes that | `min` |
| `GENPRM_DEADLINE` | seconds in which a solution is scored | 600 |
| `GENPRM_CONCURRENCY` | solutions in work at the same time, per process | 256 |
| `GENPRM_STEPS` | `auto`, `step_markers`, `paragraphs` or `lines`: where steps end | `auto` |
| `GENPRM_UNKNOWN` | the number of a sample without a score, where a trainer takes nothing but numbers | an error |
| `GENPRM_OUTAGE` | so many samples in a row lost to faults are an error; 0 is never | 512 |

Ray hands a job's environment to its workers with `runtime_env={"env_vars": {...}}`.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable
from typing import TypeVar, cast, get_args

from genprm.errors import ConfigError
from genprm.rl.credit import CreditRule
from genprm.rl.scorer import Scorer
from genprm.serve.answers import ScoreName
from genprm.text.steps import StepStyle

T = TypeVar("T", int, float)

_lock = threading.Lock()
_scorers: dict[str | None, Scorer] = {}
"""By the URL that an adapter's own options name; None: of the environment, or the one in `use`."""


def use(scorer: Scorer) -> None:
    """Make a scorer the one that adapters of this process ask, instead of one from the environment."""
    with _lock:
        _scorers[None] = scorer


def scorer(url: str | None = None) -> Scorer:
    """The process's scorer, made when it is first asked for.

    Args:
        url: of a server, instead of `GENPRM_URL`.

    Raises:
        ConfigError: no URL, or a variable whose value is no such thing.
    """
    with _lock:
        if url not in _scorers:
            _scorers[url] = _from_environment(url)
        return _scorers[url]


def unknown_number() -> float | None:
    """`GENPRM_UNKNOWN`."""
    return _number("GENPRM_UNKNOWN", float) if os.environ.get("GENPRM_UNKNOWN") else None


def credit_rule() -> CreditRule:
    """`GENPRM_CREDIT`."""
    return cast("CreditRule", _one_of("GENPRM_CREDIT", get_args(CreditRule), "min"))


def _from_environment(url: str | None) -> Scorer:
    url = url or os.environ.get("GENPRM_URL")
    if not url:
        raise ConfigError(
            "the trainer's reward has no server to ask",
            hint="Set GENPRM_URL to the address of 'genprm serve', also in the trainer's worker processes.",
        )
    return Scorer(
        url,
        score=cast("ScoreName", _one_of("GENPRM_SCORE", get_args(ScoreName), "min")),
        deadline=_number("GENPRM_DEADLINE", float, 600.0),
        concurrency=_number("GENPRM_CONCURRENCY", int, 256),
        api_key=os.environ.get("GENPRM_API_KEY") or None,
        steps=cast("StepStyle", _one_of("GENPRM_STEPS", get_args(StepStyle), "auto")),
        outage=_number("GENPRM_OUTAGE", int, 512),
    )


def _one_of(name: str, values: tuple[str, ...], default: str) -> str:
    value = os.environ.get(name) or default
    if value not in values:
        raise ConfigError(f"the environment's {name} is '{value}'", hint=f"One of {', '.join(values)}.")
    return value


def _number(name: str, kind: Callable[[str], T], default: T | None = None) -> T:
    text = os.environ.get(name)
    if not text and default is not None:
        return default
    try:
        value = kind(text or "")
    except ValueError:
        value = None
    if value is None or not math.isfinite(value):
        raise ConfigError(f"the environment's {name} is '{text}', which is not a finite number")
    return value
