"""The training recipes parse against the real schemas, and their README names every file."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from genprm.config import PrmConfig, RunConfig, load_config

FOLDER = Path(__file__).resolve().parents[2] / "recipes" / "train"
CONFIGS = sorted(path.name for path in FOLDER.glob("*.yaml"))
LAUNCHERS = sorted(path.name for path in (FOLDER / "accelerate").glob("*.yaml"))


@pytest.mark.parametrize("name", CONFIGS)
def test_every_config_is_known_to_its_command(name: str) -> None:
    if name.startswith("discriminative"):
        assert load_config(FOLDER / name, model=PrmConfig).model
        return
    config = load_config(FOLDER / name, model=RunConfig)
    assert (config.train.batch_size, config.train.model, config.verify.profile) == (
        64,
        f"models/base-{name.removesuffix('.yaml').split('-')[1]}",
        "genprm",
    )
    assert config.train.lora_rank or config.train.learning_rate == 2e-6


@pytest.mark.parametrize("name", LAUNCHERS)
def test_every_launcher_config_is_known_to_accelerate(name: str) -> None:
    pytest.importorskip("accelerate")
    from accelerate.commands.config.config_args import ClusterConfig, load_config_from_file
    from accelerate.utils import FullyShardedDataParallelPlugin

    path = FOLDER / "accelerate" / name
    config = load_config_from_file(str(path))  # an unknown key raises
    assert isinstance(config, ClusterConfig)
    assert config.num_processes == 8 * config.num_machines
    fields = FullyShardedDataParallelPlugin.__dataclass_fields__
    aliases = {"offload_params": "cpu_offload", "version": "fsdp_version"}
    for key in yaml.safe_load(path.read_text())["fsdp_config"]:
        option = key.removeprefix("fsdp_")
        assert aliases.get(option, option) in fields, key


def test_the_readme_names_every_file() -> None:
    linked = set(re.findall(r"\]\(([\w./-]+\.yaml)\)", (FOLDER / "README.md").read_text()))
    assert linked == {*CONFIGS, *(f"accelerate/{name}" for name in LAUNCHERS)}
