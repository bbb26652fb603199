"""Writes the reference pages that follow from the code: config.md and cli.md beside this file.

    python docs/reference/generate.py

`tests/docs/test_docs_reference.py` fails if a committed page is not what this writes.
"""

from __future__ import annotations

import inspect
import json
import re
import types
import typing
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

HERE = Path(__file__).resolve().parent
NOTICE = "<!-- Written by docs/reference/generate.py; change the code that it reads, and run it. -->\n"

CONFIG = """\
A config is a YAML file with the sections below. Every key can be left out. An unknown key, or a value that a key cannot
have, is an error that names the file and the nearest right key; all of a file are listed at once, and after them all
wrong engine kinds and options of `roles`.

- **Sections are merged** with their defaults key by key. Every other value replaces the default, mappings such as
  `roles.policy.options` and `chats.component_shares` included.
- **On the command line**, `--set section.key=value` sets any key; the value is read as YAML. `genprm run` and
  `genprm quickstart` also take `section.key=value` as arguments.
- **From Python**, `genprm.load_config(path, overrides, model=genprm.RunConfig)` reads the same file, and
  `genprm.RunConfig(...)` makes a config from sections.
- **In a run directory**, `config.yaml` is the resolved config: every key with its value.
"""

CLI = """\
Every command prints its results to standard output; progress, notes and errors go to standard error. Text that comes
from models and files is printed as it is. `python -m genprm` is the same program.

| exit code | meaning |
|---|---|
| 0 | done |
| 1 | a mistake or a failure that the message names: a wrong file or value, flags that do not go together or lack \
another one, an engine that does not answer, pending problems, a step without a verdict |
| 2 | wrong usage: an unknown command or flag, or one without an argument that its usage line demands |
| 130 | interrupted; finished work is kept |
"""


def main() -> None:
    """Write all generated pages."""
    for name, text in pages().items():
        (HERE / name).write_text(text, encoding="utf-8")


def pages() -> dict[str, str]:
    """The generated pages by file name."""
    return {"config.md": config_page(), "cli.md": cli_page()}


def config_page() -> str:
    """Every key of a run's config, with type, default and meaning."""
    from genprm.config import (
        DpoConfig,
        EngineConfig,
        GrpoConfig,
        KeyLimits,
        PrmConfig,
        QuickstartConfig,
        RunConfig,
        SamplingConfig,
        StrategyConfig,
    )

    lines = ["# Config keys\n", NOTICE, CONFIG, "## Top level\n", *_keys(RunConfig, top=True)]
    for name, field in RunConfig.model_fields.items():
        lines += [part for section in _models(field.annotation) for part in _part(name, section)]
        if name == "roles":
            lines += _part("engines", EngineConfig, code=False)
    lines += _part("sampling", SamplingConfig, code=False)
    lines += _part(
        "prm", PrmConfig, note="The keys of `genprm train-prm` alone; they stand at the top of its config."
    )
    for name, section in (("grpo", GrpoConfig), ("dpo", DpoConfig)):
        note = f"The keys of `genprm train-{name}` alone; they stand at the top of its config."
        lines += _part(name, section, note=note)
    lines += _part("strategies", StrategyConfig, code=False)
    lines += _part("limits", KeyLimits, code=False)
    for name, field in QuickstartConfig.model_fields.items():
        if name not in RunConfig.model_fields:
            lines += _part(
                name, _models(field.annotation)[0], note="A section of `genprm quickstart` alone."
            )
    return "\n".join(lines).rstrip() + "\n"


def cli_page() -> str:
    """Every command with its help."""
    import typer
    from typer.testing import CliRunner

    from genprm.cli.main import app

    group: Any = typer.main.get_command(app)
    runner = CliRunner()
    lines = ["# Command line\n", NOTICE, CLI, "| command | what it does |", "|---|---|"]
    for name, command in group.commands.items():
        lines.append(f"| [`genprm {name}`](#genprm-{name}) | {_first_sentence(command.help or '')} |")
    for name in group.commands:
        help_ = runner.invoke(app, [name, "--help"], prog_name="genprm", env={"COLUMNS": "80"}).output
        lines += [
            f"\n## `genprm {name}`\n",
            "```text",
            *(line.rstrip() for line in help_.strip().splitlines()),
            "```",
        ]
    return "\n".join(lines) + "\n"


def _part(title: str, section: type[BaseModel], *, code: bool = True, note: str = "") -> list[str]:
    summary, _ = _docstring(section)
    heading = f"## `{title}`\n" if code else f"## {title.capitalize()}\n"
    return [heading, *([note + "\n"] if note else []), summary + "\n", *_keys(section)]


def _keys(section: type[BaseModel], *, top: bool = False) -> list[str]:
    _, told = _docstring(section)
    lines = ["| key | type | default | meaning |", "|---|---|---|---|"]
    for name, field in section.model_fields.items():
        inner = _models(field.annotation)
        if top and inner:
            lines.append(
                f"| [`{name}`](#{name}) | section | | {_first_sentence(_docstring(inner[0])[0])} |"
            )
            continue
        meaning = _sentence(" ".join(filter(None, (field.description, told.get(name)))))
        if inner and not meaning:
            meaning = _first_sentence(_docstring(inner[0])[0])
        if not meaning:
            raise SystemExit(f"{section.__name__}.{name} has no description")
        lines.append(f"| `{name}` | {_type(field.annotation)} | {_default(field)} | {meaning} |")
    return [*lines, ""]


def _docstring(section: type[BaseModel]) -> tuple[str, dict[str, str]]:
    """A section's docstring: its text, and what it says about each key under `Attributes`."""
    text = inspect.getdoc(section) or ""
    summary, _, attributes = text.partition("\nAttributes:\n")
    told: dict[str, list[str]] = {}
    names: list[str] = []
    for line in attributes.splitlines():
        entry = re.match(r" {4}([a-z_, ]+): (.*)", line)
        if entry is not None:
            names = entry[1].split(", ")
            for name in names:
                told[name] = [entry[2]]
        elif line.strip() and names:
            for name in names:
                told[name].append(line.strip())
    return " ".join(summary.split()), {name: " ".join(parts) for name, parts in told.items()}


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in typing.get_args(annotation) for model in _models(part)]


def _type(annotation: Any) -> str:
    inner = _models(annotation) if typing.get_origin(annotation) is not dict else []
    if inner:
        name = inner[0].__name__.removesuffix("Config").lower()
        anchors = {
            "engine": "engines",
            "sampling": "sampling",
            "strategy": "strategies",
            "keylimits": "limits",
            "verify": "verify",
            "sandbox": "sandbox",
        }
        anchor = anchors[name]
        optional = " or null" if type(None) in typing.get_args(annotation) else ""
        return f"[{name}](#{anchor}){optional}"
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return ", ".join(f"`{value}`" for value in arguments)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_type(argument) for argument in arguments)
    if origin is tuple:
        return f"list of {_type(arguments[0])}"
    if origin is dict:
        return f"mapping of {_type(arguments[0])} to {_type(arguments[1])}"
    names = {
        str: "text",
        int: "integer",
        float: "number",
        bool: "true or false",
        type(None): "null",
        Any: "anything",
    }
    return names[annotation]


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, BaseModel):
        changed = value.model_dump(exclude_defaults=True)
        return f"`{_yaml(changed)}`" if changed else "the defaults"
    return "empty" if value in ("", {}, ()) else f"`{_yaml(value)}`"


def _yaml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_yaml(one)}" for key, one in value.items()) + "}"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str) and "\n" in value:
        return json.dumps(value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _sentence(text: str) -> str:
    text = text.strip().replace("|", "\\|")
    return text[:1].upper() + text[1:].rstrip(".") + "." if text else ""


def _first_sentence(text: str) -> str:
    return re.split(r"(?<=[.:])\s", " ".join(text.split()))[0].rstrip(".:;") + "."


if __name__ == "__main__":
    main()
