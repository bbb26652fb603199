"""A server: its address, and what is known about its health."""

from __future__ import annotations

import base64
import ipaddress
import time
import urllib.request
from dataclasses import dataclass, field
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

from genprm.errors import ConfigError

_URL_HINT = "give base_urls in the form http://HOST:PORT"
_LONGEST_REST = 60.0


@dataclass(slots=True)
class Server:
    """One base URL with what is known about its health.

    Attributes:
        url: without a trailing slash, without `/v1`, and without a user name and password, so that messages may show
            it.
        headers: sent with every request; they hold secrets.
        proxy: through which it is reached, as the environment says.
        in_flight: exchanges under way.
        failures: failures in a row; a server with any is avoided until it answers a probe.
        down_until: `time.monotonic()` before which it is not probed.
    """

    url: str
    headers: dict[str, str] = field(default_factory=dict, repr=False)
    proxy: str | None = field(default=None, repr=False)
    in_flight: int = 0
    failures: int = 0
    down_until: float = 0.0

    @classmethod
    def at(cls, url: str, api_key: str | None) -> Server:
        """The server at a URL; without a scheme, `http` is meant.

        A user name and password in the URL are sent in place of the key.

        Raises:
            ConfigError: something that is not the URL of a server.
        """
        text = url.strip()
        parts = _split(text if "://" in text else f"http://{text}", url)
        authority = parts.netloc.rpartition("@")[2]
        path = parts.path.rstrip("/").removesuffix("/v1").rstrip("/")
        headers = {"Content-Type": "application/json"}
        if parts.username is not None or parts.password is not None:
            pair = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
            headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        elif api_key:
            headers["Authorization"] = f"Bearer {api_key}"
        bare = urlunsplit((parts.scheme, authority, path, "", ""))
        return cls(bare, headers, _proxy(parts))

    def failed(self, rest: float | None = None) -> None:
        """Leave it alone for a while: as long as it asked for, or longer after each failure in a row.

        Exchanges that fail while it rests were under way together and count as one failure.
        """
        if self.failures and time.monotonic() < self.down_until:
            return
        self.failures += 1
        doubled = min(30.0, 0.5 * 2.0 ** min(self.failures - 1, 8))
        self.down_until = time.monotonic() + (doubled if rest is None else min(rest, _LONGEST_REST))

    def answered(self) -> None:
        """Forget earlier failures."""
        self.failures = 0
        self.down_until = 0.0


def _split(text: str, given: str) -> SplitResult:
    try:
        parts = urlsplit(text)
        wrong = parts.port == 0  # also raises for what is no port
    except ValueError as error:
        raise ConfigError(f"'{given}' is not a URL: {error}", hint=_URL_HINT) from None
    host = parts.hostname
    if wrong or parts.scheme not in ("http", "https") or not host or any(c.isspace() for c in text):
        raise ConfigError(f"'{given}' is not the URL of a server", hint=_URL_HINT)
    return parts


def _proxy(parts: SplitResult) -> str | None:
    """The proxy that the environment names for a server; this machine is always reached directly."""
    host = parts.hostname or ""
    try:
        local = ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = host == "localhost" or host.endswith(".localhost")
    if local or urllib.request.proxy_bypass(parts.netloc.rpartition("@")[2]):
        return None
    proxies = urllib.request.getproxies()
    found = proxies.get(parts.scheme) or proxies.get("all")
    if found and urlsplit(found if "://" in found else f"http://{found}").scheme not in ("http", "https"):
        raise ConfigError(
            f"the environment names a proxy for {host} that is not an HTTP proxy",
            hint=f"set HTTP_PROXY to an HTTP proxy, or add {host} to NO_PROXY",
        )
    return found or None
