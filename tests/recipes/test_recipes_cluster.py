"""The cluster recipes: configs, and the commands that the Slurm script and the KubeRay job run."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from genprm.cli.main import app
from genprm.config import RunConfig, load_config
from genprm.engines.table import check_options

FOLDER = Path(__file__).resolve().parents[2] / "recipes" / "cluster"
CONFIGS = sorted(path.name for path in FOLDER.glob("*.yaml") if path.name != "rayjob.yaml")


@pytest.mark.parametrize("name", CONFIGS)
def test_every_config_is_for_a_cluster(name: str) -> None:
    config = load_config(FOLDER / name, model=RunConfig)
    assert config.executor.kind == "ray"
    for role in (config.roles.policy, config.roles.teacher):
        check_options(role.kind, role.options)
    in_process = config.roles.policy.kind == "vllm"
    assert (config.executor.gpus_per_actor > 0) == in_process


def test_the_readme_names_every_file() -> None:
    readme = (FOLDER / "README.md").read_text()
    for path in FOLDER.iterdir():
        assert path.name == "README.md" or f"[{path.name}]({path.name})" in readme


def options_of(command: str) -> list[str]:
    """The options of a `genprm run` command; one that it does not know fails."""
    words = shlex.split(command)
    assert words[:2] == ["genprm", "run"]
    run = get_command(app).commands["run"]  # type: ignore[attr-defined]
    parsed = run.make_context("run", words[2:])
    assert parsed.params["executor"] == "ray"
    return [name for name, value in parsed.params.items() if value]


def test_the_slurm_script_runs_a_command_that_exists() -> None:
    path = FOLDER / "slurm.sh"
    subprocess.run(["bash", "-n", str(path)], check=True)
    (command,) = re.findall(r"genprm run .*", path.read_text())
    assert {"config", "address", "run_dir", "until"} <= set(options_of(command))


def test_the_job_runs_a_command_that_exists_on_the_shared_volume() -> None:
    job: dict[str, Any] = yaml.safe_load((FOLDER / "rayjob.yaml").read_text())
    spec = job["spec"]
    assert {"config", "address", "run_dir", "until"} <= set(options_of(spec["entrypoint"]))
    words = shlex.split(spec["entrypoint"])
    cluster = spec["rayClusterSpec"]
    pods = [cluster["headGroupSpec"]["template"], *(one["template"] for one in cluster["workerGroupSpecs"])]
    for pod in pods:
        (container,) = pod["spec"]["containers"]
        mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
        assert set(mounts.values()) == {volume["name"] for volume in pod["spec"]["volumes"]}
        assert str(Path(words[2]).parent) in mounts
        assert words[words.index("--run-dir") + 1].startswith("/shared/")
        assert "/shared" in mounts
    pinned = (FOLDER.parents[1] / "constraints.txt").read_text()
    assert f"ray=={cluster['rayVersion']}\n" in pinned
