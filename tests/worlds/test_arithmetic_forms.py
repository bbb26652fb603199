"""The benchmark of three forms: all are trained and judge the same solutions, and a second call makes nothing anew."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "forms.py"
FORMS = {"direct": {"pass@1", "maj@2"}, "discriminative": {"pass@1"}, "genprm": {"pass@1", "maj@2"}}

pytest.importorskip("trl")
pytestmark = pytest.mark.slow


def test_one_command_trains_three_forms_on_the_same_tokens_and_resumes(tmp_path: Path) -> None:
    run = tmp_path / "run"
    result = forms(run)
    equal, held_out = result["equal"], result["held_out"]
    assert equal["solutions"] > 0 and 0 < held_out["erroneous"] < held_out["solutions"]
    for name, rules in FORMS.items():
        training = result[name]["training"]
        assert {rule for rule in result[name] if "@" in rule} == rules
        assert training["solutions"] == equal["solutions"]
        # A step is two solutions; of a chat with everything each has at most 1,024 tokens.
        assert abs(training["tokens"] - equal["tokens"]) < 2 * 1024
        for rule in rules:
            figures = result[name][rule]
            assert figures["erroneous"] == held_out["erroneous"]
            assert figures["erroneous"] + figures["correct"] == held_out["solutions"]
            assert figures["failed"]["value"] == 0 and figures["f1"]["total"] == held_out["solutions"]
    passes = [result[name]["training"]["passes"] for name in ("discriminative", "direct", "genprm")]
    assert passes == sorted(passes, reverse=True), "the longer the text, the fewer passes"
    written = [
        result[name]["judging"]["completion_tokens"] for name in ("discriminative", "direct", "genprm")
    ]
    assert written[0] == 0 < written[1] < written[2]
    before = made(run)
    assert forms(run) | {"date": result["date"]} == result
    assert made(run) == before, "nothing was made anew"


def forms(folder: Path) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--quick", "--run-dir", str(folder)],
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    *_, last = done.stdout.splitlines()
    found: dict[str, Any] = json.loads(last)
    return found


def made(folder: Path) -> dict[str, int]:
    """When each shard and each model was written."""
    paths = [*folder.glob("stages/**/*.jsonl"), *folder.glob("artifacts/**/*.safetensors")]
    return {str(path): path.stat().st_mtime_ns for path in paths}
