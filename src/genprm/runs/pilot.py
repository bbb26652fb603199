"""A pilot: the run's first shards, from whose cost that of the whole run is predicted. The run continues from them."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from pathlib import Path

from pydantic import ValidationError

from genprm.config import RunConfig
from genprm.config.models import LARGEST
from genprm.errors import ConfigError, StoreError
from genprm.records import Problem, RunPrediction, StagePrediction, Usage, problem_of
from genprm.runs.chains import ProblemSource
from genprm.runs.opening import open_store
from genprm.runs.pipeline import run_pipeline
from genprm.runs.progress import Progress, Silent
from genprm.store import RunReader, StageStore, StageSummary, read_json

PLAN = "plan.json"
_ROOT = "problems"


async def run_pilot(
    config: RunConfig,
    folder: Path,
    problems: int,
    *,
    until: str = "train",
    progress: Progress | None = None,
) -> RunPrediction:
    """Run the first problems, in whole shards, and predict from them; the prediction is kept in the run directory.

    What the pilot made is a part of the run: a run of the same config in this directory computes the rest alone.

    Args:
        problems: so many at least; rounded up to whole shards.
        until: the last stage of the run; training is not predicted.

    Raises:
        ConfigError: the directory holds a longer run already, the config cannot work, or nothing can count so many
            problems.
        GenPRMError: as `run_pipeline`.
    """
    progress = progress or Silent()
    size = config.store.shard_size
    count = -(-problems // size) * size
    if not 0 < count <= LARGEST:
        raise ConfigError(
            f"a pilot cannot be {problems} problems in shards of {size}",
            hint="Give --pilot a number of problems from 1 up, far below that of the whole run.",
        )
    _refuse_longer_run(folder, count)
    if not ProblemSource(config.problems, config.seed).lasts:
        raise ConfigError(
            f"a pilot reads its problems twice, and {config.problems.source} can be read once",
            hint="save the problems to a file first",
        )
    last = "chats" if until == "train" else until
    result = await run_pipeline(config, folder, until=last, first=count, progress=progress)
    whole = sum(one.left_out is None for one in ProblemSource(config.problems, config.seed))
    prediction = predict(RunReader(folder), result.summaries, whole)
    with open_store(folder, config, progress) as store:
        store.write_json(PLAN, prediction)
    return prediction


def predict(reader: RunReader, summaries: dict[str, StageSummary], problems: int) -> RunPrediction:
    """The cost of a run over so many problems, from a finished one over its first."""
    pilot = summaries[_ROOT].rows
    share = problems / pilot
    stages = []
    for name, summary in summaries.items():
        if name == _ROOT:
            continue
        spent = summary.usage
        low, high = _interval(_tokens(reader, name), pilot, problems)
        stages.append(
            StagePrediction(
                stage=name,
                recipe=summary.recipe,
                rows=round(summary.rows * share),
                requests=round(spent.requests * share),
                prompt_tokens=round(spent.prompt_tokens * share),
                completion_tokens=round(spent.completion_tokens * share),
                uncounted=spent.uncounted,
                tokens_low=low,
                tokens_high=high,
                engine_seconds=round(spent.engine_seconds * share, 3),
                seconds=round(summary.seconds * share, 3),
            )
        )
    return RunPrediction(problems=problems, pilot=pilot, stages=tuple(stages))


def read_prediction(folder: Path) -> RunPrediction | None:
    """What a pilot predicted of the run in this directory; None if there was no pilot, or its file is damaged."""
    try:
        return RunPrediction.model_validate(read_json(folder / PLAN))
    except (StoreError, ValidationError):
        return None


def _tokens(reader: RunReader, stage: str) -> Counter[str]:
    """Tokens written per problem."""
    found: Counter[str] = Counter()
    for row in reader.rows(stage):
        found[problem_of(row)] += getattr(row, "usage", Usage()).completion_tokens
    for drop in reader.dropped(stage):
        found[drop.problem_id] += drop.usage.completion_tokens
    return found


def _interval(tokens: Counter[str], pilot: int, problems: int) -> tuple[int | None, int | None]:
    """95 % interval of the tokens of all problems: what the pilot spent, and the rest by the normal approximation."""
    if pilot < 2:
        return None, None
    spent = [float(count) for count in tokens.values()]
    spent += [0.0] * (pilot - len(spent))
    rest = problems - pilot
    mean, error = statistics.fmean(spent), statistics.stdev(spent) / math.sqrt(pilot)
    # The rest varies by itself, too, apart from the error of the mean.
    spread = 1.96 * math.sqrt(rest**2 * error**2 + rest * statistics.variance(spent))
    middle = math.fsum(spent) + rest * mean
    return max(round(math.fsum(spent)), round(middle - spread)), round(middle + spread)


def _refuse_longer_run(folder: Path, count: int) -> None:
    if not (folder / "run.json").is_file():
        return
    known = {row.stage: row for row in RunReader(folder).stages()}
    root = known.get(_ROOT)
    if root is None:
        return
    held = root.problems
    if not root.complete:
        # It was interrupted: nobody has added up its shards.
        store = StageStore(folder, _ROOT, Problem)
        held = max(held, sum(meta.problems for meta in store.current(root.recipe)))
    if held > count:
        raise ConfigError(
            f"{folder} holds a run of {held} problems already, more than the pilot's {count}",
            hint="Leave out --pilot: --dry-run says what is left. Or choose another directory with --run-dir.",
        )
