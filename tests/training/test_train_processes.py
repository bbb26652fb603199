"""Several processes train what one does: real processes, started by `accelerate launch`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from test_train_sft import PROFILE, options, samples, train

from genprm.training import MARKER, TrainReport

pytest.importorskip("trl")
pytestmark = pytest.mark.slow

SOURCE = Path(__file__).parents[2] / "src"
LAUNCHER = (
    *("-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1"),
    *("--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"),
)


def train_in_two_processes(base: str, folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    """`genprm train` on nine chats, four in each step, two at a time."""
    chats, profile = folder.parent / "chats.jsonl", folder.parent / "profile.json"
    chats.write_text("".join(f"{sample.model_dump_json()}\n" for sample in samples(9)))
    profile.write_text(PROFILE.model_dump_json())
    settings = {
        "verify.profile": str(profile),
        "train.learning_rate": "1e-2",
        "train.batch_size": "4",
        "train.epochs": "3",
        "train.micro_batch_size": "1",
    }
    command = [sys.executable, *LAUNCHER, "-m", "genprm", "train", str(chats), "--model", base]
    command += [part for key, value in settings.items() for part in ("-s", f"{key}={value}")]
    return subprocess.run(
        [*command, "-o", str(folder), *more],
        env=os.environ | {"PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )


def errors(text: str) -> int:
    """How many errors were shown; the launcher's summary has them at the end of its own lines."""
    return sum(line.startswith("error: ") for line in text.splitlines())


def test_two_processes_have_the_losses_of_one_with_twice_the_micro_batch(base: str, tmp_path: Path) -> None:
    """Nine chats in three epochs: the last step has three, so that one process gets a filler."""
    folder = tmp_path / "two"
    done = train_in_two_processes(base, folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Use it:") == 1, "the first process alone reports"
    assert "2 processes" in done.stdout
    two = TrainReport.model_validate_json((folder / MARKER).read_text())
    assert two.processes == 2
    one = train(samples(9), options(base, micro_batch_size=2), tmp_path / "one", seed=0)
    assert len(one.losses) == 7
    assert two.losses == pytest.approx(one.losses, rel=1e-4)
    assert two.tokens == one.tokens

    again = train_in_two_processes(base, folder, "--seed", "1")
    assert again.returncode != 0
    assert errors(again.stderr) == 1, "two processes, one message"
    assert "holds the finished model of another training job" in again.stderr


def test_what_one_process_cannot_prepare_stops_all_with_one_message(base: str, tmp_path: Path) -> None:
    done = train_in_two_processes(base, tmp_path / "out", "-s", "train.max_length=10")
    assert done.returncode != 0
    assert errors(done.stderr) == 1
    assert "all 9 are longer than 10 tokens" in done.stderr
    last = done.stderr.rpartition("Root Cause")[2]
    assert "traceback : error: no samples to train on: all 9 are longer than 10 tokens" in last, (
        "the launcher's last words"
    )
    assert not (tmp_path / "out" / MARKER).exists()
