"""API keys: kept as hashes, compared in constant time."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
import secrets
from collections.abc import Mapping

from genprm.errors import ConfigError

_HASH = re.compile(r"[0-9a-f]{64}")


class KeyRing:
    """The keys that a server takes.

    Args:
        hashes: from a name to the SHA-256 of its key, in hexadecimal.

    Raises:
        ConfigError: something that is no such hash; the message does not repeat it, as it may be a key.
    """

    def __init__(self, hashes: Mapping[str, str]) -> None:
        for name, value in hashes.items():
            if not _HASH.fullmatch(value):
                raise ConfigError(
                    f"serve.api_keys.{name} is no SHA-256 in lower-case hexadecimal",
                    hint="'genprm serve --new-key NAME' makes a key and prints its hash.",
                )
        self._hashes = {name: bytes.fromhex(value) for name, value in hashes.items()}

    def __bool__(self) -> bool:
        return bool(self._hashes)

    def owner(self, key: str) -> str | None:
        """The name of a key, or None. Every hash is compared, whichever fits."""
        digest = hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
        found = None
        for name, known in self._hashes.items():
            if hmac.compare_digest(digest, known):
                found = name
        return found


def new_key() -> tuple[str, str]:
    """A random key and its hash."""
    key = f"gp-{secrets.token_urlsafe(32)}"
    return key, hashlib.sha256(key.encode()).hexdigest()


def check_address(host: str, keys: KeyRing, *, open_without_keys: bool) -> None:
    """Refuse to listen where others can reach a server that asks for no key.

    Raises:
        ConfigError: it would.
    """
    if keys or open_without_keys or _is_loopback(host):
        return
    raise ConfigError(
        f"the server would listen on {host}, and anyone who reaches it could use it",
        hint="Set serve.api_keys ('genprm serve --new-key NAME' makes a key), listen on 127.0.0.1, or set "
        "serve.open_without_keys=true if something else keeps others out.",
    )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
