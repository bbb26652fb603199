"""The files in `deploy/`: valid, and about commands, keys and paths that exist."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from genprm import RewardService, RunConfig, ScriptedReward, load_config
from genprm.cli.main import app as program
from genprm.serve.app import create_app
from genprm.serve.run import LAST_WORDS_SECONDS

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
KUBERNETES = list(yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text()))


def of_kind(kind: str) -> dict[str, Any]:
    return {one["metadata"]["name"]: one for one in KUBERNETES if one["kind"] == kind}


def configs() -> dict[str, str]:
    """Every config in the folder, by where it stands."""
    return {
        "serve.yaml": (DEPLOY / "serve.yaml").read_text(),
        "kubernetes.yaml": of_kind("ConfigMap")["genprm"]["data"]["serve.yaml"],
    }


def read(text: str, folder: Path) -> RunConfig:
    file = folder / "serve.yaml"
    file.write_text(text)
    return load_config(file, model=RunConfig)


@pytest.mark.parametrize("name", configs())
def test_the_configs_are_configs_and_let_nobody_in_without_a_key(name: str, tmp_path: Path) -> None:
    config = read(configs()[name], tmp_path)
    assert config.roles.verifier is not None and config.roles.verifier.kind == "http"
    assert config.serve.api_keys_file and not config.serve.open_without_keys
    # The command begins with these checks; only the file of keys is elsewhere.
    keys = tmp_path / "keys.yaml"
    keys.write_text(f"trainer: {'a' * 64}\n")
    from genprm.serve.run import check_serving

    check_serving(config.serve.model_copy(update={"api_keys_file": str(keys)}), config.verify)


def commands() -> Iterator[tuple[str, list[str]]]:
    """Every call of the program: where it stands, and its arguments."""
    yield "compose.yaml", COMPOSE["services"]["genprm"]["command"]
    (container,) = of_kind("Deployment")["genprm"]["spec"]["template"]["spec"]["containers"]
    yield "kubernetes.yaml", container["args"]
    for file in ("Containerfile", "compose.yaml", "kubernetes.yaml", "README.md", "serve.yaml"):
        text = (DEPLOY / file).read_text()
        for call in re.findall(r"(?:^|[`#(]|&&) *(?:RUN )?genprm ([^`\n&]+)", text, re.MULTILINE):
            yield file, call.split()
    (default,) = re.findall(r"^CMD (.+)$", (DEPLOY / "Containerfile").read_text(), re.MULTILINE)
    yield "Containerfile", ast.literal_eval(default)


def test_every_command_and_flag_exists() -> None:
    group: Any = typer.main.get_command(program)
    seen = set()
    for file, (name, *arguments) in commands():
        assert name in group.commands, f"{file}: there is no command {name}"
        flags = {flag for parameter in group.commands[name].params for flag in parameter.opts}
        wrong = [one for one in arguments if one.startswith("-") and one not in flags]
        assert not wrong, f"{file}: genprm {name} has no {wrong}"
        seen.add((file, name))
    assert {("compose.yaml", "serve"), ("kubernetes.yaml", "serve"), ("Containerfile", "serve")} <= seen


def test_the_image_is_not_roots_and_asks_paths_that_are_there() -> None:
    text = (DEPLOY / "Containerfile").read_text()
    users = re.findall(r"^USER (.+)$", text, re.MULTILINE)
    assert users and users[-1] == "10001" and 'ENTRYPOINT ["genprm"]' in text
    extras = re.search(r"'\.\[([a-z,]+)\]'", text)
    project = (DEPLOY.parent / "pyproject.toml").read_text()
    assert extras is not None
    assert all(re.search(rf"^{extra} = ", project, re.MULTILINE) for extra in extras[1].split(","))
    for name in re.findall(r"^COPY (.+) \S+$", text, re.MULTILINE):
        assert all((DEPLOY.parent / part).exists() for part in name.split())


def test_ports_probes_and_grace_fit_the_server(tmp_path: Path) -> None:
    paths = {
        getattr(route, "path", "") for route in create_app(RewardService(ScriptedReward(print))).routes
    }
    port = RunConfig().serve.port
    deployment = of_kind("Deployment")["genprm"]["spec"]["template"]["spec"]
    (container,) = deployment["containers"]
    for probe in ("readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"]["path"] in paths
    assert container["ports"][0]["containerPort"] == port
    assert of_kind("Service")["genprm"]["spec"]["ports"][0]["port"] == port
    assert COMPOSE["services"]["genprm"]["ports"] == [f"127.0.0.1:{port}:{port}"]
    text = (DEPLOY / "Containerfile").read_text()
    assert f"EXPOSE {port}" in text and f"127.0.0.1:{port}/healthz" in text
    drain = {name: read(text, tmp_path).serve.drain_seconds for name, text in configs().items()}
    before = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert (
        deployment["terminationGracePeriodSeconds"] > before + drain["kubernetes.yaml"] + LAST_WORDS_SECONDS
    )
    assert (
        int(COMPOSE["services"]["genprm"]["stop_grace_period"][:-1])
        > drain["serve.yaml"] + LAST_WORDS_SECONDS
    )
    assert deployment["securityContext"]["runAsNonRoot"]


def test_mounted_files_are_where_the_config_looks_for_them(tmp_path: Path) -> None:
    kubernetes = read(configs()["kubernetes.yaml"], tmp_path).serve.api_keys_file
    (container,) = of_kind("Deployment")["genprm"]["spec"]["template"]["spec"]["containers"]
    mounts = [mount["mountPath"] for mount in container["volumeMounts"]]
    assert kubernetes is not None and str(Path(kubernetes).parent) in mounts
    compose = read(configs()["serve.yaml"], tmp_path).serve.api_keys_file
    assert compose in [f"/run/secrets/{name}" for name in COMPOSE["services"]["genprm"]["secrets"]]
    for name, text in configs().items():
        roles = read(text, tmp_path).roles
        known = COMPOSE["services"] if name == "serve.yaml" else of_kind("Service")
        for role in (roles.verifier, roles.policy):
            urls = role.options.get("base_urls", []) if role is not None else []
            assert all(re.fullmatch(r"http://(\w+):8000", url)[1] in known for url in urls)  # type: ignore[index]


def test_the_ray_example_uses_names_that_exist() -> None:
    tree = ast.parse((DEPLOY / "ray_serve.py").read_text())
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    found = {
        (node.module, alias.name)
        for node in imports
        if (node.module or "").startswith("genprm")
        for alias in node.names
    }
    assert ("genprm.api.serving", "opened_app") in found
    assert all(hasattr(importlib.import_module(module or ""), name) for module, name in found)
