"""What the ablations say of how they were made: sizes, machine, date, and the command."""

from __future__ import annotations

import argparse
import datetime
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from machine import machine

from genprm.worlds.arithmetic.quickstart import QuickstartConfig


def circumstances(config: QuickstartConfig, options: argparse.Namespace) -> dict[str, Any]:
    """Machine, date and sizes."""
    size = "quick" if options.quick else "full" if options.full else "laptop"
    return {
        "size": size,
        "seeds": list(options.seeds),
        "problems": config.problems.limit,
        "held_out": config.evaluation.localisation_solutions,
        "train_tokens": config.train.max_tokens,
        "machine": machine(),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }


def command() -> str:
    """The command of this run, as it can be typed again; where files are is left out."""
    left_out = ("--run-dir", "--page")
    told: list[str] = []
    words = iter(sys.argv[1:])
    for word in words:
        if word in left_out:
            next(words, None)
        elif not word.startswith(tuple(f"{option}=" for option in left_out)):
            told.append(word)
    return shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *told])


def facts(result: Mapping[str, Any], shown: Sequence[str]) -> list[tuple[str, str]]:
    """What a page says of how it was made."""
    values = ((key, result[key]) for key in shown)
    return [
        (key, ", ".join(map(str, value)) if isinstance(value, list) else str(value))
        for key, value in values
    ]
