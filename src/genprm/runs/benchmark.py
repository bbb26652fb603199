"""Measuring a verifier on a benchmark, through the store, so that it resumes and can be read afterwards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import ValidationError

from genprm.config import EngineConfig, RunConfig, VerifyConfig
from genprm.errors import ConfigError, StoreError
from genprm.evals.processbench import (
    ProcessBenchItem,
    benchmark_section,
    load_processbench,
    sample_items,
)
from genprm.identity import content_key
from genprm.records import (
    BenchmarkModel,
    BenchmarkSection,
    Problem,
    Report,
    Sampling,
    Verification,
    VerifyItem,
)
from genprm.rewards import lost_entirely
from genprm.rewards.table import check_judge, is_reward, judge_identity
from genprm.runs.costs import stage_costs
from genprm.runs.facts import provenance, versions
from genprm.runs.opening import open_executor, open_store
from genprm.runs.progress import Progress, Silent
from genprm.runs.scaling import given_chain, verified_rows
from genprm.store import RunReader, RunStore, StageSummary, read_json
from genprm.view import write_report

BENCHMARKS = ("processbench",)


async def run_benchmark(
    benchmark: str,
    data: Mapping[str, str],
    config: RunConfig,
    folder: Path,
    *,
    limit: int | None = None,
    progress: Progress | None = None,
) -> Report:
    """Verify a benchmark's solutions with `config.roles.verifier` and write report.json and report.html.

    Args:
        benchmark: one of `BENCHMARKS`.
        data: split -> its file, or `hub:ID`.
        limit: at most so many rows of each split, drawn with the config's seed and the split's own share of
            erroneous rows.

    Raises:
        ConfigError: an unknown benchmark, no split, or no verifier.
        RunIncomplete: solutions are pending; run it again.
    """
    if benchmark not in BENCHMARKS:
        raise ConfigError(f"there is no benchmark '{benchmark}'", hint=f"Known: {', '.join(BENCHMARKS)}.")
    if not data:
        raise ConfigError("no data is named", hint="Give at least one split with its file or hub:ID.")
    verifier = config.roles.verifier
    if verifier is None:
        raise ConfigError("no verifier is named", hint="Set roles.verifier.")
    check_judge(verifier, config.verify)
    progress = progress or Silent()
    options = _to_first_errors(config.verify)
    loaded = {split: load_processbench(path, split) for split, path in data.items()}
    chosen = {split: sample_items(items, limit, config.seed) for split, items in loaded.items()}
    available = {split: len(items) for split, items in loaded.items()}
    # The folder may hold other splits, which an earlier command evaluated.
    summaries: dict[str, StageSummary] = {}
    with open_store(folder, config, progress) as store:
        async with open_executor(config, store, progress) as executor:
            for split, items in chosen.items():
                chain = given_chain(config.model_copy(update={"verify": options}), verifier, name=split)
                summaries |= await executor.run(chain, [_problem(item) for item in items], total=len(items))
        reader = RunReader(folder)
        pairs = {split: _pairs(reader, split, items, options.votes) for split, items in chosen.items()}
        section = benchmark_section(
            pairs,
            model=_model(verifier, options.components, options.votes),
            data=dict(data),
            sampling=Sampling(limit=limit, seed=config.seed, available=available),
            each_path=options.every_path_to_its_error,
            threshold=options.threshold,
            seed=config.seed,
        )
        report = _report(config, list(summaries.values()), section, _faults(pairs))
        _keep_other_report(store, report, progress)
        store.write_json("report.json", report)
        write_report(report, _examples(pairs), folder / "report.html")
    return report


def _to_first_errors(options: VerifyConfig) -> VerifyConfig:
    """First errors are what counts, so each solution is judged up to its own.

    With several votes each path continues to its own first error, from which Pass@1 and the vote on first errors are
    read.
    """
    each = options.votes > 1 and options.voting == "all" and options.history != "shared"
    return options.model_copy(update={"stop_at_first_error": True, "every_path_to_its_error": each})


def _report(
    config: RunConfig, summaries: Sequence[StageSummary], section: BenchmarkSection, notes: tuple[str, ...]
) -> Report:
    return Report(
        title="ProcessBench",
        kind="eval",
        benchmark=section,
        cost=stage_costs(summaries),
        notes=notes,
        seconds=round(sum(row.seconds for row in summaries), 3),
        seed=config.seed,
        versions=versions(),
        provenance=provenance(config),
    )


def _problem(item: ProcessBenchItem) -> Problem:
    return Problem(id=item.id, text=item.problem, metadata={"steps": list(item.steps), "label": item.label})


def _pairs(
    reader: RunReader, split: str, items: Sequence[ProcessBenchItem], votes: int
) -> list[tuple[ProcessBenchItem, Verification]]:
    """Every item with its verification; one that was lost to a lasting fault has failed votes, and is counted so."""
    given = [
        VerifyItem(id=item.id, problem=item.problem, steps=item.steps, problem_id=item.id) for item in items
    ]
    return list(zip(items, verified_rows(reader, split, given, votes), strict=True))


def _keep_other_report(store: RunStore, report: Report, progress: Progress) -> None:
    """An earlier report of another model, other data or other rows is moved away, not overwritten."""
    path = store.path / "report.json"
    if not path.is_file():
        return
    try:
        earlier = Report.model_validate(read_json(path))
    except (StoreError, ValidationError):
        earlier = None
    if earlier is None or _measured(earlier) != _measured(report):
        progress.note(f"an earlier report is now in {store.set_aside('report.json', 'report.html')}")


def _measured(report: Report) -> object:
    """What a report is about: the model, how it was asked, and the rows."""
    found = report.benchmark
    return None if found is None else (found.model, found.data, found.sampling, report.provenance.config)


def _faults(pairs: Mapping[str, Sequence[tuple[ProcessBenchItem, Verification]]]) -> tuple[str, ...]:
    """Why solutions have no verdicts at all, most often."""
    found = [fault for several in pairs.values() for _, row in several if (fault := lost_entirely(row))]
    if not found:
        return ()
    (kind, detail, _), _ = Counter(found).most_common(1)[0]
    total = sum(map(len, pairs.values()))
    return (f"{len(found)} of {total} solutions were lost to faults, most often: {kind}: {detail}",)


def _model(verifier: EngineConfig, components: object, votes: int) -> BenchmarkModel:
    url = verifier.options.get("base_urls")
    name = str(verifier.options.get("model") or "the server's only model")
    return BenchmarkModel.model_validate(
        {
            "name": name,
            "url": None if url is None else str(url),
            "identity": content_key(judge_identity(verifier)),
            "components": "" if is_reward(verifier) else components,
            "votes": votes,
        }
    )


def _examples(
    pairs: Mapping[str, Sequence[tuple[ProcessBenchItem, Verification]]], count: int = 6
) -> list[Verification]:
    """Verified solutions to read: first those whose first error was missed."""
    rows = [pair for several in pairs.values() for pair in several]
    missed = [row for item, row in rows if row.first_error != item.label]
    found = [row for item, row in rows if row.first_error == item.label]
    return [*missed[: count // 2], *found][:count]
