"""What a string names when a model is asked for: a server, a packaged model, a folder, a hub id."""

from __future__ import annotations

import pytest

import genprm
from genprm.api.models import engine_config, verify_options
from genprm.errors import ConfigError


@pytest.mark.parametrize(
    "name",
    [
        "http://localhost:8000",
        "https://api.example/v1",
        "localhost:8000",
        "10.0.0.7:8000/v1",
        "gpu-7.cluster.example:80",
        "[::1]:8000",
        " localhost:8000 ",
    ],
)
def test_an_address_is_a_server_with_a_scheme_or_without(name: str) -> None:
    config = engine_config(name, name="some/model")
    assert config.kind == "http"
    assert config.options == {"base_urls": name.strip(), "model": "some/model"}


@pytest.mark.parametrize(
    "name", ["GenPRM/GenPRM-7B", "builtin:verifier", "models/verifier", "./runs:1/model", "C:/model"]
)
def test_everything_else_is_a_model_in_the_process(name: str) -> None:
    config = engine_config(name)
    assert (config.kind, config.options["model"]) == ("local", name)


def test_no_name_is_a_mistake() -> None:
    with pytest.raises(ConfigError, match="no model is named"):
        engine_config("  ")


def test_options_change_what_they_set_and_nothing_else() -> None:
    """A packaged or trained model is asked as its folder says, however the options for it are given."""
    own = verify_options("builtin:verifier", None)
    assert own.max_tokens == 160 and own.profile.endswith("genprm.json")
    changed = own.model_copy(update={"votes": 8})
    sampling = own.sampling.model_copy(update={"temperature": 0.9})
    with genprm.LocalEngine("builtin:verifier", device="cpu", threads=1) as engine:
        for model in ("builtin:verifier", engine):
            assert verify_options(model, genprm.VerifyConfig(votes=8)) == changed
            assert verify_options(model, None, votes=8) == changed
            part = genprm.VerifyConfig.model_validate({"sampling": {"temperature": 0.9}})
            assert verify_options(model, part) == own.model_copy(update={"sampling": sampling})
            assert verify_options(model, genprm.VerifyConfig(max_tokens=2048)).max_tokens == 2048
    assert verify_options("http://host:80", genprm.VerifyConfig(votes=8)) == genprm.VerifyConfig(votes=8)
