"""What a run can find out before it calls anything: engines and options, token budgets, the model to train."""

from __future__ import annotations

from pathlib import Path

from genprm.config import EngineConfig, RunConfig, TrainConfig
from genprm.config.mistakes import all_mistakes
from genprm.engines import check_declared_budget, check_options, resolve_model
from genprm.errors import ConfigError
from genprm.rewards.table import check_judge, is_reward
from genprm.runs.stage import Chain
from genprm.training.models import check_hub_model, require_packages


def check_roles(config: RunConfig, chain: Chain) -> None:
    """Raise for engine kinds that nobody knows, options that they do not take, and budgets beyond their contexts.

    Args:
        chain: the stages whose budgets count.

    Raises:
        ConfigError: naming the roles; all wrong kinds and options at once.
    """
    roles = config.roles
    mistakes = []
    for name in ("policy", "completer", "teacher", "verifier"):
        role = getattr(roles, name)
        if role is None:
            continue
        try:
            if name == "verifier":
                check_judge(role, config.verify)
            else:
                check_options(role.kind, role.options)
        except ConfigError as error:
            mistakes.append(ConfigError(f"roles.{name}: {error.message}", hint=error.hint))
    if mistakes:
        raise all_mistakes("", mistakes)
    completer = roles.completer or roles.policy
    budgets: dict[str, tuple[EngineConfig | None, int]] = {
        "solutions": (roles.policy, config.solutions.max_tokens),
        "montecarlo": (completer, config.montecarlo.max_tokens),
        "rationales": (roles.teacher, config.rationales.max_tokens),
        "verifications": (roles.verifier, config.verify.max_tokens),
    }
    for stage in chain.stages:
        role, tokens = budgets.get(stage.name, (None, 0))
        if role is not None and not is_reward(role):
            section = "verify" if stage.name == "verifications" else stage.name
            check_declared_budget(role, tokens, f"{section}.max_tokens")


def check_components(config: RunConfig) -> None:
    """Raise if no chat of a run will have the components that the verifier is to be asked for.

    Raises:
        ConfigError: naming those that the chats will have; or chats of the direct form are to be trained as rationales.
    """
    shares = {name: share for name, share in config.chats.component_shares.items() if share}
    asked = config.verify.components
    if config.train.form == "direct":
        return
    if asked == "direct" or "direct" in shares:
        key = "verify.components" if asked == "direct" else "chats.component_shares"
        raise ConfigError(
            f"{key} names 'direct', which train.form=rationale cannot train",
            hint="Set train.form=direct, which makes judgements of all chats, or leave 'direct' out.",
        )
    if asked not in shares:
        most = max(shares, key=shares.__getitem__)
        raise ConfigError(
            f"the verifier will be asked for '{asked}', and chats.component_shares has none: {', '.join(shares)}",
            hint=f"Set verify.components={most}, or give '{asked}' a share.",
        )


def require_model(options: TrainConfig) -> None:
    """Raise before anything is computed if nothing could be trained in the end.

    Raises:
        ConfigError: `train.model` is not set, or names a file, or a folder that is not there or holds no model; or a
            tracker of `train.report_to` is not installed.
        MissingExtraError: a package that training needs is not installed.
    """
    if not options.model:
        raise ConfigError(
            "no model to train is named", hint="Set train.model, or stop before with --until chats."
        )
    model = resolve_model(options.model)
    folder = Path(model).expanduser()
    if folder.is_file():
        raise ConfigError(
            f"train.model: '{model}' is a file", hint="Give the folder of a model, or a hub id."
        )
    if (folder.is_absolute() or model.startswith(".")) and not folder.is_dir():
        raise ConfigError(f"train.model: there is no folder '{model}'", hint="Give a folder or a hub id.")
    if folder.is_dir() and not (folder / "config.json").is_file():
        raise ConfigError(
            f"train.model: the folder '{model}' holds no model: it has no config.json",
            hint="Give a folder that save_pretrained wrote, or a hub id.",
        )
    require_packages(options)


def ask_for_model(options: TrainConfig) -> None:
    """`require_model`, and ask the hub once for a model that is not on this machine.

    Raises:
        ConfigError: as `require_model` does; or the hub does not know the model, or cannot be reached.
    """
    require_model(options)
    model = resolve_model(options.model)
    if Path(model).expanduser().is_dir():
        return
    check_hub_model(model)
