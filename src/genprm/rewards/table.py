"""The table of rewards that a config's `roles.verifier` may name by their kind, in place of an engine for GenPRM."""

from __future__ import annotations

from typing import Any, Protocol, cast

from genprm.config.models import EngineConfig, VerifyConfig
from genprm.engines.identity import engine_identity, options_identity
from genprm.engines.table import check_factory_options, check_options
from genprm.errors import ConfigError
from genprm.plugins import resolve
from genprm.rewards.base import IncrementalReward

REWARDS: dict[str, str] = {
    "discriminative": "genprm.rewards.discriminative.reward:DiscriminativeReward",
}
_SET_ELSEWHERE = {"threshold": "verify.threshold", "concurrency": "concurrency"}


class CheckedReward(IncrementalReward, Protocol):
    """A reward that finds out by itself whether it can work."""

    async def check(self) -> None:
        """Raise `ConfigError` or `EngineError` if it cannot."""
        ...


def is_reward(config: EngineConfig) -> bool:
    """Whether a config names a reward, and not an engine that GenPRM asks."""
    return config.kind in REWARDS


def make_reward(config: EngineConfig, options: VerifyConfig, concurrency: int) -> CheckedReward:
    """The reward that a config describes. Of the options its threshold counts; the others are about what models write.

    Raises:
        ConfigError: an unknown option, one that is missing, or votes that this reward has not.
    """
    check_judge(config, options)
    factory = _factory(config.kind)
    made = factory(**config.options, threshold=options.threshold, concurrency=concurrency)
    return cast("CheckedReward", made)


def check_judge(config: EngineConfig, options: VerifyConfig) -> None:
    """Raise what is wrong with the config of a verifier's engine or of a reward, without making it.

    Raises:
        ConfigError: an unknown kind or option, or one that is missing; or options that the reward cannot follow.
    """
    if not is_reward(config):
        check_options(config.kind, config.options, REWARDS)
        return
    for name, key in _SET_ELSEWHERE.items():
        if name in config.options:
            raise ConfigError(f"the reward '{config.kind}' has no option '{name}'", hint=f"Set {key}.")
    check_factory_options(f"reward '{config.kind}'", _factory(config.kind), config.options)
    if options.votes != 1:
        raise ConfigError(
            f"the reward '{config.kind}' gives the same value every time: {options.votes} votes make no sense",
            hint="Set verify.votes to 1.",
        )


def judge_identity(config: EngineConfig) -> list[Any]:
    """What decides the verdicts of an engine or of a reward; see `engine_identity`."""
    if not is_reward(config):
        return engine_identity(config)
    return options_identity(config.kind, _factory(config.kind), config.options)


def _factory(kind: str) -> Any:
    return resolve(REWARDS[kind], "the reward")
