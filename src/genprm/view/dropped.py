"""What a run did not pass on, by stage and reason, with examples of what was written instead."""

from __future__ import annotations

from textwrap import indent

from pydantic import BaseModel, ConfigDict

from genprm.errors import StoreError
from genprm.records import Example
from genprm.store import RunReader


class DroppedReason(BaseModel):
    """What one stage dropped for one reason.

    Attributes:
        count: how many items or samples.
        details: what the first ones say more, each once.
        examples: texts of the first ones that have any.
    """

    model_config = ConfigDict(frozen=True)

    stage: str
    reason: str
    count: int
    details: tuple[str, ...] = ()
    examples: tuple[Example, ...] = ()


def dropped_reasons(
    reader: RunReader, stage: str | None = None, reason: str | None = None, examples: int = 3
) -> list[DroppedReason]:
    """What was dropped, the commonest reason of each stage first. Unfinished stages count as far as they are.

    Args:
        stage: this one alone.
        reason: this one alone.
        examples: texts and details to give for each reason, at most.

    Raises:
        StoreError: there is no such stage, shards of it are damaged, or nothing was dropped for this reason.
    """
    stages = [stage] if stage is not None else [summary.stage for summary in reader.stages()]
    found: dict[tuple[str, str], DroppedReason] = {}
    for name in stages:
        for row in reader.dropped(name, partial=not reader.summary(name).complete):
            known = found.get((name, row.reason)) or DroppedReason(stage=name, reason=row.reason, count=0)
            details = dict.fromkeys([*known.details, *([row.detail] if row.detail else [])])
            found[name, row.reason] = known.model_copy(
                update={
                    "count": known.count + row.count,
                    "details": tuple(details)[:examples],
                    "examples": (*known.examples, *row.examples)[:examples],
                }
            )
    chosen = [one for one in found.values() if reason in (None, one.reason)]
    if reason is not None and not chosen:
        known_reasons = ", ".join(sorted({one.reason for one in found.values()})) or "none"
        raise StoreError(
            f"nothing was dropped for the reason '{reason}' in {reader.path}",
            hint=f"Reasons there: {known_reasons}.",
        )
    return sorted(chosen, key=lambda one: (stages.index(one.stage), -one.count))


def dropped_text(reasons: list[DroppedReason]) -> str:
    """Reasons as plain text."""
    if not reasons:
        return "nothing was dropped\n"
    parts = []
    for one in reasons:
        lines = [f"{one.stage}: {one.reason} {one.count}"]
        lines += [indent(detail, "    ") for detail in one.details]
        for example in one.examples:
            lines += [f"    {example.id}:", indent(example.text.strip(), " " * 8)]
        parts.append("\n".join(lines))
    return ("\n\n" if any("\n" in part for part in parts) else "\n").join(parts) + "\n"
