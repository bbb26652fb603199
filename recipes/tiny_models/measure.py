"""Measures a verifier of the arithmetic world on unseen solutions, with 95 % intervals; prints one JSON object last.

    python recipes/tiny_models/measure.py [--model builtin:verifier] [--solutions 400] [--votes 8] [--run-dir DIR]

The packaged policy writes one solution for each of so many problems from the world's evaluation side; the truth about
each is computed. The problems' seed is none that the quickstart or a training run uses.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from genprm.aio import run_sync
from genprm.api.models import engine_config, verify_options
from genprm.config import EngineConfig, RunConfig
from genprm.evals.metrics import Judged, path_metrics
from genprm.evals.predictions import prediction, prediction_of_path
from genprm.runs.scaling import run_chain, verified_chain
from genprm.worlds.arithmetic import first_error, generate_problems

SEED = 4242


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="builtin:verifier")
    parser.add_argument("--solutions", type=int, default=400)
    parser.add_argument("--votes", type=int, default=8)
    parser.add_argument("--run-dir", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="genprm-measure-") as temporary:
        figures = measure(options, options.run_dir or Path(temporary) / "run")
    print(json.dumps(figures))


def measure(options: argparse.Namespace, folder: Path) -> dict[str, object]:
    problems = generate_problems("eval", options.solutions, seed=SEED)
    by_id = {problem.id: problem for problem in problems}
    copies = {"device": "cpu", "batch_size": 128, "deterministic": True}
    verifier = EngineConfig(kind="replicated", options={"model": options.model, **copies})
    verify = verify_options(engine_config(options.model), None, votes=options.votes)
    config = RunConfig.model_validate(
        {
            "seed": 2,
            "concurrency": 1024,
            "roles": {"policy": {"kind": "replicated", "options": {"model": "builtin:policy", **copies}}},
            "sandbox": {"tier": "plain", "soft_seconds": 2.0, "hard_seconds": 3.0},
            "solutions": {"max_tokens": 200, "sampling": {"temperature": 0.5, "top_p": 0.95}},
            "verify": {
                **verify.model_dump(),
                "stop_at_first_error": True,
                "every_path_to_its_error": True,
            },
            "store": {"shard_size": 25, "shards_in_flight": 8},
        }
    )
    chain = verified_chain(config, 1, verifier, name="measure", seed=2)
    reader = run_sync(run_chain(chain, problems, config, folder))
    solutions = {row.id: row for row in reader.rows("measure-solutions")}
    rows = list(reader.rows("measure-verifications"))
    truth = [first_error(by_id[row.problem_id], solutions[row.item_id].steps) for row in rows]
    together = Judged(truth, [[prediction(row) for row in rows]])
    threshold = config.verify.threshold
    alone = Judged(
        truth, [[prediction_of_path(row, path, threshold) for row in rows] for path in range(options.votes)]
    )
    return {
        "model": options.model,
        "solutions": len(rows),
        f"maj@{options.votes}": path_metrics(together).model_dump(mode="json"),
        "pass@1": path_metrics(alone).model_dump(mode="json"),
    }


if __name__ == "__main__":
    main()
