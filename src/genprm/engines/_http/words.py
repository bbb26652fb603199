"""Token ids of words, for servers that give the log-probabilities of tokens which are named."""

from __future__ import annotations

from genprm.aio import Once
from genprm.engines._common.spellings import spellings
from genprm.engines._http.discovery import Facts
from genprm.engines._http.servers import Server
from genprm.engines._http.transport import Transport
from genprm.errors import EngineProtocolError, EngineRequestError


class Words:
    """Finds the tokens that are a word, in its usual spellings, and asks a server for each once.

    Only vLLM takes token ids so far (`logprob_token_ids`). What was answered stays known when a later question fails: a
    request that is tried again gets further each time.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._known: dict[tuple[str, ...], Once[tuple[int, ...]]] = {}
        self._tokens: dict[str, int | None] = {}

    async def ids(self, server: Server, facts: Facts, words: tuple[str, ...]) -> tuple[int, ...]:
        """The tokens of some words; none if the server does not say, or if a word is no single token."""
        if not words or facts.kind != "vllm":
            return ()
        known = self._known.setdefault(words, Once())
        return await known.get(lambda: self._find(server, facts.model, words))

    async def _find(self, server: Server, model: str, words: tuple[str, ...]) -> tuple[int, ...]:
        found: set[int] = set()
        try:
            for word in words:
                tokens = [await self._token(server, model, spelling) for spelling in spellings(word)]
                if tokens[0] is None:
                    return ()
                found |= {token for token in tokens if token is not None}
        except (EngineRequestError, EngineProtocolError):
            return ()
        return tuple(sorted(found))

    async def _token(self, server: Server, model: str, text: str) -> int | None:
        """The one token of a text; None if it has several."""
        if text not in self._tokens:
            body = {"model": model, "prompt": text, "add_special_tokens": False}
            tokens = (await self._transport.post(server, "/tokenize", body)).get("tokens")
            alone = tokens[0] if isinstance(tokens, list) and len(tokens) == 1 else None
            self._tokens[text] = alone if type(alone) is int else None
        return self._tokens[text]
