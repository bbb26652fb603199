"""Model cards: what a trained folder holds, what it was trained on and how, and what was measured of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from genprm.errors import ConfigError
from genprm.records import Report, Share
from genprm.store import write_atomic
from genprm.view.data_card import origin_of, origin_rows, two_columns

CARD = "README.md"
_GENERATIVE, _DISCRIMINATIVE = "genprm_training.json", "genprm_prm_training.json"
_GRPO, _DPO = "genprm_grpo_training.json", "genprm_dpo_training.json"
_UNKNOWN = "not recorded"
_SHOWN = 5
_UNFIT = {
    "control_token": "held a control token of the model",
    "rewritten": "would have been rewritten by its chat template",
}


def keep_model_card(folder: str | Path, *, run: str | Path | None = None) -> None:
    """Write README.md beside a trained model, unless there is one: it may say what was measured, or what its owner wrote.

    Training removes the one of an earlier training of the folder.
    """
    if not (Path(folder) / CARD).exists():
        write_model_card(folder, run=run)


def write_model_card(
    folder: str | Path, *, run: str | Path | None = None, report: Report | None = None
) -> None:
    """Write README.md beside a trained model's weights. See `model_card`."""
    text = model_card(Path(folder), run=run, report=report)
    write_atomic(Path(folder) / CARD, text.encode())


def model_card(folder: Path, *, run: str | Path | None = None, report: Report | None = None) -> str:
    """A card in Markdown with a hub's front matter. What nobody recorded is called so.

    What a model was started from and how it was trained is in its own report; the config of a run would say how one of
    its models was, and nobody knows whether it was this one.

    Args:
        folder: a folder that one of the training commands or a run wrote.
        run: the run directory with the data.
        report: what was measured, for example by `genprm eval`.

    Raises:
        ConfigError: the folder holds no trained model.
    """
    for marker in (_DISCRIMINATIVE, _GRPO, _DPO, _GENERATIVE):
        if (folder / marker).is_file():
            facts = _read(folder / marker)
            break
    else:
        raise ConfigError(
            f"{folder} holds no model that genprm trained",
            hint=f"Give a folder with {_GENERATIVE} or {_DISCRIMINATIVE}.",
        )
    if marker == _DISCRIMINATIVE:
        head, data, training = _discriminative(facts)
    elif marker in (_GRPO, _DPO):
        head, data, training = _further(folder, facts, marker)
    else:
        head, data, training = _generative(folder, facts)
    made = {} if run is None else origin_rows(origin_of(run))
    # A run's stages have names, such as `labels`, that also say what this model was given.
    data |= {f"stage {name}" if name in data else name: text for name, text in made.items()}
    parts = [
        head,
        f"## Data\n\n{two_columns(data) if data else 'Not recorded beside the model.'}",
        f"## Training\n\n{two_columns(training)}",
        f"## Evaluation\n\n{_evaluation(report)}",
    ]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _discriminative(facts: dict[str, Any]) -> tuple[str, dict[str, str], dict[str, str]]:
    options = facts["options"]
    separator = json.dumps(options["separator"])
    head = f"""---
library_name: transformers
pipeline_tag: token-classification
tags: [process-reward-model, genprm]
---

# A discriminative process reward model

Two classes, `wrong` (0) and `right` (1), read at each step's last token. The text is the problem, `{separator}`, step 1,
`{separator}`, step 2, `{separator}`, and so on. Every part is tokenized by itself; a step is judged at the last token of
the separator behind it. The reward is the softmax probability of `right`.

    genprm verify --model FOLDER --problem TEXT --solution TEXT"""
    data = {
        "solutions": f"{facts['solutions']:,}",
        "left out": f"{facts['dropped_unlabelled']:,} without a label, {facts['dropped_too_long']:,} too long",
        "steps": f"{facts['right_steps']:,} right, {facts['wrong_steps']:,} wrong, "
        f"{facts['unknown_steps']:,} unknown, {facts['cut_steps']:,} cut off",
        "loss on": {
            "all": "all labelled steps",
            "to_first_error": "labelled steps up to the first wrong one",
        }[options["steps"]],
        "labels": _labels(facts),
    }
    return (
        head,
        data,
        {
            "started from": facts["model"],
            **_options(options, _batch(options, facts["solutions"])),
            **_job(facts),
        },
    )


def _labels(facts: dict[str, Any]) -> str:
    sources = facts.get("sources") or []
    more = [f"{len(sources) - _SHOWN} more"] if len(sources) > _SHOWN else []
    return "; ".join([*sources[:_SHOWN], *more]) or _UNKNOWN


def _generative(folder: Path, facts: dict[str, Any]) -> tuple[str, dict[str, str], dict[str, str]]:
    left_out = [f"{facts.get('dropped_too_long', _UNKNOWN)} more were too long"]
    left_out += [
        f"{count} {_UNFIT[reason]}" for reason, count in (facts.get("dropped_unfit") or {}).items()
    ]
    data = {"chats": ", ".join([str(facts.get("samples", _UNKNOWN)), *left_out])}
    if facts.get("components"):
        data["components"] = ", ".join(f"{name} {count}" for name, count in facts["components"].items())
    options = facts.get("options")
    training = _job(facts)
    if facts.get("ended_by") == "seconds":
        training["optimizer steps"] += f" of {facts['planned_steps']:,}: the budget in seconds was over"
    how = {} if options is None else _options(options, _batch(options, facts["samples"]))
    return _writer(folder), data, {"started from": facts.get("model") or _UNKNOWN, **how, **training}


def _further(
    folder: Path, facts: dict[str, Any], marker: str
) -> tuple[str, dict[str, str], dict[str, str]]:
    """A verifier that was trained on its own rollouts or its own votes."""
    options = facts["options"]
    data = {"labels": _labels(facts)}
    if marker == _GRPO:
        turns = {name: sum(step[name] for step in facts["outcomes"]) for name in facts["outcomes"][0]}
        data |= {
            "solutions": f"{facts['solutions']:,}, {facts['dropped_unlabelled']:,} more had no label",
            "turns": ", ".join(f"{count:,} {name}" for name, count in turns.items()),
        }
        how = f"GRPO, {options['paths']} paths per solution, temperature {options['temperature']:g}"
        batch = f"{min(options['solutions'], facts['solutions'])} solutions"
        course = f"mean reward {course_of(facts['rewards'])}"
        figure = "; ".join(filter(None, [course, facts.get("warning")]))
    else:
        counts = ", ".join(f"{count:,} {name}" for name, count in facts["counts"].items())
        data |= {
            "pairs": f"{facts['pairs']:,}, {facts['dropped_too_long']:,} more were too long, "
            f"{facts.get('dropped_unfit', 0):,} did not fit the prompts",
            "votes": counts,
        }
        how = f"DPO, beta {options['beta']:g}"
        batch = f"{_batch(options, facts['pairs'])} pairs"
        figure = f"margin {facts['margins'][0]:.3f} to {facts['margins'][-1]:.3f}"
    training = {
        "started from": facts["model"],
        "method": how,
        "course": figure,
        **_options(options, batch),
        **_job(facts),
    }
    return _writer(folder), data, training


def course_of(rewards: Sequence[float | None]) -> str:
    """The mean rewards of the first and the last optimizer step; one without a known reward is unknown."""
    first, last = ("unknown" if reward is None else f"{reward:.3f}" for reward in (rewards[0], rewards[-1]))
    return f"{first} in the first step, {last} in the last"


def _writer(folder: Path) -> str:
    """The head of the card of a model that writes before it judges."""
    card = _read(folder / "genprm.json") if (folder / "genprm.json").is_file() else {}
    direct = card.get("form") == "direct"
    writes = "answers Yes or No about" if direct else _what_it_writes(card.get("verify", {}))
    return f"""---
library_name: transformers
pipeline_tag: text-generation
tags: [process-reward-model, genprm]
---

# A generative process reward model{", direct form" if direct else ""}

It {writes} each step of a solution; the reward is p(Yes) / (p(Yes) + p(No)) at the judgement. `genprm.json` holds the
prompt profile and the budgets that it was trained for.

    genprm verify --model FOLDER --problem TEXT --solution TEXT"""


def _what_it_writes(asked: dict[str, Any]) -> str:
    """What a verifier does with a step, by the components that it is asked for."""
    components = asked.get("components")
    if components is None:
        return "writes about and then judges"
    parts = ["analyses"] if "cot" in components else []
    if "code" in components:
        how = "executed Python" if "execution" in components else "Python that is not executed"
        parts.append(f"checks with {how}")
    return f"{', '.join(parts)}{',' if len(parts) > 1 else ''} and then judges"


def _batch(options: dict[str, Any], rows: int) -> str:
    """What an optimizer step took: no more rows than there were."""
    return str(min(options["batch_size"], rows))


def _options(options: dict[str, Any], batch: str) -> dict[str, str]:
    rank = options["lora_rank"]
    return {
        "batch": f"{batch} per optimizer step",
        "learning rate": f"{options['learning_rate']:g}, {options['schedule']}",
        "adapters": f"LoRA of rank {rank}, merged into the weights" if rank else "none: all weights",
    }


def _job(facts: dict[str, Any]) -> dict[str, str]:
    losses = facts.get("losses") or []
    last = losses[-10:]
    loss = (
        f"{losses[0]:.4f} in the first step, {sum(last) / len(last):.4f} in the last ones"
        if losses
        else _UNKNOWN
    )
    return {
        "optimizer steps": str(facts.get("steps", _UNKNOWN)),
        "precision": f"{facts.get('precision') or facts.get('dtype') or _UNKNOWN}, on {facts.get('device', _UNKNOWN)}",
        "loss, nats": loss,
        "seed": str(facts.get("seed", _UNKNOWN)),
        "versions": ", ".join(f"{name} {value}" for name, value in facts.get("versions", {}).items()),
        "job": str(facts.get("job", _UNKNOWN)),
    }


def _evaluation(report: Report | None) -> str:
    found = report.benchmark if report is not None else None
    if report is None or found is None:
        return (
            "Not measured by the training job. `genprm eval processbench FILES --model FOLDER` measures it, and\n"
            "`genprm card FOLDER --report report.json` writes the result here."
        )
    lines = [
        f"{found.name} with {found.model.name}, in percent with 95 % intervals "
        f"({report.provenance.date}, seed {report.seed}).",
        "",
        "| split | votes | F1 | error accuracy | correct accuracy | solutions |",
        "|---|---|---|---|---|---|",
    ]
    for split, by_votes in {**found.splits, "average": found.average}.items():
        for votes, row in by_votes.items():
            shares = " | ".join(map(_share, (row.f1, row.error_accuracy, row.correct_accuracy)))
            lines.append(f"| {split} | {votes} | {shares} | {row.erroneous + row.correct} |")
    return "\n".join(lines)


def _share(share: Share) -> str:
    if share.value is None:
        return f"unknown: {share.reason}"
    if share.low is None or share.high is None:
        return f"{share.value:.1f}"
    return f"{share.value:.1f} [{share.low:.1f}, {share.high:.1f}]"


def _read(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read: {error}", hint="Train the model anew.") from error
    return found
