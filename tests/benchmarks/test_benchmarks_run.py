"""Every script in `benchmarks/` runs as a user would run it, as small as it can be, and prints the keys it promises.

The figures themselves are not looked at: they are this machine's, under whatever else it does.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from loopback import serving

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
ROWS = (
    {"solution": "Step 1: 2 + 2 = 4.\n\nStep 2: So it is \\boxed{4}.", "answer": "4", "is_correct": True},
    {"solution": "2 + 2 = 5, so the answer is 5.", "answer": "4", "is_correct": False},
)
PARTS = {
    "pipeline_engines": "pipeline",
    "experiments": "ablation",
    "experiment_facts": "ablation",
    "machine": "client",
}
"""Modules that are no scripts, and the script that needs them."""


class Try(NamedTuple):
    """Arguments that a script can be run with here, and the keys that its last line then has (`outer.inner`).

    `{url}` is the address of a server that answers at once.
    """

    arguments: tuple[str, ...]
    keys: tuple[str, ...]


SIDES = ("ours", "sft_trainer")
COMPONENTS = ("cot", "cot+code+execution")
SMALLEST = (
    *("--quick", "--seeds", "1", "problems.limit=10", "train.max_tokens=2000"),
    *("verify.max_tokens=40", "evaluation.localisation_solutions=3"),
)
RUNS: dict[str, Try] = {
    "ablation": Try(
        SMALLEST,
        (
            *(
                "components.CoT.pass@1.f1",
                "votes.maj@4.f1",
                "data.half.maj@2.f1",
                "material.full.seed 1.kept",
            ),
            *("size", "seeds", "held_out", "machine", "date"),
        ),
    ),
    "client": Try(
        ("--items", "1", "--concurrency", "16"),
        (
            *(f"cpu_ms_per_step_vote.{one}" for one in COMPONENTS),
            *(f"step_votes_per_second.{one}" for one in COMPONENTS),
            *("items", "votes", "concurrency", "machine", "date"),
        ),
    ),
    "grpo": Try(
        ("--quick", "--seeds", "0"),
        ("mean_gain", "before.f1", "runs", "settings", "seconds", "machine", "date"),
    ),
    "label_rules": Try(
        SMALLEST,
        ("rules.hard.f1.pass@1.f1", "rules.hard.labels.seed 1.kept_right", "size", "machine", "date"),
    ),
    "montecarlo": Try(
        ("--problems", "6", "--repeats", "1", "--completions", "16"),
        (
            *("estimators", "at_least_4_steps", "rules", "problems", "repeats", "machine", "date"),
            *(
                f"estimators.fixed, K = 16.hard.{key}"
                for key in ("completions", "first_error_accuracy", "kept", "kept_right")
            ),
        ),
    ),
    "pipeline": Try(
        ("--sizes", "32,64", "--problems", "2"),
        (
            *(
                "peak_mib.32",
                "peak_mib.64",
                "ms_per_problem.32",
                "ms_per_problem.64",
                "cpu_ms_per_problem.64",
            ),
            *("engine_utilisation", "shards", "requests", "tokens", "tokens_per_second", "machine", "date"),
        ),
    ),
    "real_solutions": Try(
        ("solutions.jsonl",),
        ("solutions", "answers", "right", "unknown", "agreed.value", "one_step.value", "steps_mean", "cut"),
    ),
    "sandbox": Try(
        ("--quick", "--snippets", "20", "--tiers", "plain"),
        (
            "level",
            "tiers.plain.cpu_ms",
            "in_process_ms",
            "cold_subprocess_ms",
            "machine.load_before",
            "date",
        ),
    ),
    "scaling": Try((*SMALLEST, "--tokens", "1000"), ("figures", "size", "seeds", "machine", "date")),
    "serve": Try(
        ("--clients", "2", "--seconds", "2", "--solution-seconds", "0.2"),
        (
            *("clients", "errors", "rejected", "p50_overhead_ms", "p99_overhead_ms", "rss_growth"),
            *("verifications_for_8_equal", "server_cpu_ms", "machine", "date"),
        ),
    ),
    "training": Try(
        ("--rounds", "1", "--steps", "2"),
        (
            *(f"{figure}.{side}" for figure in ("tokens_per_second", "mfu", "peak_gb") for side in SIDES),
            *("ratio", "mode", "device", "machine", "date"),
        ),
    ),
    "verifier": Try(
        ("--engine", "{url}", "--items", "1"),
        (
            *("engine", "model", "votes", "items", "speedup_over_serial", "engine_utilisation"),
            *(
                "adaptive.exact",
                "adaptive.sequential",
                "tokens_per_second",
                "failed_votes",
                "machine",
                "date",
            ),
        ),
    ),
}
MISTAKES: dict[str, tuple[tuple[str, ...], str]] = {
    "ablation": (("train.max_token=5",), "max_token"),
    "client": (("--items", "many"), "--items"),
    "forms": (("train.max_token=5",), "max_token"),
    "grpo": (("--seeds", "one"), "--seeds"),
    "label_rules": (("--seeds", "one"), "--seeds"),
    "montecarlo": (("--run", "no-run"), "no-run"),
    "pipeline": (("--sizes", "1", "--problems", "none"), "--problems"),
    "real_solutions": (("no-file.jsonl",), "no-file.jsonl"),
    "sandbox": (("--tiers", "plain,numpie"), "numpie"),
    "scaling": (("--base", "no-folder"), "no-folder"),
    "serve": (("--clients", "all"), "--clients"),
    "tiny_gguf": (("no-checkpoint", "out.gguf"), "no-checkpoint"),
    "training": (("--device", "tpu"), "--device"),
    "verifier": ((), "make quickstart"),
}
"""What a user may get wrong, by script, and what the answer names."""
OTHERWISE = {
    "forms": "tests/worlds/test_arithmetic_forms.py looks at its figures",
    "tiny_gguf": "converted and served by tests/serve/test_serve_under_load.py",
}
"""Scripts that are run elsewhere."""


def run(script: str, arguments: tuple[str, ...], folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(BENCHMARKS / f"{script}.py"), *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600, check=False)


def found(values: Any, key: str) -> bool:
    """Whether a nested object has a key such as `outer.inner`; keys may hold points themselves."""
    if not isinstance(values, dict):
        return False
    return key in values or any(
        key.startswith(f"{outer}.") and found(inner, key[len(outer) + 1 :])
        for outer, inner in values.items()
    )


def test_every_script_is_tried() -> None:
    scripts = {path.stem for path in BENCHMARKS.glob("*.py")}
    assert scripts - PARTS.keys() == RUNS.keys() | OTHERWISE.keys()
    assert scripts - PARTS.keys() == MISTAKES.keys()
    assert set(PARTS.values()) <= RUNS.keys() and scripts >= PARTS.keys()


@pytest.mark.slow
@pytest.mark.parametrize("script", RUNS)
def test_a_benchmark_prints_what_it_promises(script: str, tmp_path: Path) -> None:
    (tmp_path / "solutions.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in ROWS))
    with serving() as url:
        done = run(script, tuple(one.replace("{url}", url) for one in RUNS[script].arguments), tmp_path)
    assert done.returncode == 0, done.stderr
    values = json.loads(done.stdout.splitlines()[-1])
    assert not [key for key in RUNS[script].keys if not found(values, key)], values
    assert not values.get("failed_votes"), values


@pytest.mark.slow
def test_the_pipeline_is_measured_on_ray_as_well(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    done = run("pipeline", ("--sizes", "32,64", "--executor", "ray", "--skip-engine"), tmp_path)
    assert done.returncode == 0, done.stderr
    values = json.loads(done.stdout.splitlines()[-1])
    assert values["executor"] == "ray" and values["ms_per_problem"].keys() == {"32", "64"}
    assert min(values["actor_peak_mib"].values()) > 0, "the actors were found"


@pytest.mark.slow
@pytest.mark.parametrize("script", MISTAKES)
def test_a_mistake_ends_in_one_message(script: str, tmp_path: Path) -> None:
    arguments, named = MISTAKES[script]
    done = run(script, arguments, tmp_path)
    assert done.returncode > 0, done.stdout
    assert named in done.stderr
    assert "Traceback" not in done.stderr
