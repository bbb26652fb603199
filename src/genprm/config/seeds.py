"""The seeds that all libraries here take."""

from __future__ import annotations

from genprm.errors import ConfigError

LAST_SEED = 2**32 - 1
"""numpy's bound, which transformers passes every seed to."""


def check_seed(seed: int) -> int:
    """The seed itself.

    Raises:
        ConfigError: it is no whole number from 0 to `LAST_SEED`.
    """
    if not isinstance(seed, int) or not 0 <= seed <= LAST_SEED:
        raise ConfigError(
            f"the seed cannot be {seed!r:.40}", hint=f"give a whole number from 0 to {LAST_SEED}"
        )
    return seed
