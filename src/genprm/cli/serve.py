"""`genprm serve`: a verifier over HTTP."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from genprm.cli.flags import Profile, Seed, Set, Votes, engine_flags, settings

if TYPE_CHECKING:
    from genprm.config import RunConfig


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("serve")(serve)


def serve(
    config: Annotated[
        Path | None,
        typer.Argument(help="YAML config; roles.verifier is served.", show_default=False),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="A folder, a hub id or builtin:verifier, in place of roles.verifier; with --url the server's name "
            "for the model.",
            show_default=False,
        ),
    ] = None,
    url: Annotated[
        str | None,
        typer.Option(
            help="Base URL of the OpenAI-compatible server that runs the model.", show_default=False
        ),
    ] = None,
    host: Annotated[
        str | None, typer.Option(help="Address to listen on.", show_default="127.0.0.1")
    ] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on.", show_default="8400")] = None,
    override: Set = None,
    profile: Profile = None,
    votes: Votes = None,
    seed: Seed = None,
    make_key: Annotated[
        str | None,
        typer.Option(
            "--new-key", help="Make an API key with this name, print it, and exit.", show_default=False
        ),
    ] = None,
) -> None:
    """Serve a verifier over HTTP, to programs and to RL trainers, until SIGTERM or Ctrl-C."""
    if make_key is not None:
        _print_key(make_key)
        return
    overrides = list(override or [])
    overrides += [f"serve.host={host}"] if host is not None else []
    overrides += [f"serve.port={port}"] if port is not None else []
    engine = engine_flags(model, url, "", settings(config, overrides).roles.verifier)
    chosen = settings(config, overrides, engine=engine, profile=profile, votes=votes, seed=seed)
    roles = chosen.roles.model_copy(update={"verifier": engine})
    _listen(chosen.model_copy(update={"roles": roles}))


def _print_key(name: str) -> None:
    from genprm.serve.keys import new_key

    key, digest = new_key()
    sys.stdout.write(f"{key}\n")
    sys.stderr.write(
        f"The key is shown only now. Its hash for the config:\nserve: {{api_keys: {{{name}: {digest}}}}}\n"
    )


def _listen(config: RunConfig) -> None:
    import asyncio

    from genprm.serve.run import bound, check_serving

    check_serving(config.serve, config.verify)
    bound(config.serve).close()  # an address in use is reported before a model is loaded
    asyncio.run(_live(config))


async def _live(config: RunConfig) -> None:
    from genprm.api.serving import opened_app
    from genprm.serve.run import serve

    async with opened_app(config) as app:

        def ready(address: str) -> None:
            sys.stderr.write(f"Listening on {address}\n{app.state.isolation}\n")
            sys.stderr.flush()

        await serve(app, config.serve, ready)
