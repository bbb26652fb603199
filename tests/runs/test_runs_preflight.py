"""What cannot work in the end is said before the first request: budgets, packages, the model to train."""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import sums

from genprm.config import RunConfig, TrainConfig, load_config
from genprm.errors import ConfigError, MissingExtraError
from genprm.runs import Assumptions, plan_run, run_pipeline
from genprm.runs.preflight import check_components, require_model

LOCAL = {"kind": "local", "options": {"model": "builtin:policy", "device": "cpu"}}


@pytest.fixture(autouse=True)
def engines() -> Iterator[None]:
    sums.register()
    sums.calls.clear()
    yield


def config(tmp_path: Path, *overrides: str, **roles: Any) -> RunConfig:
    base = sums.config(sums.write_problems(tmp_path / "problems.jsonl", 4))
    base["roles"] = {**base["roles"], **roles}
    return load_config(None, overrides, model=RunConfig, base=base)


@pytest.mark.parametrize(
    ("role", "until", "key"),
    [
        ("policy", "solutions", "solutions.max_tokens"),
        ("completer", "montecarlo", "montecarlo.max_tokens"),
        ("teacher", "rationales", "rationales.max_tokens"),
        ("verifier", "verifications", "verify.max_tokens"),
    ],
)
async def test_a_budget_beyond_a_context_is_named_before_the_first_request(
    tmp_path: Path, role: str, until: str, key: str
) -> None:
    too_large = config(tmp_path, f"{key}=2048", **{role: LOCAL})
    with pytest.raises(ConfigError, match=f"{key} is 2048") as caught:
        await run_pipeline(too_large, tmp_path / "run", until=until)
    assert f"--set {key}=N" in caught.value.hint
    with pytest.raises(ConfigError, match=f"{key} is 2048"):
        plan_run(too_large, until, Assumptions())
    assert not sums.calls
    assert not (tmp_path / "run").exists()


def test_wrong_kinds_and_options_of_all_roles_come_at_once(tmp_path: Path) -> None:
    wrong = config(
        tmp_path,
        policy={"kind": "locl"},
        teacher={"kind": "http", "options": {"modle": "m"}},
        verifier={"kind": "discriminativ"},
    )
    with pytest.raises(ConfigError, match=r"^3 mistakes:\n") as caught:
        plan_run(wrong, "verifications", Assumptions())
    first, second, third = caught.value.message.splitlines()[1:]
    assert "roles.policy: unknown engine kind 'locl' (Did you mean 'local'?" in first
    assert "scripted" not in first, "no config can hold the function that it needs"
    assert "roles.teacher: the engine 'http' has no option 'modle' (Did you mean 'model'?" in second
    assert "roles.verifier: unknown engine kind 'discriminativ' (Did you mean 'discriminative'?" in third


async def test_a_budget_of_a_stage_that_is_not_run_is_nobodys_mistake(tmp_path: Path) -> None:
    await run_pipeline(config(tmp_path, teacher=LOCAL), tmp_path / "run", until="solutions")
    assert sums.calls["policy"]


async def test_chats_that_lack_what_the_verifier_is_asked_for_are_named_first(tmp_path: Path) -> None:
    shares = "chats.component_shares={cot: 0.75, code: 0.25}"
    lacking = config(tmp_path, shares, "train.model=builtin:base")
    with pytest.raises(ConfigError, match=r"chats\.component_shares has none: cot, code") as caught:
        await run_pipeline(lacking, tmp_path / "run")
    assert caught.value.hint.startswith("Set verify.components=cot, or give 'cot+code+execution' a share")
    with pytest.raises(ConfigError, match="chats"):
        plan_run(lacking, "train", Assumptions())
    assert not sums.calls and not (tmp_path / "run").exists()
    plan_run(lacking, "chats", Assumptions())
    for remedy in ("verify.components=code", "train.form=direct"):
        check_components(config(tmp_path, shares, remedy))


@pytest.mark.parametrize(
    ("options", "key"),
    [
        (("verify.components=direct",), "verify.components"),
        (("verify.components=direct", "chats.component_shares={direct: 1.0}"), "verify.components"),
        (("chats.component_shares={cot+code+execution: 0.9, direct: 0.1}",), "chats.component_shares"),
    ],
)
def test_direct_chats_are_no_rationales(tmp_path: Path, options: tuple[str, ...], key: str) -> None:
    with pytest.raises(ConfigError, match=f"{key} names 'direct'") as caught:
        check_components(config(tmp_path, *options))
    assert "Set train.form=direct" in caught.value.hint
    check_components(config(tmp_path, *options, "train.form=direct"))


def test_a_folder_without_a_model_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"holds no model: it has no config\.json"):
        require_model(TrainConfig(model=str(tmp_path)))
    (tmp_path / "config.json").write_text("{}")
    require_model(TrainConfig(model=str(tmp_path)))
    with pytest.raises(ConfigError, match=r"config\.json' is a file"):
        require_model(TrainConfig(model=str(tmp_path / "config.json")))


def without(monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == module else find(name, *more)
    )


@pytest.mark.parametrize(
    ("module", "options", "hint"),
    [
        ("torch", (), "genprm[train]"),
        ("accelerate", (), "genprm[train]"),
        ("peft", ("train.lora_rank=8",), "genprm[train]"),
        ("bitsandbytes", ("train.lora_rank=8", "train.lora_4bit=true"), "genprm[qlora]"),
        ("wandb", ("train.report_to=[wandb]",), "pip install wandb"),
    ],
)
async def test_missing_packages_are_named_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, options: tuple[str, ...], hint: str
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == module else find(name, *more)
    )
    with pytest.raises((MissingExtraError, ConfigError), match=rf"'{module}'.* is not installed") as caught:
        await run_pipeline(config(tmp_path, "train.model=builtin:base", *options), tmp_path / "run")
    assert hint in caught.value.hint
    assert not sums.calls
    assert not (tmp_path / "run").exists()


class Hub:
    """Knows one model, and counts what it is asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append(self.path)
                known = self.path.startswith("/api/models/org/known")
                body = b'{"id": "org/known", "siblings": []}' if known else b'{"error": "not here"}'
                busy = "/busy" in self.path
                self.send_response(200 if known else 503 if busy else 404)
                if not known and not busy:
                    self.send_header("X-Error-Code", "RepoNotFound")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def hub() -> Iterator[Hub]:
    made = Hub()
    yield made
    made.close()


def test_the_hub_is_asked_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, hub: Hub) -> None:
    pytest.importorskip("huggingface_hub")
    import huggingface_hub

    from genprm.training.models import check_hub_model

    class Api(huggingface_hub.HfApi):
        def __init__(self) -> None:
            super().__init__(endpoint=hub.url)

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    check_hub_model("org/known")
    assert len(hub.asked) == 1
    with pytest.raises(ConfigError, match="'org/unknown': it is not a folder") as caught:
        check_hub_model("org/unknown")
    assert len(hub.asked) == 2
    assert caught.value.hint.startswith("Check the id")
    with pytest.raises(ConfigError, match=r"the hub does not answer: .*503"):
        check_hub_model("org/busy")
    with pytest.raises(ConfigError, match=r"train\.model: 'no id at all'"):
        check_hub_model("no id at all")
    hub.close()
    with pytest.raises(ConfigError, match="the hub cannot be reached") as caught:
        check_hub_model("org/known")
    assert "Check the network" in caught.value.hint


async def test_a_model_that_nobody_has_ends_a_run_before_it_begins(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("huggingface_hub")
    import huggingface_hub

    class Offline(huggingface_hub.HfApi):
        def model_info(self, *_: Any, **__: Any) -> Any:
            raise OSError("no network here")

    monkeypatch.setattr(huggingface_hub, "HfApi", Offline)
    with pytest.raises(ConfigError, match="no network here"):
        await run_pipeline(config(tmp_path, "train.model=org/nowhere"), tmp_path / "run")
    assert not sums.calls
    assert not (tmp_path / "run").exists()
