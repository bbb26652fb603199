"""What a string names when a model is asked for: a server, a packaged model, a folder, a hub id."""

from __future__ import annotations

import pytest

from genprm.api.models import engine_config
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
