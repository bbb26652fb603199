"""What is found out about a machine, and what follows from it for engines."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from genprm.engines import ReplicatedEngine, advice, guidance
from genprm.engines._common import hardware
from genprm.engines._replicas import count
from genprm.errors import ConfigError

GIB = 1 << 30


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A made-up machine: files below `tmp_path` in place of /proc and /sys."""
    monkeypatch.setattr(hardware, "_PROC", tmp_path / "proc")
    monkeypatch.setattr(hardware, "_SYS", tmp_path / "sys")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)

    def write(files: dict[str, str]) -> None:
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    # Two packages of two cores with two threads each.
    for cpu in range(8):
        folder = f"sys/devices/system/cpu/cpu{cpu}/topology"
        write({f"{folder}/physical_package_id": f"{cpu // 4}\n", f"{folder}/core_id": f"{cpu % 2}\n"})
    write({"proc/meminfo": "MemTotal: 16777216 kB\nMemAvailable: 8388608 kB\n"})
    return write


def test_threads_of_one_core_count_once(machine, monkeypatch):
    assert hardware.physical_cores() == 4
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 2}, raising=False)
    assert hardware.physical_cores() == 1, "both are threads of one core"


def test_cores_of_an_unknown_layout_count_one_by_one(tmp_path, monkeypatch):
    monkeypatch.setattr(hardware, "_SYS", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2}, raising=False)
    assert hardware.physical_cores() == 3


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"proc/self/cgroup": "0::/box\n", "sys/fs/cgroup/box/cpu.max": "250000 100000\n"}, 2),
        ({"proc/self/cgroup": "0::/box\n", "sys/fs/cgroup/box/cpu.max": "max 100000\n"}, 4),
        ({"proc/self/cgroup": "0::/box\n", "sys/fs/cgroup/box/cpu.max": "50000 100000\n"}, 1),
        ({"proc/self/cgroup": "0::/host/only\n", "sys/fs/cgroup/cpu.max": "300000 100000\n"}, 3),
        (
            {
                "proc/self/cgroup": "2:cpu,cpuacct:/box\n",
                "sys/fs/cgroup/cpu/box/cpu.cfs_quota_us": "200000\n",
                "sys/fs/cgroup/cpu/box/cpu.cfs_period_us": "100000\n",
            },
            2,
        ),
        (
            {
                "proc/self/cgroup": "2:cpu:/\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            4,
        ),
    ],
)
def test_a_containers_quota_bounds_the_cores(machine, files, cores):
    machine(files)
    assert hardware.physical_cores() == cores


def test_free_memory_is_that_of_the_machine_or_of_the_container(machine):
    assert hardware.free_memory() == 8 * GIB
    machine(
        {
            "proc/self/cgroup": "0::/box\n",
            "sys/fs/cgroup/box/memory.max": str(4 * GIB),
            "sys/fs/cgroup/box/memory.current": str(3 * GIB),
            "sys/fs/cgroup/box/memory.stat": f"anon 5\ninactive_file {GIB // 2}\n",
        }
    )
    assert hardware.free_memory() == 3 * GIB // 2
    machine(
        {
            "proc/self/cgroup": "4:memory:/box\n",
            "sys/fs/cgroup/memory/box/memory.limit_in_bytes": str(2 * GIB),
            "sys/fs/cgroup/memory/box/memory.usage_in_bytes": str(GIB),
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712",
            "sys/fs/cgroup/memory/memory.usage_in_bytes": "5",
        }
    )
    assert hardware.free_memory() == GIB


def test_memory_of_which_nothing_is_known_is_none(tmp_path, monkeypatch):
    monkeypatch.setattr(hardware, "_PROC", tmp_path)
    assert hardware.free_memory() is None


def model(folder, gigabytes: int, **config: str):
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    with (folder / "model.safetensors").open("wb") as file:
        file.truncate(gigabytes * GIB)  # takes no space on the disk
    return str(folder)


def test_weights_are_estimated_as_they_are_loaded(tmp_path):
    folder = model(tmp_path / "m", 2, dtype="bfloat16")
    assert count.weight_bytes(folder, None, "auto") == 4 * GIB
    assert count.weight_bytes(folder, None, "bfloat16") == 2 * GIB
    assert count.weight_bytes(model(tmp_path / "m", 2, torch_dtype="float32"), None, "auto") == 2 * GIB
    (tmp_path / "m" / "small.gguf").write_bytes(b"12")
    assert count.weight_bytes(folder, "small.gguf", "auto") == 16
    assert count.weight_bytes(folder, "absent.gguf", "auto") is None
    assert count.weight_bytes(str(tmp_path), None, "auto") is None


@pytest.mark.parametrize(
    ("gigabytes", "options", "gpus", "expected"),
    [
        (0, {}, 0, 4),  # one per core
        (2, {"prefix_cache_mb": 0}, 0, 3),  # 8 GiB for copies of 2.6 GiB
        (0, {"prefix_cache_mb": 3 << 10}, 0, 2),
        (100, {}, 0, 1),  # and at least one
        (0, {}, 2, 1),
        (0, {"device": "cpu"}, 2, 4),
    ],
)
def test_replicas_follow_cores_memory_and_gpus(
    machine, tmp_path, monkeypatch, gigabytes, options, gpus, expected
):
    monkeypatch.setattr(count, "gpus", lambda: gpus)
    folder = model(tmp_path / "m", gigabytes, dtype="float32")
    engine = ReplicatedEngine(folder, **options)
    assert engine.describe()["replicas"] == expected


def test_replicas_of_a_model_that_is_not_there_go_by_the_cores(machine, tmp_path):
    assert count.replica_count(str(tmp_path / "absent"), {"device": "cpu"}) == 4
    assert count.replica_count("someone/no-such-model-here", {"device": "cpu"}) == 4


@pytest.mark.parametrize("replicas", [0, -1, "many", 1.5])
def test_a_mistaken_number_of_replicas_is_named(replicas):
    with pytest.raises(ConfigError, match="replicas"):
        ReplicatedEngine("model", replicas=replicas)


def test_hidden_gpus_do_not_count(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert hardware.gpus() == 0


def test_advice_is_about_gpus(monkeypatch):
    monkeypatch.setattr(guidance, "gpus", lambda: 0)
    assert advice() == []
    monkeypatch.setattr(guidance, "gpus", lambda: 2)
    (sentence,) = advice()
    assert "2 GPUs" in sentence and "vLLM" in sentence and "SGLang" in sentence


def test_advice_loads_no_torch():
    code = "import sys, genprm.engines; genprm.engines.advice(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
