"""`genprm sample`, `best-of-n` and `refine`: a policy, alone and with a verifier."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from genprm.cli.flags import (
    WRITTEN,
    Config,
    Output,
    Profile,
    Seed,
    Set,
    Votes,
    engine_flags,
    kept_in,
    settings,
)
from genprm.errors import ConfigError
from genprm.text.counts import counted

if TYPE_CHECKING:
    from genprm.config import EngineConfig, RunConfig
    from genprm.records import RefinementTrace, Selection
    from genprm.runs import Chain
    from genprm.store import RunReader

ReadT = TypeVar("ReadT")
Source = Annotated[
    str,
    typer.Argument(
        help="Problems: JSONL, JSON, CSV, TSV or Parquet, hub:ID, or arithmetic.", show_default=False
    ),
]
Preset = Annotated[
    str | None, typer.Option(help="How rows read: plain, gsm8k, math or svamp.", show_default="plain")
]
Limit = Annotated[int | None, typer.Option(help="At most so many problems.", min=1, show_default="all")]
Policy = Annotated[
    str | None, typer.Option("--policy", help="A folder, hub id or builtin:policy.", show_default=False)
]
PolicyUrl = Annotated[
    str | None, typer.Option("--policy-url", help="Base URL of the policy's server.", show_default=False)
]
Model = Annotated[
    str | None,
    typer.Option("--model", help="The verifier: a folder, hub id or builtin:verifier.", show_default=False),
]
RunDir = Annotated[
    Path | None,
    typer.Option(
        "--run-dir",
        help="Keep the run here; the same command resumes it.",
        show_default="nothing is kept",
        **WRITTEN,
    ),
]
Url = Annotated[
    str | None, typer.Option("--url", help="Base URL of the verifier's server.", show_default=False)
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("sample")(sample)
    app.command("best-of-n")(best_of_n)
    app.command("refine")(refine)


def sample(
    problems: Source,
    n: Annotated[int, typer.Option("-n", help="Solutions per problem.", min=1)] = 1,
    policy: Policy = None,
    policy_url: PolicyUrl = None,
    preset: Preset = None,
    limit: Limit = None,
    config: Config = None,
    override: Set = None,
    seed: Seed = None,
    run_dir: RunDir = None,
    output: Output = None,
) -> None:
    """Sample solutions of a policy with step forcing; prints one JSON record per solution, with its problem's text.

    `genprm verify` takes the file as it is.
    """
    from genprm.runs.scaling import samples_chain

    chosen = _config(problems, preset, limit, config, override, policy, policy_url, seed=seed)
    chain = samples_chain(chosen, n, name="sample", seed=chosen.seed)
    _write(_run(chain, chosen, run_dir, _with_problems), output)


def best_of_n(
    problems: Source,
    n: Annotated[int, typer.Option("-n", help="Solutions per problem.", min=1)] = 8,
    policy: Policy = None,
    policy_url: PolicyUrl = None,
    model: Model = None,
    url: Url = None,
    profile: Profile = None,
    votes: Votes = None,
    preset: Preset = None,
    limit: Limit = None,
    config: Config = None,
    override: Set = None,
    seed: Seed = None,
    run_dir: RunDir = None,
    output: Output = None,
) -> None:
    """Sample N solutions per problem, verify them, and choose: one JSON record per problem with every rule's choice."""
    from genprm.runs.scaling import best_of_n_chain

    engine = engine_flags(model, url, "", settings(config, override).roles.verifier)
    chosen = _config(
        problems, preset, limit, config, override, policy, policy_url,
        seed=seed, engine=engine, profile=profile, votes=votes,
    )  # fmt: skip
    chain = best_of_n_chain(chosen, n, engine, name="best-of-n", seed=chosen.seed)
    rows: list[Selection] = _run(chain, chosen, run_dir, lambda reader: list(reader.rows("best-of-n")))
    _write((row.model_dump_json() for row in rows), output)
    if output is not None and rows:
        _shares({rule: [row.choices[rule].correct for row in rows] for rule in rows[0].choices})


def refine(
    problems: Source,
    turns: Annotated[int | None, typer.Option(help="Refinement turns.", min=1, show_default="3")] = None,
    alone: Annotated[bool, typer.Option("--alone", help="Self-refinement, without a verifier.")] = False,
    policy: Policy = None,
    policy_url: PolicyUrl = None,
    model: Model = None,
    url: Url = None,
    profile: Profile = None,
    votes: Votes = None,
    preset: Preset = None,
    limit: Limit = None,
    config: Config = None,
    override: Set = None,
    seed: Seed = None,
    run_dir: RunDir = None,
    output: Output = None,
) -> None:
    """Sample one solution per problem and refine it over turns with the verifier as critic."""
    from genprm.runs.scaling import refinement_chain

    given = {"--model": model, "--url": url, "--profile": profile, "--votes": votes}
    unused = [flag for flag, value in given.items() if value is not None]
    if alone and unused:
        raise ConfigError(
            f"--alone has no verifier, and so nothing to do with {unused[0]}",
            hint="Leave out one of the two.",
        )
    engine = None if alone else engine_flags(model, url, "", settings(config, override).roles.verifier)
    more = [*(override or []), *([f"refine.turns={turns}"] if turns is not None else [])]
    chosen = _config(
        problems, preset, limit, config, more, policy, policy_url,
        seed=seed, engine=engine, profile=profile, votes=votes,
    )  # fmt: skip
    chain = refinement_chain(chosen, {"refinements": engine}, name="refine", seed=chosen.seed)
    rows: list[RefinementTrace] = _run(
        chain, chosen, run_dir, lambda reader: list(reader.rows("refinements"))
    )
    _write((row.model_dump_json() for row in rows), output)
    _say_what_was_kept(rows)
    if output is not None and rows:
        length = len(rows[0].turns)
        _shares({f"turn {turn}": [t.turns[turn].solution.correct for t in rows] for turn in range(length)})


def _say_what_was_kept(traces: list[RefinementTrace]) -> None:
    """Say on standard error why turns kept their solutions, if it was for another reason than a critic's consent."""
    reasons: Counter[str] = Counter()
    for trace in traces:
        reasons.update({turn.reason for turn in trace.turns if turn.reason not in (None, "no_flag")})
    for reason, count in reasons.most_common(3):
        sys.stderr.write(
            f"note: in {count} of {counted(len(traces), 'trace')} a turn kept its solution: {reason}\n"
        )


def _config(
    source: str,
    preset: str | None,
    limit: int | None,
    config: Path | None,
    override: list[str] | None,
    policy: str | None,
    policy_url: str | None,
    *,
    seed: int | None,
    engine: EngineConfig | None = None,
    profile: str | None = None,
    votes: int | None = None,
) -> RunConfig:
    """The run that flags add up to: problems, the policy, and how the verifier is asked."""
    chosen = settings(config, override, engine=engine, profile=profile, votes=votes, seed=seed)
    given = {"source": source, "preset": preset, "limit": limit}
    wanted = chosen.problems.model_copy(
        update={key: value for key, value in given.items() if value is not None}
    )
    if source == "arithmetic":
        wanted = wanted.model_copy(update={"split": "eval", "limit": wanted.limit or 20})
    named = chosen.roles.policy if "policy" in chosen.roles.model_fields_set else None
    writer = engine_flags(policy, policy_url, "policy", named)
    roles = chosen.roles.model_copy(update={"policy": writer, "verifier": engine})
    return chosen.model_copy(update={"problems": wanted, "roles": roles})


def _with_problems(reader: RunReader) -> list[str]:
    """Samples as JSON, each with its problem's text, without which nobody can verify them."""
    texts = {row.id: row.text for row in reader.rows("sample-problems")}
    return [
        json.dumps({"problem": texts[row.problem_id], **row.model_dump(mode="json")}, ensure_ascii=False)
        for row in reader.rows("sample-solutions")
    ]


def _run(chain: Chain, config: RunConfig, folder: Path | None, read: Callable[[RunReader], ReadT]) -> ReadT:
    """What is read of a chain's run; without a folder nothing is kept of it."""
    from tempfile import TemporaryDirectory

    from genprm.aio import run_sync
    from genprm.cli.console import Bars
    from genprm.runs import ProblemSource
    from genprm.runs.scaling import run_chain

    problems = ProblemSource(config.problems, config.seed)
    with TemporaryDirectory(prefix="genprm-") as temporary, kept_in(folder), Bars() as bars:
        place = folder or Path(temporary) / "run"
        total, kept = config.problems.limit, folder is not None
        work = run_chain(chain, problems, config, place, total=total, progress=bars, kept=kept)
        return read(run_sync(work))


def _write(rows: Iterable[str], output: Path | None) -> None:
    lines = [f"{row}\n" for row in rows]
    if output is None:
        sys.stdout.writelines(lines)
        return
    from genprm.store import write_atomic

    write_atomic(output, "".join(lines).encode())


def _shares(columns: dict[str, list[bool | None]]) -> None:
    """A table of accuracies with their intervals."""
    from rich.table import Table

    from genprm.cli.console import make_console
    from genprm.evals.accuracy import share_correct

    table = Table("", "right", "95 % interval", "graded")
    for name, flags in columns.items():
        share = share_correct(flags)
        known = share.value is not None
        table.add_row(
            name,
            f"{share.value:.1f} %" if known else "unknown",
            f"{share.low:.1f} to {share.high:.1f}" if known else share.reason or "",
            f"{sum(flag is not None for flag in flags)} of {len(flags)}",
        )
    make_console().print(table)
