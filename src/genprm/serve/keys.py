"""API keys: kept as hashes, compared in constant time."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ipaddress
import logging
import re
import secrets
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from genprm.config import ServeConfig
from genprm.config.plain_yaml import read_yaml
from genprm.errors import ConfigError

_LOG = logging.getLogger(__name__)
_LOOK_SECONDS = 1.0

_HASH = re.compile(r"[0-9a-f]{64}")


class KeyRing:
    """The keys that a server takes.

    Args:
        hashes: from a name to the SHA-256 of its key, in hexadecimal.
        place: where they stand, for messages.

    Raises:
        ConfigError: something that is no such hash; the message does not repeat it, as it may be a key.
    """

    def __init__(self, hashes: Mapping[str, str], place: str = "serve.api_keys.") -> None:
        for name, value in hashes.items():
            if not isinstance(value, str) or not _HASH.fullmatch(value):
                raise ConfigError(
                    f"{place}{name} is no SHA-256 in lower-case hexadecimal",
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


class Keys:
    """The keys that are taken now: those of the config, and those of a file that may change while the server runs.

    Attributes:
        reloads: by outcome, `taken` or `refused`.

    Raises:
        ConfigError: a key that is no hash, or a file that cannot be used.
    """

    def __init__(self, config: ServeConfig) -> None:
        self._fixed = config.api_keys
        self._file = Path(config.api_keys_file) if config.api_keys_file is not None else None
        self.reloads: Counter[str] = Counter()
        self._seen = self._look()
        self._ring = self._read()

    def __bool__(self) -> bool:
        """Whether a key is asked for: also when the file that is named holds none."""
        return self._file is not None or bool(self._ring)

    def owner(self, key: str) -> str | None:
        """The name of a key, or None."""
        return self._ring.owner(key)

    def reload(self) -> None:
        """Read the file again. One that cannot be used changes nothing, and the log says why."""
        self._seen = self._look()
        try:
            self._ring = self._read()
            self.reloads["taken"] += 1
        except ConfigError as error:
            self.reloads["refused"] += 1
            _LOG.error("the API keys stay as they were: %s", error.message)

    async def watch(self) -> None:
        """Look for changes of the file, until cancelled; return at once without a file."""
        while self._file is not None:
            await asyncio.sleep(_LOOK_SECONDS)
            if self._look() != self._seen:
                self.reload()

    def _look(self) -> tuple[int, int, int] | None:
        """What changes when the file does; None if it is not there."""
        try:
            found = self._file.stat() if self._file is not None else None
        except OSError:
            return None
        return (found.st_mtime_ns, found.st_size, found.st_ino) if found is not None else None

    def _read(self) -> KeyRing:
        if self._file is None:
            return KeyRing(self._fixed)
        hint = (
            "serve.api_keys_file names a YAML file of lines NAME: SHA-256 ('genprm serve --new-key NAME')."
        )
        try:
            found = read_yaml(self._file.read_text(encoding="utf-8"))
        except (OSError, ValueError):  # its words may repeat a key
            raise ConfigError(f"the keys' file {self._file} cannot be read", hint=hint) from None
        if not isinstance(found, dict | None):
            raise ConfigError(f"the keys' file {self._file} holds no mapping", hint=hint)
        added = {str(name): value for name, value in (found or {}).items()}
        twice = added.keys() & self._fixed.keys()
        if twice:
            raise ConfigError(f"the key '{min(twice)}' is in serve.api_keys and in {self._file}", hint=hint)
        KeyRing(self._fixed)
        return KeyRing({**self._fixed, **added}, f"{self._file}: ")


def new_key() -> tuple[str, str]:
    """A random key and its hash."""
    key = f"gp-{secrets.token_urlsafe(32)}"
    return key, hashlib.sha256(key.encode()).hexdigest()


def check_address(host: str, keys: Keys, *, open_without_keys: bool) -> None:
    """Refuse to listen where others can reach a server that asks for no key.

    Raises:
        ConfigError: it would.
    """
    if keys or open_without_keys or _is_loopback(host):
        return
    raise ConfigError(
        f"the server would listen on {host}, and anyone who reaches it could use it",
        hint="Set serve.api_keys or serve.api_keys_file ('genprm serve --new-key NAME' makes a key), listen on "
        "127.0.0.1, or set serve.open_without_keys=true if something else keeps others out.",
    )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
