"""Flags that several commands share, and what they add up to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from genprm.errors import ConfigError

if TYPE_CHECKING:
    from genprm.config import EngineConfig, RunConfig


def _written(path: str | Path) -> Path:
    """What was given, or an option's default."""
    if isinstance(path, str) and not path.strip():
        raise typer.BadParameter("it is empty; '.' is the current folder")
    return Path(path)


WRITTEN: dict[str, Any] = {"parser": _written, "metavar": "<path>"}
"""Arguments of options that name what is written. An empty path, which an unset variable of a shell leaves, would be the
current folder.
"""
Config = Annotated[Path | None, typer.Option("--config", "-c", help="YAML config.", show_default=False)]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set", "-s", help="Override of the config: section.key=value; repeatable.", show_default=False
    ),
]
Votes = Annotated[
    int | None, typer.Option("--votes", help="Verification paths for each step.", show_default="1")
]
Profile = Annotated[
    str | None,
    typer.Option(
        "--profile",
        help="The verifier's prompt profile: a name or a YAML file.",
        show_default="the model's own, else genprm",
    ),
]
Seed = Annotated[
    int | None, typer.Option("--seed", help="Seed of all sampling, below 2**32.", show_default="0")
]
Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", help="JSONL file to write; standard output unless given.", **WRITTEN),
]


@contextmanager
def kept_in(run_dir: Path | None) -> Iterator[None]:
    """A context in which an interrupt says whether there is anything to continue from."""
    try:
        yield
    except KeyboardInterrupt:
        if run_dir is not None:
            raise
        raise KeyboardInterrupt("Nothing is kept without --run-dir.") from None


def engine_flags(
    model: str | None, url: str | None, what: str, role: EngineConfig | None = None
) -> EngineConfig:
    """The engine that a model flag and a URL flag name.

    Args:
        what: the flags' stem in messages: `` for --model and --url, `policy` for --policy and --policy-url.
        role: what the config says: it counts if there is no flag, and a server's other options stay with --url.

    Raises:
        ConfigError: neither is given.
    """
    from genprm.api.models import engine_config

    prefix = f"{what}-" if what else ""
    if url is not None:
        found = engine_config(url if "://" in url else f"http://{url}", name=model)
        if role is None or role.kind != found.kind:
            return found
        return role.model_copy(update={"options": {**role.options, **found.options}})
    if model is None and role is not None:
        return role
    if model is None:
        raise ConfigError(
            f"no {what or 'verifier'} is named",
            hint=f"Give --{prefix}url of a server, or --{what or 'model'} with a folder, a hub id or the packaged "
            f"model (builtin:{what or 'verifier'}).",
        )
    return engine_config(model)


def settings(
    config: Path | None,
    overrides: list[str] | None,
    *,
    engine: EngineConfig | None = None,
    profile: str | None = None,
    votes: int | None = None,
    seed: int | None = None,
) -> RunConfig:
    """The config that flags add up to: what the model's folder asks for, the file, --set, the other flags."""
    from genprm.config import read_run_config
    from genprm.engines import resolve_model
    from genprm.rewards.genprm.card import verify_values

    base = {}
    model = engine.options.get("model") if engine is not None else None
    if isinstance(model, str):
        base["verify"] = verify_values(resolve_model(model))
    extra = [*(overrides or [])]
    for key, value in (("verify.profile", profile), ("verify.votes", votes), ("seed", seed)):
        if value is not None:
            extra.append(f"{key}={value}")
    return read_run_config(config, extra, base)
