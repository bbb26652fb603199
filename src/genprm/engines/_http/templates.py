"""Chat templates from a tokenizer directory, rendered with jinja2 alone (no transformers needed)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from genprm.errors import EngineError, EngineRequestError
from genprm.records import ChatMessage

_TOKENS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


class _Generation(Extension):
    """`{% generation %} ... {% endgeneration %}`: marks what the assistant wrote; the text stays as it is."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> nodes.Node:
        """The inside, in a scope of its own as in transformers."""
        line = next(parser.stream).lineno
        inside = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(inside, lineno=line)


class ChatTemplate:
    """A model's own chat template, rendered as transformers renders it.

    Args:
        source: a directory with `tokenizer_config.json` (and `chat_template.jinja` if the template
            has a file of its own).
    """

    def __init__(self, source: str | Path) -> None:
        folder = Path(source).expanduser()
        config = _read_config(folder)
        template = folder / "chat_template.jinja"
        text = template.read_text("utf-8") if template.is_file() else config.get("chat_template")
        if isinstance(text, list):
            text = next((entry["template"] for entry in text if entry.get("name") == "default"), None)
        if not text:
            raise EngineError(
                f"{folder} has no chat template",
                hint="give the tokenizer directory of an instruction-tuned model",
            )
        self._compile(text, {name: _content(config[name]) for name in _TOKENS if config.get(name)})

    @classmethod
    def from_text(cls, text: str, tokens: dict[str, str]) -> ChatTemplate:
        """A template given as text, with the special tokens that it may name.

        Raises:
            EngineError: the text is no template.
        """
        made = cls.__new__(cls)
        made._compile(text, tokens)
        return made

    def _compile(self, text: str, tokens: dict[str, str]) -> None:
        self._tokens = tokens
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
        )
        environment.filters["tojson"] = _to_json
        environment.globals["raise_exception"] = _raise
        environment.globals["strftime_now"] = lambda pattern: datetime.now().strftime(pattern)
        try:
            self._template = environment.from_string(text)
        except (jinja2.TemplateError, RecursionError) as error:
            raise EngineError(f"the chat template cannot be read: {error}") from error

    @property
    def bos(self) -> str:
        """The text of the token that starts a sequence; empty if there is none."""
        return self._tokens.get("bos_token", "")

    def render(self, messages: Sequence[ChatMessage], add_generation_prompt: bool) -> str:
        """The chat as one text, special tokens written out."""
        turns = [{"role": message.role, "content": message.content} for message in messages]
        try:
            return self._template.render(
                messages=turns,
                tools=None,
                documents=None,
                add_generation_prompt=add_generation_prompt,
                **self._tokens,
            )
        # A template is a program of somebody else's, which fails with whatever Python raises in it.
        except Exception as error:
            raise EngineRequestError(
                f"the model's chat template refuses these messages: {type(error).__name__}: {error}",
                hint="does the template take a system turn, and the roles in this order?",
            ) from error


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / "tokenizer_config.json"
    try:
        config = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise EngineError(
            f"cannot read {path}: {error}",
            hint="give `tokenizer` a directory that holds tokenizer_config.json",
        ) from error
    if not isinstance(config, dict):
        raise EngineError(f"{path} does not hold a JSON object")
    return config


def _content(token: Any) -> str:
    return str(token["content"]) if isinstance(token, dict) else str(token)


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Plain JSON: jinja2's own filter escapes for HTML."""
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _raise(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)
