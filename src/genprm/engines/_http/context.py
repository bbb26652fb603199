"""Budgets that fit the context: how many tokens are left behind a prompt."""

from __future__ import annotations

import threading
from typing import Any

from genprm.engines._http.discovery import Facts
from genprm.engines._http.failures import OVERFLOW_HINT
from genprm.engines._http.servers import Server
from genprm.engines._http.transport import Transport
from genprm.engines.base import estimated_tokens
from genprm.errors import ContextOverflow, EngineProtocolError, EngineRequestError

# Prompts shorter than this say little about tokens per byte.
_TELLING_BYTES = 400
_MARGIN = 1.15
_EXTRA_TOKENS = 16


class Context:
    """The context of the servers' model, and how prompts fill it.

    No prompt has more tokens than bytes (and a few), and how many it has is learned from what servers count. So most
    prompts are known to fit without asking; for the others the server counts once, before the request.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._facts: Facts | None = None
        self._per_byte = 0.0  # the most tokens per byte of a prompt so far; 0 before the first
        self._lock = threading.Lock()
        self.cut = 0
        """How many budgets were made smaller."""

    def meet(self, facts: Facts) -> None:
        """Learn the size of the context, and how the servers count."""
        self._facts = facts

    def learn(self, prompt: str, tokens: int | None) -> None:
        """Note how many tokens a server counted in a prompt, if it did."""
        size = len(prompt.encode("utf-8", "replace"))
        if tokens is not None and size >= _TELLING_BYTES and tokens > self._per_byte * size:
            self._per_byte = tokens / size

    def estimate(self, text: str) -> int:
        """About how many tokens a text has that nobody counted: by what prompts had, else as usual."""
        return estimated_tokens(text, self._per_byte)

    async def budget(
        self,
        server: Server,
        prompt: str,
        wanted: int,
        *,
        chat: dict[str, Any] | None = None,
        exact: bool = False,
    ) -> int:
        """Tokens that may be asked for behind a prompt, at most as many as are wanted.

        Args:
            prompt: the text; of a chat that the server renders, its turns.
            chat: the fields of such a chat, by which the server counts it.
            exact: let the server count although the prompt seems to fit.

        Raises:
            ContextOverflow: nothing is left behind the prompt.
        """
        facts = self._facts
        if facts is None or facts.context is None or (not exact and self._seems_to_fit(prompt, wanted)):
            return wanted
        count = await self._count(server, facts, prompt, chat)
        if count is None:
            return wanted
        left = facts.context - count
        if left < 1:
            raise ContextOverflow(
                f"a prompt of {count} tokens fills the context of {facts.context} tokens of {facts.model} "
                f"at {server.url}",
                hint=OVERFLOW_HINT,
            )
        if left < wanted:
            with self._lock:
                self.cut += 1
        return min(left, wanted)

    def _seems_to_fit(self, prompt: str, wanted: int) -> bool:
        assert self._facts is not None and self._facts.context is not None
        room = self._facts.context - wanted - _EXTRA_TOKENS
        # A character has at most 4 bytes.
        if 4 * len(prompt) <= room:
            return True
        size = len(prompt.encode("utf-8", "replace"))
        return size * min(1.0, self._per_byte * _MARGIN or 1.0) <= room

    async def _count(
        self, server: Server, facts: Facts, prompt: str, chat: dict[str, Any] | None
    ) -> int | None:
        """The tokens of a prompt as the server counts them; None if it does not."""
        body: dict[str, Any] = {"model": facts.model, **(chat or {"prompt": prompt})}
        if facts.kind == "llama.cpp" and chat is None:
            body = {"content": prompt, "add_special": True, "parse_special": True}
        elif facts.kind == "vllm":
            body["add_special_tokens"] = False
        elif facts.kind != "sglang" or chat is not None:
            return None
        try:
            tokens = (await self._transport.post(server, "/tokenize", body)).get("tokens")
        except (EngineRequestError, EngineProtocolError):
            return None
        return len(tokens) if isinstance(tokens, list) else None
