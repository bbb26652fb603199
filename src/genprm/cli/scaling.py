"""`genprm sample`, `best-of-n` and `refine`: a policy, alone and with a verifier."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from genprm.cli.flags import Config, Output, Profile, Seed, Set, Votes, engine_flags, settings

if TYPE_CHECKING:
    from pydantic import BaseModel

    from genprm.records import Problem

Source = Annotated[
    str, typer.Argument(help="Problems: JSONL, JSON or Parquet, hub:ID, or arithmetic.", show_default=False)
]
Preset = Annotated[str, typer.Option(help="How rows read: plain, gsm8k, math or svamp.")]
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
    preset: Preset = "plain",
    limit: Limit = None,
    config: Config = None,
    override: Set = None,
    seed: Seed = None,
    output: Output = None,
) -> None:
    """Sample solutions of a policy with step forcing; prints one JSON record per solution."""
    from genprm.api.scaling import sample as draw

    engine = engine_flags(policy, policy_url, "policy")
    chosen = settings(config, override, seed=seed)
    rows = draw(
        engine,
        _problems(problems, preset, limit, chosen.seed),
        n,
        options=chosen.solutions,
        seed=chosen.seed,
        domain=chosen.domain,
        concurrency=chosen.concurrency,
    )
    _write(rows, output)


def best_of_n(
    problems: Source,
    n: Annotated[int, typer.Option("-n", help="Solutions per problem.", min=1)] = 8,
    policy: Policy = None,
    policy_url: PolicyUrl = None,
    model: Model = None,
    url: Url = None,
    profile: Profile = None,
    votes: Votes = None,
    preset: Preset = "plain",
    limit: Limit = None,
    config: Config = None,
    override: Set = None,
    seed: Seed = None,
    output: Output = None,
) -> None:
    """Sample N solutions per problem, verify them, and choose: one JSON record per problem with every rule's choice."""
    from genprm.api.scaling import best_of_n as search

    writer, engine = engine_flags(policy, policy_url, "policy"), engine_flags(model, url, "")
    chosen = settings(config, override, engine=engine, profile=profile, votes=votes, seed=seed)
    rows = search(
        writer,
        engine,
        _problems(problems, preset, limit, chosen.seed),
        n,
        options=chosen.solutions,
        verify=chosen.verify,
        sandbox=chosen.sandbox,
        seed=chosen.seed,
        domain=chosen.domain,
        concurrency=chosen.concurrency,
    )
    _write(rows, output)
    if output is not None:
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
    preset: Preset = "plain",
    limit: Limit = None,
    config: Config = None,
    override: Set = None,
    seed: Seed = None,
    output: Output = None,
) -> None:
    """Sample one solution per problem and refine it over turns with the verifier as critic."""
    from genprm.api.scaling import refine as improve
    from genprm.api.scaling import sample as draw

    writer = engine_flags(policy, policy_url, "policy")
    engine = None if alone else engine_flags(model, url, "")
    chosen = settings(config, override, engine=engine, profile=profile, votes=votes, seed=seed)
    wanted = _problems(problems, preset, limit, chosen.seed)
    first = draw(
        writer,
        wanted,
        options=chosen.solutions,
        seed=chosen.seed,
        domain=chosen.domain,
        concurrency=chosen.concurrency,
    )
    by_id = {problem.id: problem for problem in wanted}
    traces = improve(
        writer,
        engine,
        [(by_id[row.problem_id], row) for row in first],
        turns=turns,
        options=chosen.refine,
        verify=chosen.verify,
        profile=chosen.solutions.profile,
        sandbox=chosen.sandbox,
        seed=chosen.seed,
        domain=chosen.domain,
        concurrency=chosen.concurrency,
    )
    _write(traces, output)
    if output is not None:
        length = len(traces[0].turns)
        _shares(
            {f"turn {turn}": [t.turns[turn].solution.correct for t in traces] for turn in range(length)}
        )


def _problems(source: str, preset: str, limit: int | None, seed: int) -> list[Problem]:
    from genprm.config import ProblemsConfig
    from genprm.sources import iterate_problems

    options = ProblemsConfig(source=source, preset=preset, limit=limit)
    if source == "arithmetic":
        options = options.model_copy(update={"split": "eval", "limit": limit or 20})
    return list(iterate_problems(options, seed))


def _write(rows: Iterable[BaseModel], output: Path | None) -> None:
    lines = [row.model_dump_json() + "\n" for row in rows]
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
