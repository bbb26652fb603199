"""Every public name works when it is used, and works again: see `call_everything`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import genprm

SCRIPT = Path(__file__).parent / "call_everything.py"


def test_every_public_name_works_twice_in_one_process(tmp_path: Path) -> None:
    answer = subprocess.run(
        [sys.executable, str(SCRIPT), str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},  # tiny models: threads only wait for each other
    )
    assert answer.returncode == 0, answer.stdout[-500:] + answer.stderr[-4000:]
    lines = [line.split() for line in answer.stdout.splitlines()]
    assert {words[1] for words in lines if words[0] == "twice"} == set(genprm.__all__)
    (without,) = [words[1:] for words in lines if words[0] == "without"]
    assert without == [], "with the extras for development every module can be imported, vllm's included"
