"""What each key may use: requests and tokens per minute as leaky buckets, and requests at the same time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from genprm.config import KeyLimits
from genprm.errors import Overloaded
from genprm.records import Usage
from genprm.serve.callers import Caller

ANY = "*"
_MINUTE = 60.0
_CROWDED_SECONDS = 1.0


class Bucket:
    """Fills at `rate` per minute up to one minute's worth, at least 1; may be drawn below zero."""

    def __init__(self, rate: float, clock: Callable[[], float]) -> None:
        self._rate, self._clock = rate, clock
        self._most = max(1.0, rate)
        self._level, self._at = self._most, clock()

    def take(self, amount: float) -> None:
        """Draw, whatever is there."""
        self._fill()
        self._level -= amount

    def wait(self, wanted: float) -> float:
        """Seconds until so much is there; 0 if it is."""
        self._fill()
        return max(0.0, (wanted - self._level) * _MINUTE / self._rate)

    def _fill(self) -> None:
        now = self._clock()
        self._level = min(self._most, self._level + (now - self._at) * self._rate / _MINUTE)
        self._at = now


class _Account:
    """One key's use."""

    def __init__(self, limits: KeyLimits, clock: Callable[[], float]) -> None:
        requests, tokens = limits.requests_per_minute, limits.tokens_per_minute
        self.requests = Bucket(requests, clock) if requests is not None else None
        self.tokens = Bucket(tokens, clock) if tokens is not None else None
        self.concurrency = limits.concurrency
        self.inside = 0

    def free(self) -> int | None:
        """How many more requests may be inside now; None if that is not bounded."""
        return None if self.concurrency is None else self.concurrency - self.inside

    def charge(self, usage: Usage) -> None:
        """Work that was done has cost this."""
        if self.tokens is not None:
            self.tokens.take(usage.prompt_tokens + usage.completion_tokens)

    def enter(self, name: str) -> None:
        """Take a request on, or raise `Overloaded`."""
        who = f"the key '{name}'" if name else "a caller without a key"
        if self.concurrency is not None and self.inside >= self.concurrency:
            raise Overloaded(
                f"{who} may have {self.concurrency} requests at the same time", retry_after=_CROWDED_SECONDS
            )
        # One token has to be there: what a request will cost is not known when it comes.
        for bucket, what in ((self.tokens, "tokens"), (self.requests, "requests")):
            seconds = bucket.wait(1.0) if bucket is not None else 0.0
            if seconds > 0:
                raise Overloaded(f"{who} has used up its {what} for now", retry_after=seconds)
        if self.requests is not None:
            self.requests.take(1.0)
        self.inside += 1


class Limits:
    """The limits of all keys.

    Args:
        limits: by the name of a key, `*` for every other one.
        clock: seconds.
    """

    def __init__(
        self, limits: Mapping[str, KeyLimits], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._limits, self._clock = limits, clock
        self._accounts: dict[str, _Account] = {}

    @contextmanager
    def using(self, name: str) -> Iterator[Caller]:
        """A context in which a key's request is answered; gives whom its work is charged to.

        Raises:
            Overloaded: the key has no more to use for now; `retry_after` says for how long.
        """
        limits = self._limits.get(name) or self._limits.get(ANY)
        if limits is None:
            yield Caller(name)
            return
        account = self._accounts.setdefault(name, _Account(limits, self._clock))
        account.enter(name)
        caller = Caller(name, account.charge, account.free)
        try:
            yield caller
        finally:
            account.inside -= 1
            caller.inside = False
