r"""Solutions with step labels, in the layouts that data sets of process reward models have.

| layout | fields of a row |
|---|---|
| `genprm` | those of `LabelledSolution` |
| `stepwise` | `prompt`, `completions` (the steps), `labels` (true, false, 1, 0 or null for each) |
| `prm800k` | `question`, `process` (each step ends with the mark ` ки`), `labels` |
| `math-shepherd` | `input` (problem and steps, each ending with ` ки`) and `label` (the same with `+` or `-`) |
| `processbench` | `problem`, `steps`, `label` (index of the first wrong step, or -1): later steps are unknown |
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from genprm.errors import ConfigError
from genprm.identity import content_key
from genprm.records import NO_ERROR, LabelledSolution
from genprm.sources.chats import COLUMNS as CHAT_COLUMNS
from genprm.sources.counted import CountedRows, Unusable, text_of, writable
from genprm.sources.presets import row_id
from genprm.sources.row import Row, shown
from genprm.sources.rows import rows_of
from genprm.sources.unique import HashSet, hash_of
from genprm.text.counts import counted

T = TypeVar("T")
MARK = "ки"
"""The mark behind each step in PRM800K's and Math-Shepherd's training layouts."""

_FIELDS: dict[str, frozenset[str]] = {
    "genprm": frozenset({"schema_version", "problem", "steps", "labels"}),
    "stepwise": frozenset({"prompt", "completions", "labels"}),
    "prm800k": frozenset({"question", "process", "labels"}),
    "math-shepherd": frozenset({"input", "label"}),
    "processbench": frozenset({"problem", "steps", "label"}),
}
LAYOUTS = tuple(_FIELDS)
_LABELS: dict[Any, bool | None] = {True: True, False: False, -1: False, "+": True, "-": False, None: None}
_NUMBER = re.compile(r"^Step ?:? *(\d+) *:")
_FIRST_STEP = re.compile(r"(?:^|\s)(?=Step 1:)")


def iterate_labelled(
    path: str | Path, split: str = "train", *, layout: str = "auto"
) -> CountedRows[LabelledSolution]:
    """Labelled solutions of a file, of standard input (`-`) or of a hub data set (`hub:ID`), in its order.

    A row that cannot be used is left out and counted by its reason, and so is one that repeats problem, steps and
    labels of an earlier one. An id that several rows have, such as that of their problem, stays with the first of them.

    Args:
        split: of a hub data set.
        layout: one of `LAYOUTS`; `auto` goes by each row's fields.

    Raises:
        ConfigError: an unknown layout.
        DataError: there is nothing to read; while iterating, a source that cannot be read or that has no usable row.
    """
    if layout != "auto" and layout not in _FIELDS:
        raise ConfigError(f"there is no layout '{layout}'", hint=f"Known: auto, {', '.join(LAYOUTS)}.")
    source = str(path)

    def read(row: Row) -> LabelledSolution:
        return read_labelled(row, source, layout)

    return CountedRows(source, rows_of(source, split), read, content_of, OwnIds())


def content_of(row: object) -> str | None:
    """What a labelled solution says, whatever its id; None for rows of another kind, which may repeat each other."""
    if not isinstance(row, LabelledSolution):
        return None
    return content_key(row.problem, list(row.steps), list(row.labels))


class OwnIds:
    """Gives a row whose id an earlier row has the id of its content, as rows without an id have it.

    If that is taken as well, by other labels for the same steps, the labels are a part of it.
    """

    def __init__(self) -> None:
        self._seen = HashSet()

    def __call__(self, row: T) -> T:
        """The row with an id of its own; rows of another kind stay as they are."""
        if not isinstance(row, LabelledSolution) or self._seen.add(hash_of(row.id)):
            return row
        for own in (content_key(row.problem, list(row.steps)), content_of(row) or ""):
            if self._seen.add(hash_of(own)):
                return row.model_copy(update={"id": own})
        return row


def read_labelled(row: Row, source: str, layout: str = "auto") -> LabelledSolution:
    """The labelled solution of a row; see `iterate_labelled`.

    Raises:
        Unusable: it holds none.
    """
    chosen = _layout(row) if layout == "auto" else layout
    missing = sorted(_FIELDS[chosen] - row.values.keys())
    if missing:
        raise Unusable("missing_field", f"the layout '{chosen}' has a field '{missing[0]}'")
    return _READERS[chosen](row, source)


def _layout(row: Row) -> str:
    for name, fields in _FIELDS.items():
        if fields <= row.values.keys():
            return name
    if CHAT_COLUMNS & row.values.keys():
        raise Unusable(
            "chats",
            "the row is a training chat and holds no labels",
            "'genprm train' trains a verifier on chats",
        )
    raise Unusable(
        "unknown_layout", f"the row has the fields {', '.join(sorted(map(str, row.values))) or 'none'}"
    )


def _genprm(row: Row, source: str) -> LabelledSolution:
    try:
        found = LabelledSolution.model_validate(dict(row.values))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise Unusable("no_record", f"{place}: {first['msg']}" if place else first["msg"]) from None
    text_of(row, "problem", "no_problem")
    _require_text(found.steps)
    for name in ("id", "problem_id", "source"):
        writable(getattr(found, name), f"field '{name}'")
    return found


def _stepwise(row: Row, source: str) -> LabelledSolution:
    problem = text_of(row, "prompt", "no_problem")
    return _made(row, source, problem, row.values["completions"], row.values["labels"])


def _prm800k(row: Row, source: str) -> LabelledSolution:
    problem = text_of(row, "question", "no_problem")
    steps, rest = _marked(text_of(row, "process", "no_steps"))
    if rest:
        raise Unusable("step_without_mark", f"text behind the last '{MARK}': {shown(rest)}")
    return _made(row, source, problem, steps, row.values["labels"])


def _math_shepherd(row: Row, source: str) -> LabelledSolution:
    given, labelled = text_of(row, "input", "no_steps"), text_of(row, "label", "no_labels")
    start = _FIRST_STEP.search(given)
    if start is None or not given[: start.start()].strip():
        raise Unusable("no_problem", "field 'input' has no text before 'Step 1:'")
    parts = given.split(MARK)
    if parts[-1].strip():
        raise Unusable("step_without_mark", f"text behind the last '{MARK}': {shown(parts[-1].strip())}")
    labels, position = [], 0
    for part in parts[:-1]:
        position += len(part)
        if (
            labelled[position - len(part) : position] != part
            or labelled[position : position + 1] not in "+-"
        ):
            raise Unusable(
                "labels_do_not_match", "field 'label' is not field 'input' with + and - for marks"
            )
        labels.append(labelled[position : position + 1])
        position += 1
    steps, _ = _marked(given[start.end() :])
    return _made(row, source, given[: start.start()].strip(), steps, labels)


def _processbench(row: Row, source: str) -> LabelledSolution:
    problem, steps, first = text_of(row, "problem", "no_problem"), row.values["steps"], row.values["label"]
    if not isinstance(first, int) or isinstance(first, bool) or not isinstance(steps, list):
        raise Unusable("no_labels", f"field 'label' is {shown(first)}, not the index of a step")
    if not NO_ERROR <= first < len(steps):
        raise Unusable("labels_do_not_match", f"label {first} (from 0) of {counted(len(steps), 'step')}")
    right = len(steps) if first == NO_ERROR else first
    labels: list[bool | None] = [*[True] * right, False, *[None] * len(steps)]
    return _made(row, source, problem, steps, labels[: len(steps)])


_READERS: dict[str, Callable[[Row, str], LabelledSolution]] = {
    "genprm": _genprm,
    "stepwise": _stepwise,
    "prm800k": _prm800k,
    "math-shepherd": _math_shepherd,
    "processbench": _processbench,
}


def _marked(text: str) -> tuple[list[str], str]:
    """The steps in front of the marks, and what stands behind the last one."""
    *steps, rest = (part.strip() for part in text.split(MARK))
    return [_NUMBER.sub(r"Step \1:", step) for step in steps], rest


def _made(row: Row, source: str, problem: str, steps: Any, labels: Any) -> LabelledSolution:
    if not isinstance(steps, list) or not steps:
        raise Unusable("no_steps", "there is no list of steps, or it is empty")
    _require_text(steps)
    if not isinstance(labels, list) or len(labels) != len(steps):
        found = counted(len(labels), "label") if isinstance(labels, list) else "no list of labels"
        raise Unusable("labels_do_not_match", f"{counted(len(steps), 'step')}, but {found}")
    problem, known = problem.strip(), []
    for number, label in enumerate(labels, start=1):
        if isinstance(label, float) or not isinstance(label, int | str | None) or label not in _LABELS:
            raise Unusable("strange_label", f"the label of step {number} is {shown(label)}")
        known.append(_LABELS[label])
    return LabelledSolution(
        id=row_id(row) or content_key(problem, steps),
        problem=problem,
        steps=tuple(steps),
        labels=tuple(known),
        source=source,
    )


def _require_text(steps: Sequence[Any]) -> None:
    for number, step in enumerate(steps, start=1):
        if not isinstance(step, str) or not step.strip():
            raise Unusable("blank_step", f"step {number} holds no text")
        writable(step, f"step {number}")
