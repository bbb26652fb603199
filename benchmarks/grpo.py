"""What GRPO adds to a fine-tuned verifier in the arithmetic world; prints one JSON object as its last line.

    python benchmarks/grpo.py [--model builtin:verifier] [--seeds 0 1 2] [--steps 40] [--votes 4] [--quick]

The packaged verifier, fine-tuned on rationales alone, is trained further on solutions of the world's training side,
whose steps have true labels: one job per seed, which decides the solutions, their order and all sampling. Before and
after, it looks for the first error in the same held-out solutions of the world's evaluation side, with equally many
votes, equal bounds and equal sampling seeds. Numbers, structures of problems and texts of the two sides are disjoint.

`gain` is the difference of the two F1 values (ProcessBench's), in points; its interval per seed comes from resampling
solutions in pairs, and `mean_gain`'s from Student's t over the seeds. `rewards` and `malformed` are training curves.
`--quick` shows that it works, and nothing else.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import random
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import machine

import genprm
from genprm.api.models import verify_options
from genprm.config import SandboxConfig
from genprm.evals.metrics import harmonic_mean, localisation_metrics
from genprm.evals.predictions import prediction
from genprm.records import NO_ERROR, LabelledSolution, VerifyItem
from genprm.worlds.arithmetic import generate_problems, judge_solution
from genprm.worlds.arithmetic.grammar import parse_problem
from genprm.worlds.arithmetic.writer import POLICY_HABITS, write_solution

HELD_OUT_SEED = 1_000_003
SANDBOX = SandboxConfig(tier="plain", soft_seconds=2.0, hard_seconds=3.0)
RESAMPLES = 2000
# The 97.5 % quantile of Student's t, by degrees of freedom.
STUDENT = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776}


def solutions(split: str, count: int, seed: int) -> list[LabelledSolution]:
    """Solutions with true labels, one per problem; half of them have a wrong step."""
    rng = random.Random(seed)
    found: dict[bool, list[LabelledSolution]] = {True: [], False: []}
    for problem in generate_problems(split, 6 * count, seed=seed):  # type: ignore[arg-type]
        steps = tuple(write_solution(parse_problem(problem.text), rng, POLICY_HABITS))
        labels = tuple(truth.correct for truth in judge_solution(problem, steps))
        row = LabelledSolution(
            id=problem.id, problem=problem.text, steps=steps, labels=labels, source="the world's truth"
        )
        found[all(labels)].append(row)
    half = count // 2
    return [row for kind in found.values() for row in kind[:half]]


def judged(
    model: str, rows: Sequence[LabelledSolution], votes: int
) -> tuple[list[int | str | None], dict[str, Any]]:
    """The first error that the model finds in each solution, and the metrics."""
    options = verify_options(model, None, votes=votes, stop_at_first_error=True)
    items = [VerifyItem(id=row.id, problem=row.problem, steps=row.steps) for row in rows]
    started = time.monotonic()
    verifications = genprm.verify_many(model, items, options=options, sandbox=SANDBOX, seed=HELD_OUT_SEED)
    predictions = [prediction(row) for row in verifications]
    figures = localisation_metrics([truth(row) for row in rows], predictions)
    tokens = sum(row.usage.completion_tokens for row in verifications)
    shares = ("f1", "error_accuracy", "correct_accuracy", "unparsed", "failed")
    found = {name: _rounded(getattr(figures, name)) for name in shares}
    return predictions, found | {"tokens": tokens, "seconds": round(time.monotonic() - started)}


def _rounded(share: Any) -> list[float | None]:
    """Value, low and high, in percent."""
    ends = (share.value, share.low, share.high)
    return [None if one is None else round(one, 2) for one in ends]


def truth(row: LabelledSolution) -> int:
    found = row.first_error
    assert found is not None
    return found


def paired_gain(
    rows: Sequence[LabelledSolution], before: Sequence[Any], after: Sequence[Any]
) -> list[float | None]:
    """The difference of F1 in points with a 95 % interval: solutions are drawn anew, each with both its predictions."""
    true = np.array([truth(row) for row in rows])
    erroneous = true != NO_ERROR
    hits = [
        np.array([guess == t for guess, t in zip(side, true, strict=True)], dtype=float)
        for side in (before, after)
    ]

    def f1(side: Any, index: Any) -> float:
        wrong, right = (side[index][kind[index]] for kind in (erroneous, ~erroneous))
        if not len(wrong) or not len(right):
            return math.nan
        found = harmonic_mean(float(wrong.mean()), float(right.mean()))
        return math.nan if found is None else 100 * found

    everything = np.arange(len(rows))
    value = f1(hits[1], everything) - f1(hits[0], everything)
    rng = np.random.default_rng(HELD_OUT_SEED)
    drawn = [rng.integers(0, len(rows), len(rows)) for _ in range(RESAMPLES)]
    low, high = np.nanquantile([f1(hits[1], one) - f1(hits[0], one) for one in drawn], (0.025, 0.975))
    return [round(float(one), 2) for one in (value, low, high)]


def one_seed(
    args: argparse.Namespace, seed: int, held_out: Any, before: Any, folder: Path
) -> dict[str, Any]:
    """Train with one seed and measure."""
    rows = solutions("train", args.solutions, seed + 1)
    started = time.monotonic()

    def show(state: Any) -> None:
        minutes = (time.monotonic() - started) / 60
        reward = "unknown" if state.reward is None else f"{state.reward:.3f}"
        print(
            f"seed {seed}, step {state.step}/{state.total}: reward {reward}, {minutes:.1f} min", flush=True
        )

    report = genprm.train_grpo(
        rows,
        folder / f"seed-{seed}",
        model=args.model,
        seed=seed,
        steps=args.steps,
        solutions=args.batch,
        paths=args.paths,
        learning_rate=args.learning_rate,
        beta=args.beta,
        sandbox=SANDBOX.model_dump(mode="json"),
        progress=show,
    )
    trained = time.monotonic() - started
    predictions, figures = judged(str(folder / f"seed-{seed}"), held_out, args.votes)
    gain = paired_gain(held_out, before, predictions)
    print(f"seed {seed}: F1 {figures['f1']}, gain {gain}", flush=True)
    return {
        "seed": seed,
        "after": figures,
        "gain": gain,
        "rewards": [None if one is None else round(one, 4) for one in report.rewards],
        "malformed": [step["malformed"] for step in report.outcomes],
        "lost": sum(step["lost"] for step in report.outcomes),
        "train_seconds": round(trained),
    }


def over_seeds(gains: Sequence[float]) -> list[float | None]:
    """Mean with its 95 % interval by Student's t; no interval from one seed."""
    mean = statistics.fmean(gains)
    if len(gains) - 1 not in STUDENT:
        return [round(mean, 2), None, None]
    half = STUDENT[len(gains) - 1] * statistics.stdev(gains) / math.sqrt(len(gains))
    return [round(one, 2) for one in (mean, mean - half, mean + half)]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="builtin:verifier", help="the fine-tuned verifier")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--batch", type=int, default=8, help="solutions per optimizer step")
    parser.add_argument("--paths", type=int, default=8)
    parser.add_argument("--learning-rate", type=float, default=5e-5)
    parser.add_argument("--beta", type=float, default=0.0)
    parser.add_argument("--solutions", type=int, default=400, help="to train on")
    parser.add_argument("--held-out", type=int, default=400)
    parser.add_argument("--votes", type=int, default=4)
    parser.add_argument("--folder", type=Path, help="keep the trained models here, and resume from them")
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    if args.quick:
        args.seeds, args.steps, args.batch, args.paths = args.seeds[:2], 2, 2, 4
        args.solutions, args.held_out, args.votes = 8, 16, 2
    torch.set_num_threads(1)
    started = time.monotonic()
    held_out = solutions("eval", args.held_out, HELD_OUT_SEED)
    before, figures = judged(args.model, held_out, args.votes)
    print(f"before: {figures}", flush=True)
    with tempfile.TemporaryDirectory(prefix="genprm-bench-") as scratch:
        folder = args.folder or Path(scratch)
        runs = [one_seed(args, seed, held_out, before, folder) for seed in args.seeds]
    settings = {name: value for name, value in vars(args).items() if name not in ("folder", "seeds")}
    result = {
        "mean_gain": over_seeds([run["gain"][0] for run in runs]),
        "before": figures,
        "runs": runs,
        "settings": settings,
        "seconds": round(time.monotonic() - started),
        "machine": f"{machine()}, torch {torch.__version__}",
        "date": datetime.date.today().isoformat(),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
