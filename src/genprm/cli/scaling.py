"""`genprm sample`, `best-of-n` and `refine`: a policy, alone and with a verifier."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
    from genprm.records import Dropped, Problem, RefinementTrace
    from genprm.runs import Chain

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
    made = _run(chain, chosen, run_dir, "sample-solutions")
    texts = {problem.id: problem.text for problem in made.problems}
    # With its problem's text, without which nobody can verify a sample.
    rows = ({"problem": texts[row.problem_id], **row.model_dump(mode="json")} for row in made.rows)
    _write((json.dumps(row, ensure_ascii=False) for row in rows), output)


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
    from genprm.search.selection import RULES, answered_right

    engine = engine_flags(model, url, "", settings(config, override).roles.verifier)
    chosen = _config(
        problems, preset, limit, config, override, policy, policy_url,
        seed=seed, engine=engine, profile=profile, votes=votes,
    )  # fmt: skip
    chain = best_of_n_chain(chosen, n, engine, name="best-of-n", seed=chosen.seed)
    made = _run(chain, chosen, run_dir, "best-of-n")
    _write((row.model_dump_json() for row in made.rows), output)
    if output is not None and made.problems:
        pools = [row for row in made.rows if row.candidates]
        _shares(
            {
                rule: made.flags({row.problem_id: answered_right(row.choices[rule]) for row in pools})
                for rule in RULES
            }
        )


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
    made = _run(chain, chosen, run_dir, "refinements")
    _write((row.model_dump_json() for row in made.rows), output)
    _say_what_was_kept(made.rows)
    if output is not None and made.problems:
        _shares(
            {
                f"turn {turn}": made.flags(
                    {trace.problem_id: trace.turns[turn].solution.correct for trace in made.rows}
                )
                for turn in range(chosen.refine.turns + 1)
            }
        )


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
        split = wanted.split if "split" in chosen.problems.model_fields_set else "eval"
        wanted = wanted.model_copy(update={"split": split, "limit": wanted.limit or 20})
    named = chosen.roles.policy if "policy" in chosen.roles.model_fields_set else None
    writer = engine_flags(policy, policy_url, "policy", named)
    roles = chosen.roles.model_copy(update={"policy": writer, "verifier": engine})
    return chosen.model_copy(update={"problems": wanted, "roles": roles})


@dataclass(frozen=True)
class _Made:
    """What a chain made of its problems.

    Attributes:
        rows: of its last stage.
        dropped: by stage.
    """

    rows: list[Any]
    problems: list[Problem]
    dropped: dict[str, list[Dropped]]

    def flags(self, found: Mapping[str, bool | None]) -> list[bool | None]:
        """For every problem whether it was answered right: as found, else not.

        It is unknown (None) for a problem without a reference answer, and for one that a fault kept from an answer.
        """
        faulty = {
            row.problem_id
            for rows in self.dropped.values()
            for row in rows
            if row.reason.endswith("_failed") or row.reason == "unverified"
        }
        return [
            None
            if one.answer is None or (one.id in faulty and one.id not in found)
            else found.get(one.id, False)
            for one in self.problems
        ]

    def say_what_was_dropped(self) -> None:
        """Say on standard error what no row tells of."""
        from genprm.cli.console import task_title

        groups: dict[tuple[str, str], list[Dropped]] = {}
        for stage, dropped in self.dropped.items():
            for row in dropped:
                groups.setdefault((stage, row.reason), []).append(row)
        for (stage, reason), rows in groups.items():
            others = len({row.problem_id for row in rows}) - 1
            where = f"problem {rows[0].problem_id}" + (f" and {counted(others, 'other')}" if others else "")
            count = sum(row.count for row in rows)
            sys.stderr.write(f"note: {task_title(stage)}: {count} dropped as {reason}, of {where}\n")


def _run(chain: Chain, config: RunConfig, folder: Path | None, stage: str) -> _Made:
    """What a chain made, the rows of one stage among it; without a folder nothing is kept of the run."""
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
        reader = run_sync(work)
        made = _Made(
            list(reader.rows(stage)),
            list(reader.rows(f"{chain.name}-problems")),
            {one.name: list(reader.dropped(one.name)) for one in chain.stages},
        )
    made.say_what_was_dropped()
    return made


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
