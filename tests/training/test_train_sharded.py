"""FSDP2: what is saved is the whole model that one process would have trained; what cannot be sharded is refused."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from sharded_on_cpu import JOBS
from test_train_sft import options, samples, train, weights

from genprm.config import DpoConfig, GrpoConfig, PrmConfig
from genprm.errors import TrainingError
from genprm.training import MARKER, TrainReport
from genprm.training.prm import train_discriminative
from genprm.training.rl import Pairs, train_dpo, train_grpo
from genprm.training.sharding import require_same_layout

torch = pytest.importorskip("torch")
pytest.importorskip("trl")
pytestmark = pytest.mark.usefixtures("one_thread")

HERE = Path(__file__).parent
TRIES = 3
PATHS = (str(HERE.parents[1] / "src"), str(HERE.parent))
RECIPE = HERE.parents[1] / "recipes" / "train" / "accelerate" / "fsdp2-8-gpus.yaml"


def launch(base: str, folder: Path, kill_at: int) -> subprocess.CompletedProcess[str]:
    """Two processes with the recipe's own launcher config."""
    launcher = ("-m", "accelerate.commands.launch", "--config_file", str(RECIPE), "--num_processes", "2")
    more = ("--main_process_port", "0", str(HERE / "sharded_on_cpu.py"), base, str(folder), str(kill_at))
    return subprocess.run(
        [sys.executable, *launcher, *more],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(PATHS), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )


@pytest.mark.slow
def test_two_sharded_processes_train_the_model_of_one(base: str, tmp_path: Path) -> None:
    """Killed with the weights sharded, resumed, and equal to what one process trains; adapters merged."""
    from transformers import AutoModelForCausalLM

    sharded = tmp_path / "weights"
    killed = launch(base, tmp_path, kill_at=5)
    assert killed.returncode != 0
    assert not (sharded / MARKER).exists()
    assert (sharded / "checkpoints" / "checkpoint-4" / "pytorch_model_fsdp.bin").exists(), "FSDP it was"
    with pytest.raises(TrainingError, match=r"saved under FSDP .*, and this job would .* without sharding"):
        train(samples(9), options(base, micro_batch_size=1), sharded, seed=0)

    # Processes on CPUs were seen to abort inside PyTorch at times; the same command resumes then, too.
    for _ in range(TRIES):
        resumed = launch(base, tmp_path, kill_at=0)
        if resumed.returncode == 0:
            break
    assert resumed.returncode == 0, resumed.stderr
    for name, changes in JOBS.items():
        alone = tmp_path / f"{name}_of_one"
        one = train(samples(9), options(base, micro_batch_size=2, **changes), alone, seed=0)
        two = TrainReport.model_validate_json((tmp_path / name / MARKER).read_text())
        assert two.processes == 2
        assert two.resumed_from >= (4 if name == "weights" else 0)
        assert two.precision == one.precision == changes.get("precision", "float32")
        exact = two.precision == "float32"  # in bfloat16 sharded norms and adapters round otherwise
        assert two.losses == pytest.approx(one.losses, rel=1e-4 if exact else 5e-3)
        assert two.losses[0] == pytest.approx(one.losses[0], rel=1e-4), "losses are no bfloat16 numbers"
        assert two.files.keys() == one.files.keys()
        assert (tmp_path / name / "config.json").read_text() == (alone / "config.json").read_text()
        found = weights(tmp_path / name)
        for key, tensor in weights(alone).items():
            assert (found[key] - tensor).norm() <= (1e-4 if exact else 0.1) * tensor.norm(), key
        AutoModelForCausalLM.from_pretrained(tmp_path / name)


@pytest.mark.parametrize(
    ("asked", "changes", "message"),
    [
        ({"ACCELERATE_USE_DEEPSPEED": "true"}, {}, "does not train under DeepSpeed"),
        ({"ACCELERATE_USE_FSDP": "true"}, {}, "version 1 of FSDP"),
        ({"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "1"}, {}, "version 1 of FSDP"),
        (
            {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"},
            {"lora_rank": 4, "lora_4bit": True},
            "lora_4bit and FSDP exclude each other",
        ),
    ],
)
def test_sharding_that_cannot_work_is_refused_before_the_first_step(
    base: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    asked: dict[str, str],
    changes: dict[str, object],
    message: str,
) -> None:
    for key, value in asked.items():
        monkeypatch.setenv(key, value)
    with pytest.raises(TrainingError, match=message):
        train(samples(4), options(base, **changes), tmp_path / "out", seed=0)
    assert not (tmp_path / "out").exists()


def test_a_checkpoint_that_another_machine_holds_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"checkpoint-4 is on another machine"):
        require_same_layout(tmp_path / "checkpoint-4", "whole")


def test_the_launcher_does_not_decide_the_precision(
    base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = options(base, epochs=1, precision="float32")
    alone = train(samples(4), given, tmp_path / "alone", seed=0)
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    assert train(samples(4), given, tmp_path / "launched", seed=0).losses == alone.losses


@pytest.mark.parametrize("sharded", [True, False])
def test_other_training_is_refused_in_several_processes_and_sharded(
    base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sharded: bool
) -> None:
    for key, value in {"LOCAL_RANK": "0", "RANK": "0", "WORLD_SIZE": "1" if sharded else "2"}.items():
        monkeypatch.setenv(key, value)
    monkeypatch.setenv("ACCELERATE_USE_FSDP", str(sharded).lower())
    out = tmp_path / "out"
    for begin in (
        lambda: train_discriminative([], PrmConfig(model=base), out, seed=0),
        lambda: train_grpo([], GrpoConfig(model=base), out, seed=0),
        lambda: train_dpo(Pairs((), Counter()), DpoConfig(model=base), out, seed=0),
    ):
        with pytest.raises(TrainingError, match="in one process, without sharding"):
            begin()
    assert not out.exists()
