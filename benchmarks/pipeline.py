"""Measures the pipeline and prints one JSON object as its last line.

    python benchmarks/pipeline.py [--sizes 1000,10000,100000] [--executor local|ray] [--shard-size N] [--problems N]
        [--skip-engine] [--skip-sizes]

Two questions, in one run on one machine:

- does the cost per problem, and the peak memory, stay flat as a run grows? Scripted engines that cost next to nothing
  take problems through solutions, Monte-Carlo, labels, rationales and consensus; each size runs in a process of its own.
  `ms_per_problem` is wall time, `cpu_ms_per_problem` processor time, which other work on the machine disturbs less.
  A million problems are 15,625 shards; `--shard-size 2` shows with 31,250 problems what so many cost.
  With `--executor ray` the shards go to two actors of a Ray cluster on this machine, which has started before the
  clock does: `actor_peak_mib` is the larger actor's memory, `peak_mib` the driver's, processor time the driver's alone;
- does a real engine idle between stages or at a shard's slowest problem? The packaged policy takes problems through
  solutions and Monte-Carlo in at least 8 shards; then every request that it was given is sent again, all at once, to a
  fresh engine. `engine_utilisation` is the first rate over the second.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import pipeline_engines
from machine import machine

from genprm.config import RunConfig
from genprm.engines import make_engine
from genprm.runs import run_pipeline
from genprm.store import RunReader

SAMPLING = {"temperature": 0.5, "top_p": 0.95}
SHARD_SIZE = 64
ACTORS = 2


def scripted_config(problems: int, shard_size: int, executor: str = "local") -> RunConfig:
    return RunConfig.model_validate(
        {
            "problems": {"source": "benchmark-sums", "limit": problems},
            "roles": {"policy": {"kind": "benchmark-policy"}, "teacher": {"kind": "benchmark-teacher"}},
            "sandbox": {"tier": "plain"},
            "solutions": {"per_class": 1, "batch": 2, "max_samples": 4},
            "montecarlo": {"k_start": 2, "k_hard": 2, "k_medium": 2, "k_easy": 2},
            "store": {"shard_size": shard_size, "shards_in_flight": 4},
            "executor": {"kind": executor} | ({"actors": ACTORS} if executor == "ray" else {}),
        }
    )


async def measure_size(problems: int, shard_size: int, folder: Path, executor: str) -> dict[str, float]:
    """Seconds and peak memory of one run; called in a process of its own."""
    pipeline_engines.register()
    with cluster() if executor == "ray" else nullcontext():
        return await measure_run(scripted_config(problems, shard_size, executor), problems, folder)


@contextmanager
def cluster() -> Iterator[None]:
    """A Ray cluster of this machine, whose actors know the benchmark's engines."""
    import ray

    os.environ.pop("RAY_ADDRESS", None)  # another cluster is not measured
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    places = [str(Path(__file__).parent), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    ray.init(
        address="local",
        num_cpus=ACTORS,
        include_dashboard=False,
        logging_level="error",
        log_to_driver=False,
        runtime_env={
            "env_vars": {"PYTHONPATH": os.pathsep.join(place for place in places if place)},
            "worker_process_setup_hook": "pipeline_engines.register",
        },
    )
    try:
        yield
    finally:
        ray.shutdown()


class ActorMemory:
    """Looks four times a second how much memory the actors of Ray have taken at most, in MiB."""

    def __init__(self) -> None:
        self.peak = 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> ActorMemory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(0.25):
            for process in Path("/proc").glob("[0-9]*"):
                with suppress(OSError):
                    if (process / "cmdline").read_bytes().startswith(b"ray::ShardActor"):
                        status = (process / "status").read_text()
                        peak = status.partition("VmHWM:")[2].split()[0]
                        self.peak = max(self.peak, int(peak) / 1024)


async def measure_run(config: RunConfig, problems: int, folder: Path) -> dict[str, float]:
    began, cpu = time.perf_counter(), time.process_time()
    with ActorMemory() as actors:
        result = await run_pipeline(config, folder, until="consensus")
    seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - cpu
    assert result.summaries["consensus"].problems == problems
    assert result.summaries["consensus"].rows > problems
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "seconds": seconds, "cpu_seconds": cpu_seconds, "peak_mib": peak, "actor_peak_mib": actors.peak,
    }  # fmt: skip


def in_own_process(problems: int, shard_size: int, executor: str) -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="genprm-bench-") as folder:
        done = subprocess.run(
            [
                sys.executable,
                __file__,
                "--one",
                str(problems),
                "--shard-size",
                str(shard_size),
                "--folder",
                folder,
                "--executor",
                executor,
            ],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


async def measure_engine(problems: int, folder: Path) -> dict[str, Any]:
    """Use of a local engine over a whole run, against the same requests all at once."""
    pipeline_engines.register()
    options = {"model": "builtin:policy", "device": "cpu", "batch_size": 128, "deterministic": True}
    config = RunConfig.model_validate(
        {
            "concurrency": 1024,
            "problems": {"source": "arithmetic", "split": "train", "limit": problems},
            "roles": {"policy": {"kind": "benchmark-recording", "options": options}},
            "solutions": {
                "per_class": 2, "batch": 8, "max_samples": 16, "max_tokens": 200, "sampling": SAMPLING,
            },
            "montecarlo": {
                "k_start": 16, "k_hard": 16, "k_medium": 16, "k_easy": 16, "max_tokens": 200,
                "sampling": SAMPLING,
            },
            "store": {"shard_size": 25, "shards_in_flight": 8},
        }
    )  # fmt: skip
    result = await run_pipeline(config, folder, until="montecarlo")
    spent = [result.summaries[stage] for stage in ("solutions", "montecarlo")]
    tokens = sum(row.usage.completion_tokens for row in spent)
    seconds = sum(row.seconds for row in spent)
    engine = make_engine("replicated", **options)
    await engine.check()
    began = time.perf_counter()
    # As calls of their own: the engine can start on the first ones while it prepares the others.
    done = await asyncio.gather(*(engine.generate([request]) for request in pipeline_engines.made))
    alone = time.perf_counter() - began
    await engine.aclose()
    sent = sum(one.usage.completion_tokens for (one,) in done)
    return {
        "engine_utilisation": round((tokens / seconds) / (sent / alone), 3),
        "shards": RunReader(folder).summary("montecarlo").shards,
        "requests": len(pipeline_engines.made),
        "tokens": tokens,
        "tokens_per_second": round(tokens / seconds, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", default="1000,10000,100000", help="problems of the scripted runs")
    parser.add_argument(
        "--executor", choices=["local", "ray"], default="local", help="of the scripted runs"
    )
    parser.add_argument("--shard-size", type=int, default=SHARD_SIZE, help="problems per shard")
    parser.add_argument("--problems", type=int, default=400, help="problems of the engine's run")
    parser.add_argument("--skip-engine", action="store_true")
    parser.add_argument("--skip-sizes", action="store_true")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one is not None:
        one = measure_size(options.one, options.shard_size, options.folder, options.executor)
        print(json.dumps(asyncio.run(one)))
        return
    found: dict[str, Any] = {}
    if not options.skip_sizes:
        sizes = [int(size) for size in options.sizes.split(",")]
        runs = {size: in_own_process(size, options.shard_size, options.executor) for size in sizes}
        ends = {min(sizes), max(sizes)}
        for key in ("peak_mib", "actor_peak_mib")[: 2 if options.executor == "ray" else 1]:
            found[key] = {str(size): round(runs[size][key], 1) for size in sizes if size in ends}
        found["executor"] = options.executor
        for key, figure in (("ms_per_problem", "seconds"), ("cpu_ms_per_problem", "cpu_seconds")):
            found[key] = {str(size): round(1000 * run[figure] / size, 3) for size, run in runs.items()}
    if not options.skip_engine:
        with tempfile.TemporaryDirectory(prefix="genprm-bench-") as folder:
            found |= asyncio.run(measure_engine(options.problems, Path(folder) / "run"))
    found |= {"machine": machine(), "date": datetime.datetime.now(datetime.UTC).date().isoformat()}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
