"""What a server is and which model it has, found out from what it says about itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from genprm.engines._http.failures import AccessRefused
from genprm.engines._http.servers import Server
from genprm.engines._http.transport import Transport
from genprm.errors import EngineError, EngineProtocolError, EngineRequestError

Kind = Literal["vllm", "sglang", "llama.cpp", "ollama", "unknown"]

_KINDS: dict[str, Kind] = {
    "vllm": "vllm",
    "sglang": "sglang",
    "llamacpp": "llama.cpp",
    "library": "ollama",
}
_CONTEXT_KEYS = ("max_model_len", "context_length", "context_window", "max_context_length")


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known about the servers of an engine, which are equal.

    Attributes:
        model: the name to ask for.
        models: all names that are listed; empty if there is no list.
        context: tokens of prompt and completion together; None if the server does not say.
        props: what llama.cpp says about itself: its chat template, its special tokens.
    """

    kind: Kind
    model: str
    models: tuple[str, ...] = ()
    context: int | None = None
    props: dict[str, Any] = field(default_factory=dict)


async def discover(transport: Transport, server: Server, model: str | None) -> Facts:
    """Ask a server what it is.

    Args:
        model: the name that the caller gave, if any.

    Raises:
        EngineRequestError: the model is not there, or none is named and none is listed.
        EngineError: the server does not answer.
    """
    entries, problem = await _listing(transport, server)
    names = tuple(entries)
    if model is None:
        if not names:
            said = f" ({problem.message})" if problem is not None else ""
            raise EngineProtocolError(
                f"{server.url} lists no model{said}",
                hint="name the model with `model`",
                retryable=problem is not None and problem.retryable,
            )
        chosen = names[0]
    else:
        chosen = next((name for name in (model, f"{model}:latest") if name in entries), model)
    entry = entries.get(chosen) or next(iter(entries.values()), {})
    kind = await _kind(transport, server, names, entry)
    # llama.cpp has one model, whatever it is called.
    if names and chosen not in entries and kind != "llama.cpp":
        raise EngineRequestError(
            f"{server.url} has no model '{model}'", hint=f"it has: {', '.join(names[:8])}"
        )
    props = await _props(transport, server) if kind == "llama.cpp" else {}
    return Facts(kind, chosen, names, _context(entry, props), props)


async def _listing(
    transport: Transport, server: Server
) -> tuple[dict[str, dict[str, Any]], EngineError | None]:
    """The models by name, in order; or none, and why. A server without a list may still have the model."""
    problem: EngineError | None = None
    for _ in range(2):  # an answer that cannot be read may be a passing fault
        try:
            listing = await transport.get(server, "/v1/models")
        except EngineProtocolError as error:
            problem = error
            continue
        except AccessRefused:
            raise
        except EngineRequestError as error:
            return {}, error
        if isinstance(listing, dict):
            listing = listing.get("data") or listing.get("models")
        return _by_name(listing), None
    return {}, problem


def _by_name(listing: Any) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for entry in listing if isinstance(listing, list) else ():
        table = entry if isinstance(entry, dict) else {"id": entry}
        name = table.get("id") or table.get("name") or table.get("model")
        if isinstance(name, str) and name:
            found.setdefault(name, table)
    return found


async def _kind(
    transport: Transport, server: Server, names: tuple[str, ...], entry: dict[str, Any]
) -> Kind:
    owner = entry.get("owned_by")
    kind = _KINDS.get(owner.lower() if isinstance(owner, str) else "", "unknown")
    if kind == "unknown" and names and all(":" in name for name in names):
        # Ollama's names have tags, and it gives a model's publisher as its owner.
        try:
            about = await transport.get(server, "/api/version")
        except EngineRequestError:
            return kind
        if isinstance(about, dict) and isinstance(about.get("version"), str):
            return "ollama"
    return kind


async def _props(transport: Transport, server: Server) -> dict[str, Any]:
    try:
        props = await transport.get(server, "/props")
    except (EngineRequestError, EngineProtocolError):
        return {}
    return props if isinstance(props, dict) else {}


def _context(entry: dict[str, Any], props: dict[str, Any]) -> int | None:
    settings = props.get("default_generation_settings")
    values = [entry.get(key) for key in _CONTEXT_KEYS]
    values.insert(0, settings.get("n_ctx") if isinstance(settings, dict) else None)
    return next((value for value in values if type(value) is int and value > 0), None)
