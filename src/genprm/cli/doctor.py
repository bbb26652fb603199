"""`genprm doctor`: what is installed, which sandbox level is reached, which engines answer."""

from __future__ import annotations

import importlib.util
from typing import Annotated, Any

import typer

from genprm.cli.console import sentence
from genprm.errors import ConfigError, GenPRMError

_EXTRAS = {
    "local": ("torch", "transformers"),
    "vllm": ("vllm",),
    "train": ("torch", "transformers", "peft", "accelerate", "datasets", "trl"),
    "qlora": ("bitsandbytes",),
    "hub": ("datasets",),
    "serve": ("fastapi", "uvicorn", "prometheus_client"),
    "data": ("datasketch",),
    "ray": ("ray",),
    "otel": ("opentelemetry",),
    "sandbox": ("scipy",),
}
_NEEDED = {"sandbox": "; the default prompt profile needs it, or sandbox.tier=numpy"}
_LEVELS = (
    "resource limits only",
    "namespaces or Landlock, with seccomp and limits",
    "namespaces, Landlock, seccomp and limits",
    "level 2, and a cgroup for memory and processes",
)
"""What holds at each level, as docs/explanation/sandbox.md says it at length."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("doctor")(doctor)


def doctor(
    url: Annotated[
        list[str] | None, typer.Option("--url", help="Base URL of an engine to ask; repeatable.")
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", help="The model's name there; the first one unless given.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Report what works on this machine; exits with 1 if an engine that was asked does not answer."""
    import asyncio

    if model is not None and not url:
        raise ConfigError(
            "--model names a model of the server that --url names",
            hint="Give --url as well; a model's folder is tried by 'genprm verify --demo --model FOLDER'.",
        )
    from genprm.engines import advice
    from genprm.runs.facts import machine, versions

    facts: dict[str, Any] = {
        "versions": versions(),
        "machine": machine(),
        "extras": _extras(),
        "accelerator": _accelerator(),
        "sandbox": _sandbox(),
        "engines": asyncio.run(_engines(url or [], model)),
        "advice": advice(),
    }
    if as_json:
        import json

        typer.echo(json.dumps(facts, indent=2))
    else:
        _print(facts)
    if not all(_works(engine) for engine in facts["engines"]):
        raise typer.Exit(1)


def _extras() -> dict[str, list[str]]:
    """For each extra, the modules that are missing."""
    return {
        extra: [module for module in modules if importlib.util.find_spec(module) is None]
        for extra, modules in _EXTRAS.items()
    }


def _accelerator() -> str:
    if importlib.util.find_spec("torch") is None:
        return "unknown: torch is not installed"
    import torch

    if not torch.cuda.is_available():
        return "none"
    return ", ".join(torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count()))


def _sandbox() -> dict[str, Any]:
    import asyncio

    from genprm.errors import SandboxUnavailable
    from genprm.sandbox import probe

    try:
        report = asyncio.run(probe())
    except SandboxUnavailable as error:
        return {"level": None, "mechanisms": {}, "reasons": [error.message, error.hint]}
    return {"level": report.level, "mechanisms": report.mechanisms, "reasons": list(report.reasons)}


async def _engines(urls: list[str], model: str | None) -> list[dict[str, Any]]:
    from genprm.cli.flags import engine_flags
    from genprm.engines import HttpEngine

    found = []
    for url in urls:
        engine = HttpEngine(**engine_flags(model, url, "").options)
        try:
            found.append({"url": url, "answers": True, **await engine.survey()})
        except GenPRMError as error:
            found.append({"url": url, "answers": False, "error": error.message, "hint": error.hint})
        finally:
            await engine.aclose()
    return found


def _works(engine: dict[str, Any]) -> bool:
    """Whether a server answers, by one endpoint at least."""
    return engine["answers"] and any(given is not None for given in engine["log_probabilities"].values())


def _print(facts: dict[str, Any]) -> None:
    from rich.table import Table
    from rich.text import Text

    from genprm.cli.console import make_console

    console = make_console()
    table = Table("what", "state", show_header=False)
    table.add_row("genprm", facts["versions"]["genprm"])
    table.add_row("python", facts["versions"]["python"])
    table.add_row("accelerator", facts["accelerator"])
    for extra, missing in facts["extras"].items():
        state = Text(
            f"missing {', '.join(missing)}: pip install 'genprm[{extra}]'{_NEEDED.get(extra, '')}", "yellow"
        )
        table.add_row(f"extra [{extra}]", state if missing else Text("installed", "green"))
    sandbox = facts["sandbox"]
    level = sandbox["level"]
    table.add_row(
        "sandbox level",
        Text(
            "none" if level is None else f"{level} of 3: {_LEVELS[level]}",
            "green" if level and level >= 2 else "red",
        ),
    )
    for name, holds in sandbox["mechanisms"].items():
        table.add_row(f"  {name}", Text("holds", "green") if holds else Text("not here", "yellow"))
    for reason in sandbox["reasons"]:
        table.add_row("  why not more", reason)
    for engine in facts["engines"]:
        for what, said, style in _engine_rows(engine):
            table.add_row(what, Text(said, style))
    for line in facts["advice"]:
        table.add_row("advice", Text(line, "yellow"))
    console.print(table)


def _engine_rows(engine: dict[str, Any]) -> list[tuple[str, str, str]]:
    """What is known about a server: what, state and colour."""
    title = f"engine {engine['url']}"
    if not engine["answers"]:
        return [(title, f"{engine['error']}. {sentence(engine['hint'])}", "red")]
    names = engine["models"]
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    context = engine["context"]
    rows = [
        (title, engine["server"] if engine["server"] != "unknown" else "a server of unknown kind", "green"),
        ("  model", engine["model"], "green"),
        ("  models", (", ".join(names[:8]) or "not listed") + more, "green" if names else "yellow"),
        ("  context", f"{context} tokens" if context else "not said", "green" if context else "yellow"),
    ]
    for endpoint, given in engine["log_probabilities"].items():
        state = {
            None: "no answers",
            False: "without log-probabilities: votes will have no reward",
            True: "yes",
        }[given]
        rows.append((f"  log-probabilities, {endpoint}", state, "green" if given else "yellow"))
    rows += [
        (f"  extension {name}", state, "green" if state in ("yes", "taken") else "yellow")
        for name, state in engine["extensions"].items()
    ]
    continues = engine["continues_turns"]
    remedy = engine["turns_remedy"]
    told = f"{continues}; not relied on with this server: {remedy}" if remedy else continues
    color = "green" if continues == "yes" and not remedy else "yellow"
    rows.append(("  continues a begun turn", told, color))
    counts = engine["counts_tokens"]
    said = "yes" if counts else "no: costs are lower bounds, and budgets go by the length of the text"
    rows.append(("  counts tokens (usage)", said, "green" if counts else "yellow"))
    rows += [(f"  why: {what}", said, "yellow") for what, said in engine["problems"].items()]
    return rows
