"""Problems, one at a time."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from genprm.config.models import ProblemsConfig
from genprm.errors import ConfigError, DataError
from genprm.identity import content_key
from genprm.records import Problem
from genprm.sources.counted import Unusable
from genprm.sources.labelled import read_labelled
from genprm.sources.overlap import EvaluationSets
from genprm.sources.presets import PRESETS, Preset, row_id
from genprm.sources.registry import ProblemSource, known_sources, may_be_registered, registered_source
from genprm.sources.row import HUB_PREFIX, Row, no_rows
from genprm.sources.rows import can_be_read_again, locate, rows_of
from genprm.sources.screening import Screen, check_screen
from genprm.sources.unique import Placed, with_unique_ids

_ROLES = ("id", "text", "answer")
LABELLED = "labelled"
"""The preset of labelled solutions: problems that bring one solution and its labels along, in their metadata."""


def iterate_problems(options: ProblemsConfig, seed: int = 0) -> Iterator[Problem]:
    """The problems of a file, a hub data set or a registered source, in its order: those of the first `options.limit`
    that are not left out as `options.decontaminate` and `options.near_duplicates` say.

    A problem's id is the row's own, or a hash of its text and answer; ids are unique.

    Args:
        seed: of the generator, for a registered source.

    Raises:
        ConfigError: at once, if no source is named, or for an unknown preset or column role.
        DataError: at once, if there is no such source; later for a row that cannot be used, for a second row with
            one id, and if there are no rows at all.
        MissingExtraError: at once, if near duplicates are to be left out and the extra `data` is not installed.
    """
    return (problem for problem in screened_problems(options, seed) if problem.left_out is None)


def screened_problems(
    options: ProblemsConfig, seed: int = 0, sets: EvaluationSets | None = None
) -> Iterator[Problem]:
    """The problems of `iterate_problems`, and among them those that are left out, which say why (`Problem.left_out`).

    Args:
        sets: those of `options.decontaminate`, if they were read before.

    Raises:
        ConfigError, DataError, MissingExtraError: as `iterate_problems` does; an evaluation set is read with the first
            problem.
    """
    found = _all_problems(options, seed)
    if not options.decontaminate and options.near_duplicates is None:
        return found
    check_screen(options.decontaminate, options.near_duplicates)
    return _screened(found, options, sets)


def _screened(
    problems: Iterator[Problem], options: ProblemsConfig, sets: EvaluationSets | None
) -> Iterator[Problem]:
    known = EvaluationSets(options.decontaminate) if sets is None else sets
    yield from Screen(known, options.near_duplicates).marked(problems)


def _all_problems(options: ProblemsConfig, seed: int) -> Iterator[Problem]:
    if not options.source:
        raise ConfigError(
            "no problems are named",
            hint=f"set problems.source to a file, {HUB_PREFIX}ID or one of {', '.join(known_sources())}",
        )
    generate = registered_source(options.source)
    if generate is not None:
        return _problems(options, lambda: _generated(generate, options, seed), again=True)
    read = _read_labelled if options.preset == LABELLED else _reader(_preset(options))
    _check_place(options.source)
    again = can_be_read_again(options.source)
    return _problems(options, lambda: read(options), again=again)


def load_problems(
    source: str | Path | ProblemsConfig,
    *,
    preset: str = "plain",
    columns: Mapping[str, str] | None = None,
    split: str = "train",
    limit: int | None = None,
    seed: int = 0,
) -> list[Problem]:
    """All problems of a source: `load_problems("gsm8k.jsonl", preset="gsm8k")`.

    Args:
        source: a file, `hub:ID`, `-` for standard input, or a registered source; or a config section, which says
            all that the other arguments say.
        preset: how rows become problems: a key of `PRESETS`.
        columns: from `id`, `text` and `answer` to column names, in place of the preset's.
        split: of a hub data set or a registered source.
        limit: at most so many problems, the first ones.
        seed: of the generator, for a registered source.

    Raises:
        ConfigError, DataError: as `iterate_problems` does.
        TypeError: a config section is given, and arguments that it holds as well.
    """
    given: dict[str, Any] = {"preset": preset, "columns": columns, "split": split, "limit": limit}
    if isinstance(source, ProblemsConfig):
        defaults = {"preset": "plain", "columns": None, "split": "train", "limit": None}
        twice = [name for name, value in given.items() if value != defaults[name]]
        if twice:
            raise TypeError(f"'{twice[0]}' belongs in the ProblemsConfig that is given")
        return list(iterate_problems(source, seed))
    try:
        options = ProblemsConfig(source=str(source), **{**given, "columns": dict(columns or {})})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = ".".join(map(str, first["loc"]))
        raise ConfigError(f"load_problems: {name} cannot be {first['input']!r}: {first['msg']}") from None
    return list(iterate_problems(options, seed))


def _problems(
    options: ProblemsConfig, rows: Callable[[], Placed[Problem]], *, again: bool
) -> Iterator[Problem]:
    found = False
    for problem in itertools.islice(with_unique_ids(rows, again=again), options.limit):
        found = True
        yield problem
    if not found:
        raise no_rows(options.source)


def _generated(generate: ProblemSource, options: ProblemsConfig, seed: int) -> Placed[Problem]:
    for number, problem in enumerate(generate(options, seed), start=1):
        row = Row(f"{options.source} problem {number}", {})
        for what, text in (("id", problem.id), ("text", problem.text), ("answer", problem.answer)):
            row.encodable(text or "", f"the {what}")
        yield problem.id, row.place, problem


def _reader(preset: Preset) -> Callable[[ProblemsConfig], Placed[Problem]]:
    def read(options: ProblemsConfig) -> Placed[Problem]:
        for row in rows_of(options.source, options.split, preset.hub_config):
            problem = _problem(row, preset, options)
            yield problem.id, row.place, problem

    return read


def _read_labelled(options: ProblemsConfig) -> Placed[Problem]:
    for row in rows_of(options.source, options.split):
        try:
            found = read_labelled(row, options.source)
        except Unusable as problem:
            raise DataError(
                f"{row.place}: this is no labelled solution: {problem}",
                hint="'genprm import' leaves such rows out, and counts them",
            ) from None
        brought = {"steps": list(found.steps), "labels": list(found.labels)}
        yield (
            found.id,
            row.place,
            Problem(id=found.id, text=found.problem, source=options.source, metadata=brought),
        )


def _problem(row: Row, preset: Preset, options: ProblemsConfig) -> Problem:
    columns = options.columns
    text = (row.text(columns["text"]) if "text" in columns else preset.text(row)).strip()
    answer = preset.answer_from(row, columns["answer"]) if "answer" in columns else preset.answer(row)
    identifier = row_id(row, columns.get("id")) or content_key(text, answer)
    return Problem(id=identifier, text=text, answer=answer, source=options.source)


def _preset(options: ProblemsConfig) -> Preset:
    unknown = sorted(set(options.columns) - set(_ROLES))
    if unknown:
        raise ConfigError(
            f"problems.columns: unknown role '{unknown[0]}'",
            hint="the roles are id, text and answer, for example {text: question}",
        )
    if options.preset not in PRESETS:
        raise ConfigError(
            f"problems.preset: unknown preset '{options.preset}'",
            hint=_meant(options.preset, [*PRESETS, LABELLED]),
        )
    return PRESETS[options.preset]


def _check_place(source: str) -> None:
    """Raise before the first row is wanted if there is nothing to read."""
    if source.startswith(HUB_PREFIX) or source == "-":
        return
    try:
        locate(source)
    except DataError as error:
        if not may_be_registered(source):
            raise
        raise DataError(error.message, hint=f"{_meant(source, known_sources())}; {error.hint}") from error


def _meant(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean '{near[0]}'?" if near else f"known: {', '.join(known)}"
