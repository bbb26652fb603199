"""DPO of a verifier on pairs of its own votes (arXiv:2305.18290), on trl's `DPOTrainer`.

Each pair is encoded as training chats are: the loss is on the turns' own text, `[Code Output]` blocks left out. Read in
trl 1.16: its data set is prepared in `_prepare_dataset`, which would cut at `max_length` and know no mask inside of a
turn, so rows come here as token ids and masks, with a collator for them.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from genprm.config import DpoConfig, VerifyConfig
from genprm.config.seeds import check_seed
from genprm.engines import resolve_model
from genprm.engines._common.quiet import quiet
from genprm.errors import TrainingError
from genprm.identity import Decides, content_key, model_identity
from genprm.records import ChatMessage, TrainingSample
from genprm.text.prompts import VerifierProfile, load_profile
from genprm.training.chat_data import ChatEncoder
from genprm.training.finite import require_finite_loss
from genprm.training.folder import DPO_MARKER, JobFolder, OnRepair
from genprm.training.models import Loaded, require_extra, save_final
from genprm.training.processes import require_one_process
from genprm.training.prompt_check import PromptCheck, check_template
from genprm.training.report import NamedJobReport, library_versions
from genprm.training.resume import memory_named
from genprm.training.rl.pairs import Pair, Pairs
from genprm.training.rl.shared import NEUTRAL, WHAT, arguments, as_train_config, fit, load, trainer_like


@dataclass(frozen=True, slots=True)
class DpoProgress:
    """Where a job stands.

    Attributes:
        step: optimizer steps done, of `total`.
        loss: mean loss of the last step's pairs, in nats.
        margin: mean of beta * (log-ratio of the chosen turn - log-ratio of the rejected one) over the last step's pairs,
            before its update.
    """

    step: int
    total: int
    loss: float
    margin: float


class DpoReport(NamedJobReport):
    """What a job did.

    Attributes:
        pairs: trained on; `dropped_too_long` and `dropped_unfit` more were left out, the latter because a turn of theirs
            does not follow what inference renders.
        counts: what gave pairs and what did not, see `genprm.training.rl.pairs.Pairs`.
        losses, margins: of every optimizer step, see `DpoProgress`.
    """

    pairs: int
    dropped_too_long: int
    dropped_unfit: int = 0
    counts: dict[str, int]
    margins: tuple[float, ...]


def train_dpo(
    pairs: Pairs,
    options: DpoConfig,
    output_dir: str | Path,
    *,
    seed: int,
    on_step: Callable[[DpoProgress], None] | None = None,
    on_repair: OnRepair | None = None,
) -> DpoReport:
    """Train `options.model` on the pairs, and save model and tokenizer in `output_dir`.

    The report of a finished and intact folder is returned; a damaged one is trained again, and an unfinished one is
    resumed from its last checkpoint. Uses the GPU if there is one. One process, one device; without adapters it holds the
    model twice.

    Raises:
        MissingExtraError: the extra `train` is not installed.
        ConfigError: a seed out of bounds.
        TrainingError: no usable model or pair, a chat template that asks otherwise than it trains, a folder that is in
            use for something else, or a loss that is not finite.
    """
    started = time.monotonic()
    require_one_process(WHAT)
    profile = load_profile(options.verify.profile, VerifierProfile)
    folder = JobFolder(output_dir, _job_key(pairs, options, check_seed(seed)), DPO_MARKER, DpoReport)
    finished = folder.finished()
    if finished is not None:
        return finished
    require_extra()
    if not pairs.rows:
        counts = ", ".join(f"{name} {count}" for name, count in sorted(pairs.counts.items()))
        raise TrainingError(
            f"the votes give no pair ({counts or 'there are none'})", hint=_remedy(pairs.counts)
        )
    with quiet():
        loaded = load(options)
        direct = options.verify.components == "direct"
        check_template(loaded.tokenizer, profile, "direct" if direct else "rationale")
        encoded = encode_pairs(pairs.rows, loaded, profile, options)
        with folder.claimed(on_repair) as done:
            if done is not None:
                return done
            with memory_named():
                trainer = _make_trainer(
                    encoded.rows, options, loaded, folder.checkpoints, seed, on_step or (lambda _: None)
                )
            outcome = fit(trainer, folder.checkpoints, on_repair)
            save_final(outcome.model, loaded, folder.path, as_train_config(options))
            report = DpoReport(
                job=folder.job,
                model=options.model,
                options=options.model_dump(mode="json", exclude={"model"}),
                sources=pairs.sources,
                seed=seed,
                steps=len(outcome.logs),
                pairs=len(encoded.rows),
                dropped_too_long=encoded.too_long,
                dropped_unfit=encoded.unfit,
                counts=dict(pairs.counts),
                losses=tuple(entry["loss"] for entry in outcome.logs),
                margins=tuple(entry["rewards/margins"] for entry in outcome.logs),
                seconds=round(time.monotonic() - started, 3),
                resumed_from=outcome.resumed_from,
                device=outcome.device,
                precision=loaded.precision,
                versions=library_versions(),
                files=folder.checksums(),
            )
            folder.finish(report)
    return report


_REMEDIES = (
    (
        ("agreed", "disagreed"),
        "verify labelled solutions with more votes and verify.voting=all: a pair takes a vote for the label and one "
        "against it, and adaptive voting ends where votes agree",
    ),
    (("lost",), "votes were lost to faults: run 'genprm doctor', and verify again"),
    (
        ("malformed",),
        "no vote has exactly one verdict: verify with a larger verify.max_tokens, or fine-tune the model before",
    ),
    (
        ("unseen", "off_path"),
        "verify with verify.voting=all and verify.history=independent: no vote follows turns that are known and borne "
        "out by their labels",
    ),
    (("unlabelled",), "give step labels that are known: none of these steps has one"),
    (
        ("unmatched",),
        "give the labels of the solutions that were verified: a verification's item_id is the id of its labels, and none "
        "of them is",
    ),
)
"""What helps if no vote is in a pair, by the counts that say what kept them out; the first that is not 0 decides."""


def _remedy(counts: Counter[str]) -> str:
    found = (remedy for names, remedy in _REMEDIES if any(counts[name] for name in names))
    return next(found, "give verifications with several votes")


def _limit(options: DpoConfig, loaded: Loaded) -> int:
    return min(options.max_length, loaded.positions or options.max_length)


@dataclass(slots=True)
class EncodedPairs:
    """What a job's pairs became.

    Attributes:
        rows: of `chosen`, `chosen_mask`, `rejected` and `rejected_mask`: token ids of the whole chats, and 1 for the
            tokens of the last turn that carry the loss.
        too_long: pairs with a chat that is too long.
        unfit: pairs with a chat that does not begin with what inference renders, or that has a control token in it.
    """

    rows: list[dict[str, list[int]]] = field(default_factory=list)
    too_long: int = 0
    unfit: int = 0


def encode_pairs(
    pairs: Sequence[Pair], loaded: Loaded, profile: VerifierProfile, options: DpoConfig
) -> EncodedPairs:
    """The pairs as tokens. A turn is the model's own text, so that one which does not fit costs its pair and no more.

    Raises:
        TrainingError: no pair is left.
    """
    encoder, check = ChatEncoder(loaded.tokenizer), PromptCheck(loaded.tokenizer, profile)
    limit = _limit(options, loaded)
    found = EncodedPairs()
    fault: TrainingError | None = None
    for pair in pairs:
        try:
            row = _encode_pair(pair, encoder, check, options)
        except TrainingError as error:
            found.unfit += 1
            fault = fault or error
            continue
        if max(len(row["chosen"]), len(row["rejected"])) <= limit:
            found.rows.append(row)
        else:
            found.too_long += 1
    if found.rows:
        return found
    if fault is not None:
        others = f", {found.too_long} are longer than {limit} tokens" if found.too_long else ""
        raise TrainingError(
            f"none of {len(pairs)} pairs can be trained on{others}; {found.unfit} do not fit, the first because "
            f"{fault.message}",
            hint=fault.hint,
        )
    raise TrainingError(
        f"all {len(pairs)} pairs are longer than {limit} tokens",
        hint="raise max_length, or verify with a smaller verify.max_tokens",
    )


def _encode_pair(
    pair: Pair, encoder: ChatEncoder, check: PromptCheck, options: DpoConfig
) -> dict[str, list[int]]:
    row: dict[str, list[int]] = {}
    for name in ("chosen", "rejected"):
        answer = ChatMessage(role="assistant", content=getattr(pair, name))
        sample = TrainingSample(
            id=pair.id,
            solution_id="",
            problem_id="",
            conversations=(*pair.prompt, answer),
            form="direct" if options.verify.components == "direct" else "rationale",
            components=options.verify.components,
        )
        text, spans = encoder.spans_of(sample)
        check.check(sample, text)
        start = encoder.content_starts(sample.conversations)[1][-1]
        ids, owner = encoder.owners(text, [span for span in spans if span[0] >= start])
        row |= {name: ids.tolist(), f"{name}_mask": (owner >= 0).astype(int).tolist()}
    return row


def _collate(rows: Sequence[dict[str, list[int]]], pad: int) -> dict[str, Any]:
    """The chosen chats, then the rejected ones, padded on the right."""
    import torch

    sides = [(row[name], row[f"{name}_mask"]) for name in ("chosen", "rejected") for row in rows]
    width = max(len(ids) for ids, _ in sides)

    def padded(values: Sequence[int], fill: int) -> list[int]:
        return [*values, *[fill] * (width - len(values))]

    return {
        "input_ids": torch.tensor([padded(ids, pad) for ids, _ in sides]),
        "attention_mask": torch.tensor([padded([1] * len(ids), 0) for ids, _ in sides]),
        "completion_mask": torch.tensor([padded(mask, 0) for _, mask in sides]),
    }


def _make_trainer(
    rows: Sequence[dict[str, list[int]]],
    options: DpoConfig,
    loaded: Loaded,
    checkpoints: Path,
    seed: int,
    on_step: Callable[[DpoProgress], None],
) -> Any:
    from datasets import Dataset
    from transformers import PrinterCallback
    from trl import DPOConfig, DPOTrainer

    batch = min(options.batch_size, len(rows))
    micro = max(n for n in range(1, options.micro_batch_size + 1) if batch % n == 0)
    total = math.ceil(options.epochs * math.ceil(len(rows) / batch))
    pad = loaded.tokenizer.pad_token_id or 0

    class VoteTrainer(trainer_like(DPOTrainer, options, total)):  # type: ignore[misc]
        """Takes encoded pairs as they are, and reports every step."""

        def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
            return dataset

        def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
            super().log(logs, start_time)  # adds the figures of the step
            if "loss" not in logs:
                return
            step, loss = self.state.global_step, logs["loss"]
            require_finite_loss(loss, step)
            on_step(DpoProgress(step, total, loss, logs["rewards/margins"]))

    trainer = VoteTrainer(
        model=loaded.model,
        args=arguments(
            DPOConfig,
            options,
            loaded,
            checkpoints,
            seed,
            steps=total,
            micro=micro,
            accumulation=batch // micro,
            beta=options.beta,
            max_length=None,  # longer pairs are left out before
        ),
        data_collator=lambda batch_rows: _collate(batch_rows, pad),
        train_dataset=Dataset.from_list(list(rows)),
        processing_class=loaded.tokenizer,
        peft_config=loaded.adapters,
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def _job_key(pairs: Pairs, options: DpoConfig, seed: int) -> str:
    """Equal for equal pairs, options, seed and starting model, wherever that is stored."""
    if not options.model:
        raise TrainingError("no model to train is set", hint="set model to a model folder or a hub id")
    decides = Decides(
        profiles=load_profile(options.verify.profile, VerifierProfile),
        # The votes are there: of how they were taken, the components alone say what is trained.
        options=options.model_dump(
            mode="json", exclude={**NEUTRAL, "verify": VerifyConfig.model_fields.keys() - {"components"}}
        ),
        engine=model_identity(resolve_model(options.model)),
        seed=seed,
        more=[
            [pair.id, [[turn.role, turn.content] for turn in pair.prompt], pair.chosen, pair.rejected]
            for pair in pairs.rows
        ],
    )
    return content_key("dpo", decides.digest())
