"""A verifier that is fine-tuned with the cards beside it: how it wants to be asked, and what it was made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from genprm.config import TrainConfig, VerifyConfig
from genprm.records import TrainingSample
from genprm.rewards.genprm.card import write_card
from genprm.text.prompts import CARD, VerifierProfile, load_profile
from genprm.training import TrainProgress, TrainReport, require_components, train
from genprm.training.processes import is_first_process
from genprm.view.model_card import keep_model_card


def fine_tune(
    samples: Sequence[TrainingSample],
    options: TrainConfig,
    folder: str | Path,
    *,
    verify: VerifyConfig | None,
    seed: int,
    run: Path | None = None,
    on_progress: Callable[[TrainProgress], None] | None = None,
    on_repair: Callable[[str], None] | None = None,
) -> TrainReport:
    """`genprm.training.train`, and the cards of the model.

    A model that was finished before keeps its README.md, and without `verify` its `genprm.json`.

    Args:
        verify: how the model will be asked; the defaults unless given.
        run: the run directory with the samples.

    Raises:
        ConfigError, DataError, MissingExtraError, TrainingError: as `train`.
    """
    asked = verify or VerifyConfig()
    require_components(samples, options.form, asked.components)
    report = train(
        samples,
        options,
        folder,
        profile=load_profile(asked.profile, VerifierProfile),
        seed=seed,
        on_progress=on_progress,
        on_repair=on_repair,
    )
    if is_first_process():
        if verify is not None or not (Path(folder) / CARD).is_file():
            write_card(Path(folder), asked, form=options.form)
        keep_model_card(folder, run=run)
    return report
