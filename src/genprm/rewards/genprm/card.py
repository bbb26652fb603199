"""What a verifier's checkpoint wants to be asked with, kept as `genprm.json` beside its weights.

A model that was trained on one prompt profile and certain components, with short turns, is of no use with others or with
budgets beyond its context; so training writes them down, and whoever loads the folder starts from them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from genprm.config import VerifyConfig
from genprm.engines.budgets import declared_context
from genprm.errors import ConfigError
from genprm.text.prompts import CARD, VerifierProfile, load_profile

_REMEMBERED = ("components", "max_rounds", "max_tokens", "logprobs", "sampling", "threshold")


class VerifierCard(BaseModel):
    """The content of `genprm.json`.

    Attributes:
        profile: the prompt profile itself, not its name.
        verify: values of `VerifyConfig` to start from.
        form: `direct` for the Yes / No baseline.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    profile: VerifierProfile
    verify: dict[str, Any]
    form: Literal["rationale", "direct"] = "rationale"


def write_card(folder: Path, verify: VerifyConfig, *, form: Literal["rationale", "direct"]) -> None:
    """Write the card of a model that was trained for these options.

    Of a `max_tokens` that leaves no place for a prompt in the model's context, half of that context is remembered.
    """
    from genprm.store import write_atomic  # whoever only verifies has no use for run directories

    values = verify.model_dump(mode="json", include=set(_REMEMBERED))
    context = declared_context(folder)
    if context is not None and verify.max_tokens >= context:
        values["max_tokens"] = max(1, context // 2)
    if form == "direct":
        values["components"] = "direct"
    card = VerifierCard(profile=load_profile(verify.profile, VerifierProfile), verify=values, form=form)
    write_atomic(folder / CARD, card.model_dump_json(indent=1).encode() + b"\n")


def read_card(model: str) -> VerifierCard | None:
    """The card of a model's folder; None for a hub id, or a folder without one.

    Raises:
        ConfigError: the card cannot be read.
    """
    path = Path(model) / CARD
    if not path.is_file():
        return None
    try:
        return VerifierCard.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, ValidationError) as error:
        raise ConfigError(
            f"{path} cannot be read: {str(error).splitlines()[0]}",
            hint="Remove the file, and name the prompt profile with --profile.",
        ) from error


def verify_values(model: str) -> dict[str, Any]:
    """Values of `VerifyConfig` that a model's folder asks for; empty for a model without a card."""
    card = read_card(model)
    if card is None:
        return {}
    own = {"components": "direct"} if card.form == "direct" else {}
    return {**card.verify, **own, "profile": str(Path(model) / CARD)}
