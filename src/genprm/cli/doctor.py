"""`genprm doctor`: what is installed, which sandbox level is reached, which engines answer."""

from __future__ import annotations

import importlib.util
from typing import Annotated, Any

import typer

from genprm.errors import GenPRMError

_EXTRAS = {
    "local": ("torch", "transformers"),
    "vllm": ("vllm",),
    "train": ("torch", "transformers", "peft", "accelerate"),
    "hub": ("datasets",),
    "sandbox": ("scipy",),
}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("doctor")(doctor)


def doctor(
    url: Annotated[
        list[str] | None, typer.Option("--url", help="Base URL of an engine to ask; repeatable.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Report what works on this machine; exits with 1 if an engine that was asked does not answer."""
    import asyncio

    from genprm.engines import advice
    from genprm.runs.facts import machine, versions

    facts: dict[str, Any] = {
        "versions": versions(),
        "machine": machine(),
        "extras": _extras(),
        "accelerator": _accelerator(),
        "sandbox": _sandbox(),
        "engines": asyncio.run(_engines(url or [])),
        "advice": advice(),
    }
    if as_json:
        import json

        typer.echo(json.dumps(facts, indent=2))
    else:
        _print(facts)
    if any(not engine["answers"] or not engine["completes"] for engine in facts["engines"]):
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

    from genprm.sandbox import probe

    report = asyncio.run(probe())
    return {"level": report.level, "mechanisms": report.mechanisms, "reasons": list(report.reasons)}


async def _engines(urls: list[str]) -> list[dict[str, Any]]:
    from genprm.cli.flags import engine_flags
    from genprm.engines import make_engine

    found = []
    for url in urls:
        config = engine_flags(None, url, "")
        engine = make_engine(config.kind, **config.options)
        try:
            await engine.check()
            found.append(
                {"url": url, "answers": True, "describes": engine.describe(), **await _try(engine)}
            )
        except GenPRMError as error:
            found.append({"url": url, "answers": False, "error": error.message, "hint": error.hint})
        finally:
            await engine.aclose()
    return found


async def _try(engine: Any) -> dict[str, Any]:
    """Whether one small request is answered, and with log-probabilities, without which there are no rewards."""
    from genprm.engines import Request, SamplingParams
    from genprm.records import ChatMessage

    params = SamplingParams(max_tokens=1, temperature=0.0, logprobs=5)
    messages = (ChatMessage(role="user", content="Say Yes."),)
    (done,) = await engine.generate([Request(messages=messages, params=params)])
    if done.error is not None:
        return {"completes": False, "log_probabilities": None, "reason": done.error.message}
    return {"completes": True, "log_probabilities": bool(done.tokens)}


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
        state = Text(f"missing {', '.join(missing)}: pip install 'genprm[{extra}]'", "yellow")
        table.add_row(f"extra [{extra}]", state if missing else Text("installed", "green"))
    sandbox = facts["sandbox"]
    table.add_row(
        "sandbox level", Text(f"L{sandbox['level']}", "green" if sandbox["level"] >= 2 else "red")
    )
    for name, holds in sandbox["mechanisms"].items():
        table.add_row(f"  {name}", Text("holds", "green") if holds else Text("not here", "yellow"))
    for reason in sandbox["reasons"]:
        table.add_row("  why not more", reason)
    for engine in facts["engines"]:
        table.add_row(f"engine {engine['url']}", *_engine_cell(engine))
    for line in facts["advice"]:
        table.add_row("advice", Text(line, "yellow"))
    console.print(table)


def _engine_cell(engine: dict[str, Any]) -> list[Any]:
    from rich.text import Text

    if not engine["answers"]:
        return [Text(f"{engine['error']}. {engine['hint']}", "red")]
    model = engine["describes"].get("model") or "one model"
    if not engine["completes"]:
        return [Text(f"serves {model}, but a request fails: {engine['reason']}", "red")]
    if not engine["log_probabilities"]:
        return [Text(f"serves {model}, without log-probabilities: votes will have no reward", "yellow")]
    return [Text(f"serves {model}, with log-probabilities", "green")]
