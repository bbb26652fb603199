"""Data cards: what a file of labels or chats holds and how its run made it, as Markdown, JSON and charts beside it.

A card is made of the file, which is read back for it, and of what the run recorded; whenever it is made, it is the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from genprm.config import EngineConfig, read_run_config
from genprm.records import (
    NO_ERROR,
    DataCard,
    DataOrigin,
    LabelledSolution,
    SetContents,
    StageCounts,
    TrainingSample,
)
from genprm.sources import iterate_rows
from genprm.sources.problems import LABELLED
from genprm.sources.writing import Written
from genprm.store import RunReader, file_checksum, write_atomic, write_json
from genprm.text.counts import counted, counted_tokens
from genprm.text.transcript import parse_turn
from genprm.view.charts import Series, bars, stacked, standalone
from genprm.view.figures import figure

_STAGES = ("problems", "solutions", "montecarlo", "labels", "rationales", "consensus", "chats")
_LAST_PLACE = 12
_NAMES = {True: "right", False: "wrong", None: "unknown"}


def write_data_card(
    path: str | Path, layout: str, written: Written | None = None, run: str | Path | None = None
) -> Path:
    """Write a card beside a set: `NAME.card.md`, `.card.json`, and its charts as SVG; returns the Markdown's path.

    Args:
        path: the file, in a layout that `write_layout` writes.
        written: what `write_layout` said of it.
        run: the run directory that the rows come from.

    Raises:
        DataError: the file holds no rows that can be read back.
        ConfigError, StoreError: the run's config or a file cannot be read or written.
    """
    target = Path(path)
    card = DataCard(
        name=target.name,
        contents=contents_of(target, layout),
        left_out=written.left_out if written is not None else 0,
        shortened=written.shortened if written is not None else 0,
        origin=None if run is None else origin_of(run),
    )
    stem = target.with_name(f"{target.name}.card")
    charts = _charts(card)
    for name, (_, chart) in charts.items():
        write_atomic(Path(f"{stem}.{name}.svg"), chart.encode())
    write_json(Path(f"{stem}.json"), card)
    text = _markdown(card, {f"{stem.name}.{name}.svg": title for name, (title, _) in charts.items()})
    write_atomic(Path(f"{stem}.md"), text.encode())
    return Path(f"{stem}.md")


def contents_of(path: Path, layout: str) -> SetContents:
    """What a file of labelled solutions or chats holds; one row in memory at a time.

    Raises:
        DataError: it cannot be read, or holds no row that can.
    """
    rows, steps, places, components = 0, Counter[str](), Counter[str](), Counter[str]()
    kind: Any = "labelled solutions"
    found = iterate_rows(path, repeats=True)
    for row in found:
        rows += 1
        labels = _labels(row)
        steps.update(_NAMES[label] for label in labels)
        places[_place(labels)] += 1
        if isinstance(row, TrainingSample):
            kind = "chats"
            components[row.components] += 1
    return SetContents.model_validate(
        {
            "kind": kind,
            "layout": layout,
            "rows": rows,
            "steps": {name: steps[name] for name in _NAMES.values()},
            "first_errors": dict(sorted(places.items(), key=_by_place)),
            "components": dict(sorted(components.items())),
            "rejected": {reason: one.count for reason, one in sorted(found.rejected.items())},
            "checksum": file_checksum(path),
        }
    )


def origin_of(run: str | Path) -> DataOrigin:
    """How a run made its data, from its config and its stages' summaries."""
    reader = RunReader(run)
    config, facts = read_run_config(reader.path / "config.yaml"), reader.facts()
    roles = config.roles
    given = config.problems.preset == LABELLED
    sampled = {} if given else {"policy": roles.policy, "completer": roles.completer or roles.policy}
    known = {summary.stage: summary for summary in reader.stages()}
    return DataOrigin(
        problems=config.problems.model_dump(mode="json"),
        roles={role: _model(engine) for role, engine in {**sampled, "teacher": roles.teacher}.items()},
        label_rule=None if given else config.label.deciding(),
        estimator=None if given else config.montecarlo.estimator,
        seed=config.seed,
        identity=facts.get("identity"),
        versions=facts.get("versions") or {},
        git_commit=facts.get("git_commit"),
        stages=tuple(
            StageCounts.model_validate(known[stage].model_dump(include=set(StageCounts.model_fields)))
            for stage in _STAGES
            if stage in known and known[stage].shards
        ),
    )


def origin_rows(origin: DataOrigin) -> dict[str, str]:
    """How data were made, as names and texts."""
    problems = origin.problems
    rows = {
        "problems": f"{problems['source']}, split {problems['split']}",
        **({"not in": ", ".join(problems["decontaminate"])} if problems["decontaminate"] else {}),
        **origin.roles,
        "Monte-Carlo": origin.estimator or "none",
        "label rule": "none: labels came with the solutions"
        if origin.label_rule is None
        else _rule(origin.label_rule),
        "data seed": str(origin.seed),
    }
    for one in origin.stages:
        reasons = ", ".join(f"{reason} {count}" for reason, count in one.reasons.items())
        name = "problems kept" if one.stage == "problems" else one.stage
        rows[name] = counted(one.rows, "row") + (f"; dropped: {reasons}" if reasons else "")
    return rows


def _rule(rule: Mapping[str, Any]) -> str:
    more = (f", {key} {value}" for key, value in rule.items() if key not in ("method", "threshold"))
    return f"{rule['method']}, threshold {rule['threshold']:g}" + "".join(more)


def two_columns(rows: Mapping[str, str]) -> str:
    """Names and texts as a table in Markdown."""
    body = (f"| {name} | {value.replace('|', '/')} |" for name, value in rows.items())
    return "\n".join(["| | |", "|---|---|", *body])


def _labels(row: LabelledSolution | TrainingSample) -> list[bool | None]:
    if isinstance(row, LabelledSolution):
        return list(row.labels)
    return [parse_turn(turn.content).judgement for turn in row.conversations if turn.role == "assistant"]


def _place(labels: list[bool | None]) -> str:
    """Where the first error is, from 1; `none` or `unknown`."""
    for number, label in enumerate(labels, start=1):
        if label is not True:
            return "unknown" if label is None else str(number)
    return "none"


def _by_place(pair: tuple[str, int]) -> tuple[int, str]:
    return (int(pair[0]) if pair[0].isdigit() else NO_ERROR, pair[0])


def _model(engine: EngineConfig) -> str:
    found = engine.options.get("model") or engine.options.get("base_urls")
    return str(found) if found else f"engine '{engine.kind}'"


def _charts(card: DataCard) -> dict[str, tuple[str, str]]:
    """By name, each chart's title and its SVG."""
    charts = {
        "labels": _labels_chart(card.contents.steps),
        "first-errors": _places_chart(card.contents),
    }
    if card.origin is not None and card.origin.stages:
        charts["kept"] = _kept_chart(card.origin.stages)
    return {name: (title, standalone(chart)) for name, (title, chart) in charts.items()}


def _labels_chart(steps: Mapping[Any, int]) -> tuple[str, Markup]:
    title = "Labels of steps"
    colours = {"right": 1, "wrong": 2, "unknown": 5}
    pieces = [(name, float(count), colours[name]) for name, count in steps.items() if count]
    return title, stacked(title, pieces)


def _places_chart(contents: SetContents) -> tuple[str, Markup]:
    title = "Place of the first error, percent of rows"
    counts: Counter[str] = Counter()
    for place, count in contents.first_errors.items():
        late = place.isdigit() and int(place) > _LAST_PLACE
        counts[f"after step {_LAST_PLACE}" if late else _in_words(place)] += count
    shares = [figure(100 * count / contents.rows, unit=" %") for count in counts.values()]
    return title, bars(title, list(counts), [Series("rows", shares, 1)])


def _kept_chart(stages: Sequence[StageCounts]) -> tuple[str, Markup]:
    title = "Kept by each stage, percent of what it kept and dropped"
    shares = [
        figure(100 * one.rows / (one.rows + one.dropped), unit=" %")
        if one.rows + one.dropped
        else figure(None, "it was given nothing")
        for one in stages
    ]
    return title, bars(title, [one.stage for one in stages], [Series("rows", shares, 3)])


def _in_words(place: str) -> str:
    return f"step {place}" if place.isdigit() else place


def _markdown(card: DataCard, charts: dict[str, str]) -> str:
    contents = card.contents
    holds = {
        "rows": f"{contents.rows:,} {contents.kind}, layout {contents.layout}",
        "steps": ", ".join(f"{count:,} {name}" for name, count in contents.steps.items()),
        "first error": ", ".join(f"{_in_words(place)} {n:,}" for place, n in contents.first_errors.items()),
    }
    if contents.components:
        holds["answers"] = ", ".join(f"{name} {count:,}" for name, count in contents.components.items())
    if card.left_out or card.shortened:
        holds["not in the layout"] = f"{card.left_out:,} rows, and the ends of {card.shortened:,}"
    if contents.rejected:
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in contents.rejected.items())
        holds["not readable"] = f"{counted(sum(contents.rejected.values()), 'row')} more: {reasons}"
    holds["checksum"] = contents.checksum
    parts = [f"# Data card of {card.name}", f"## What it holds\n\n{two_columns(holds)}"]
    origin = card.origin
    if origin is None:
        parts.append("## How it was made\n\nNo run is known that made it.")
    else:
        made = {
            **origin_rows(origin),
            "versions": ", ".join(f"{name} {value}" for name, value in origin.versions.items())
            or "not recorded",
            "commit": origin.git_commit or "not recorded",
            "config": origin.identity or "not recorded",
        }
        parts.append(f"## How it was made\n\n{two_columns(made)}")
        parts.append(f"## Stages and their cost\n\n{_costs(origin)}")
    parts.append("\n\n".join(f"![{title}]({name})" for name, title in charts.items()))
    return "\n\n".join(parts) + "\n"


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _costs(origin: DataOrigin) -> str:
    counts = ("problems", "rows", "dropped", "requests", "tokens read", "tokens written")
    columns = ("stage", *counts, "engine, s", "code, s", "wall, s")
    rows = []
    for one in origin.stages:
        spent = one.usage
        whole = (one.problems, one.rows, one.dropped, spent.requests)
        tokens = [
            counted_tokens(n, spent.uncounted) for n in (spent.prompt_tokens, spent.completion_tokens)
        ]
        seconds = (spent.engine_seconds, spent.code_seconds, one.seconds)
        rows.append((one.stage, *(f"{n:,}" for n in whole), *tokens, *(f"{n:,.1f}" for n in seconds)))
    return (
        "\n".join([_line(columns), f"|{'---|' * len(columns)}", *map(_line, rows)])
        + "\n\nEngine and code seconds are totals over concurrent requests and executions, so they exceed wall time."
    )
