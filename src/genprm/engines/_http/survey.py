"""What a server can do, found out with a few small requests; for `genprm doctor`."""

from __future__ import annotations

from typing import Any, Literal

from genprm.engines._http.answers import end_unstated
from genprm.engines._http.asking import CONTINUES_CHATS, remedy
from genprm.engines._http.discovery import Facts
from genprm.engines._http.logprobs import RawTokens
from genprm.engines._http.servers import Server
from genprm.engines._http.transport import Transport
from genprm.errors import EngineError, EngineProtocolError, EngineRequestError

State = Literal["yes", "no", "taken", "refused", "not shown"]
"""`taken`: without a complaint, which says nothing of what becomes of it; `not shown`: by this model's answer."""

_COUNT = [
    {"role": "user", "content": "Count from 1 to 9, with commas."},
    {"role": "assistant", "content": "1, 2, 3, 4,"},
]

_COUNTS = ("prompt_tokens", "completion_tokens")


async def survey(transport: Transport, server: Server, facts: Facts) -> dict[str, Any]:
    """Facts about a server: what it has, and what it does when it is tried.

    Returns:
        `server`, `models`, `model`, `context` (None if it does not say), `log_probabilities` by endpoint (None if the
        endpoint does not answer), `extensions` with a `State` each, `continues_turns`, `turns_remedy` (empty if a begun
        turn is sent to this kind of server), `counts_tokens`, and `problems`: why an endpoint does not answer.

    Raises:
        EngineError: the server stopped answering.
    """
    tried = _Tried(transport, server, facts.model)
    completions = None
    if facts.kind != "ollama":
        completions = await tried.logprobs("/v1/completions", {"prompt": "1, 2, 3,", "logprobs": 3})
    turns = {"messages": _COUNT[:1], "logprobs": True, "top_logprobs": 3}
    chat = await tried.logprobs("/v1/chat/completions", turns)
    extensions: dict[str, State] = {}
    if completions is not None:
        extensions = {name: await tried.extension(name) for name in _TRIALS}
    continues: State = "no" if chat is None else await tried.continuation(facts)
    return {
        "server": facts.kind,
        "models": list(facts.models),
        "model": facts.model,
        "context": facts.context,
        "log_probabilities": {"completions": completions, "chat": chat},
        "extensions": extensions,
        "turns_remedy": "" if facts.kind in CONTINUES_CHATS else remedy(facts.kind),
        "continues_turns": continues,
        "counts_tokens": tried.counts_tokens,
        "problems": tried.problems,
    }


_TRIALS: dict[str, dict[str, Any]] = {
    "top_k": {"top_k": 5},
    "add_special_tokens": {"add_special_tokens": False},
    "include_stop_str_in_output": {"include_stop_str_in_output": True, "stop": [","], "max_tokens": 8},
}


class _Tried:
    """Small requests to one server, and why some were refused."""

    def __init__(self, transport: Transport, server: Server, model: str) -> None:
        self._transport = transport
        self._server = server
        self._base: dict[str, Any] = {"model": model, "max_tokens": 1, "temperature": 0.0}
        self.problems: dict[str, str] = {}
        self.counts_tokens = False

    async def _choice(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = await self._transport.post(self._server, path, self._base | body)
        usage = answer.get("usage")
        counted = isinstance(usage, dict) and all(map(usage.get, _COUNTS))
        self.counts_tokens |= counted
        choices = answer.get("choices")
        if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
            raise EngineProtocolError(f"{self._server.url}{path} answered without choices")
        if not counted and choices[0].get("finish_reason") is None:
            self.problems["ends of texts"] = end_unstated(self._server.url).message
        return choices[0]

    async def logprobs(self, path: str, body: dict[str, Any]) -> bool | None:
        """Whether an endpoint gives log-probabilities; None if it does not answer."""
        try:
            choice = await self._choice(path, body)
        except (EngineRequestError, EngineProtocolError) as error:
            self.problems[path] = error.message
            return None
        given = choice.get("logprobs")
        return bool(given) and len(RawTokens(given, 1).along(" ")) > 0

    async def extension(self, name: str) -> State:
        """What becomes of a parameter that is no part of OpenAI's API."""
        try:
            choice = await self._choice("/v1/completions", {"prompt": "1, 2, 3,", **_TRIALS[name]})
        except (EngineRequestError, EngineProtocolError):
            return "refused"
        if name != "include_stop_str_in_output" or choice.get("finish_reason") != "stop":
            return "taken"
        return "yes" if str(choice.get("text", "")).endswith(",") else "no"

    async def continuation(self, facts: Facts) -> State:
        """Whether the chat endpoint continues a turn that the assistant has begun."""
        body: dict[str, Any] = {"messages": _COUNT, "max_tokens": 8}
        if facts.kind in CONTINUES_CHATS:
            body |= {"continue_final_message": True, "add_generation_prompt": False}
        try:
            choice = await self._choice("/v1/chat/completions", body)
        except EngineError as error:
            self.problems["a begun turn"] = error.message
            return "refused"
        message = choice.get("message")
        text = message.get("content") if isinstance(message, dict) else None
        said = text.removeprefix(_COUNT[1]["content"]).lstrip() if isinstance(text, str) else ""
        if said.startswith("5"):
            return "yes"
        return "taken" if facts.kind in CONTINUES_CHATS else "not shown"
