"""A sandbox from a config section."""

from __future__ import annotations

from genprm.config.models import SandboxConfig
from genprm.sandbox.base import Limits
from genprm.sandbox.isolated import IsolatedSandbox


def make_sandbox(config: SandboxConfig, tier: str) -> IsolatedSandbox:
    """The sandbox that a config describes; it starts when it is entered or first used.

    Args:
        config: limits, boxes, and the tier if the user chose one.
        tier: the tier if `config` names none, usually that of the domain.

    Raises:
        ConfigError: an unknown tier.
    """
    return IsolatedSandbox(
        config.tier or tier,
        workers=config.workers,
        limits=Limits(
            soft_seconds=config.soft_seconds,
            hard_seconds=config.hard_seconds,
            cpu_seconds=config.hard_seconds,
            memory_mb=config.memory_mb,
        ),
        allow_unsandboxed=config.allow_unsandboxed,
        seed=0,  # code that draws random numbers gives the same output in every run
    )
