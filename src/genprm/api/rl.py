"""Training a verifier beyond imitation: on its own rollouts (GRPO), and on its own votes (DPO)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from genprm.api.given import given_rows
from genprm.api.models import given_section
from genprm.config import DpoConfig, GrpoConfig, VerifyConfig, load_config
from genprm.config.load import merged, read_sections
from genprm.config.rl import FurtherTraining
from genprm.engines import resolve_model
from genprm.errors import DataError
from genprm.records import LabelledSolution, Verification
from genprm.rewards.genprm.card import verify_values, write_card
from genprm.sources import Row, read_rows
from genprm.store import RunReader
from genprm.text.prompts import VerifierProfile, load_profile
from genprm.training.rl import (
    DpoProgress,
    DpoReport,
    GrpoReport,
    StepFigures,
    preference_pairs,
)
from genprm.training.rl import train_dpo as fit_dpo
from genprm.training.rl import train_grpo as fit_grpo
from genprm.view.model_card import keep_model_card

_VOTES_HINT = "Give a run directory with verifications, or what 'genprm verify --json' printed."
OptionsT = TypeVar("OptionsT", bound=FurtherTraining)


def train_grpo(
    rows: Iterable[LabelledSolution],
    folder: str | Path,
    options: GrpoConfig | None = None,
    *,
    seed: int = 0,
    progress: Callable[[StepFigures], None] | None = None,
    on_repair: Callable[[str], None] | None = None,
    **changes: Any,
) -> GrpoReport:
    """Train a fine-tuned verifier further by GRPO: it verifies labelled solutions, and its verdicts are rewarded.

    A turn is rewarded if its one verdict is the step's label (`right`), less if not (`wrong`), least if it gives none or
    several (`malformed`). A turn lost to an engine or sandbox fault, and a step without a label, count for nothing. The
    folder then is a model for `genprm.verify`. Called again with the same arguments it returns the finished model's
    report, or resumes a job that was killed. A model that was damaged is trained again.

    Args:
        rows: for example `genprm.load_labelled("runs/first")`.
        folder: gets model, tokenizer, model card and report.
        options: everything about the training; `changes` are keys of it, such as `model="..."`. Its section `verify` is
            what the model's folder asks for unless given.
        seed: of the order of the solutions, and of all sampling.
        progress: called after every optimizer step.
        on_repair: called if the model is damaged, with one sentence about it.

    Raises:
        MissingExtraError: the extra `train` is not installed.
        ConfigError: a wrong option or seed.
        DataError: what is given are no labelled solutions.
        TrainingError: no usable model or label, a control token of the model in a solution, a chat template that asks
            otherwise than it trains, a folder that holds something else, a step whose every rollout was lost to faults,
            or a loss that is not finite.
    """
    given = given_rows(rows, LabelledSolution, "load_labelled")
    chosen = with_card(GrpoConfig, options, changes)
    report = fit_grpo(given, chosen, folder, seed=seed, on_step=progress, on_repair=on_repair)
    _write_cards(folder, chosen)
    return report


def train_dpo(
    verifications: Iterable[Verification],
    rows: Iterable[LabelledSolution],
    folder: str | Path,
    options: DpoConfig | None = None,
    *,
    seed: int = 0,
    progress: Callable[[DpoProgress], None] | None = None,
    on_repair: Callable[[str], None] | None = None,
    **changes: Any,
) -> DpoReport:
    """Train a fine-tuned verifier further by DPO: votes for a step's label are preferred to votes against it.

    Steps on which all votes agree or none does give no pair; the report counts them. See `train_grpo` for the folder.

    Args:
        verifications: with several votes by the model that is trained, for example those of `genprm.verify_many`.
        rows: the labels of the solutions that were verified, under the same ids.
        options: everything about the training; `changes` are keys of it. Its section `verify` is what the model's folder
            asks for unless given.
        seed: of the order of the pairs.
        progress: called after every optimizer step.
        on_repair: called if the model is damaged, with one sentence about it.

    Raises:
        MissingExtraError: the extra `train` is not installed.
        ConfigError: a wrong option or seed.
        DataError: what is given are no verifications or labelled solutions; verifications of other steps than the
            labelled ones, or of another form than the model's.
        TrainingError: no usable model, no pair, a folder that holds something else, or a loss that is not finite.
    """
    votes = given_rows(verifications, Verification, "load_verifications")
    given = given_rows(rows, LabelledSolution, "load_labelled")
    chosen = with_card(DpoConfig, options, changes)
    profile = load_profile(chosen.verify.profile, VerifierProfile)
    pairs = preference_pairs(votes, given, profile, chosen)
    report = fit_dpo(pairs, chosen, folder, seed=seed, on_step=progress, on_repair=on_repair)
    _write_cards(folder, chosen)
    return report


def load_verifications(source: str | Path) -> list[Verification]:
    """Verifications with their votes: those of a run, or of a file that `genprm verify --json` wrote.

    Args:
        source: a run directory whose stage `verifications` is complete; a file of one JSON record per line, or `-`.

    Raises:
        StoreError: no run, or one without verifications.
        DataError: a file that cannot be read or holds none, or a row that is no verification.
    """
    if Path(source).is_dir():
        found = _with_history(Path(source), RunReader(source).rows("verifications"))
    else:
        found = [_verification(row) for row in read_rows(source)]
    if not found:
        raise DataError(f"{source}: no verifications", hint=_VOTES_HINT)
    return found


def _with_history(run: Path, rows: Iterable[Verification]) -> list[Verification]:
    """Rows of a run; those that an earlier version wrote have the history of the run's config."""
    config = run / "config.yaml"
    verify = read_sections(config).get("verify") if config.is_file() else None
    history = verify.get("history") if isinstance(verify, dict) else None
    return [row.model_copy(update={"history": history}) if row.history is None else row for row in rows]


def _verification(row: Row) -> Verification:
    try:
        return Verification.model_validate(row.values)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise DataError(
            f"{row.place}: this is not a verification: {place}: {first['msg']}", hint=_VOTES_HINT
        ) from None


def with_card(section: type[OptionsT], options: OptionsT | None, changes: dict[str, Any]) -> OptionsT:
    """The options with the changes, on what the model's folder asks to be verified with."""
    asked = given_section(options, section, "the options of training")
    given = asked.model_dump(mode="json", exclude_unset=True) if asked is not None else {}
    changed = {
        key: value.model_dump(mode="json", exclude_unset=True) if isinstance(value, VerifyConfig) else value
        for key, value in changes.items()
    }
    values = merged(given, changed, section)
    model = values.get("model")
    card = verify_values(resolve_model(model)) if isinstance(model, str) and model else {}
    verify = values.get("verify")
    if isinstance(verify, dict) or verify is None:
        values["verify"] = merged(card, verify or {}, VerifyConfig)
    return load_config(None, model=section, base=values)


def _write_cards(folder: str | Path, options: FurtherTraining) -> None:
    direct = options.verify.components == "direct"
    write_card(Path(folder), options.verify, form="direct" if direct else "rationale")
    keep_model_card(folder)
