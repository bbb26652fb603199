"""The quickstart's report, from the rows of its run directory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from genprm.config import QuickstartConfig
from genprm.domains import load_domain
from genprm.records import CostSection, Problem, Report, Solution
from genprm.runs import Trained
from genprm.runs.costs import stage_costs
from genprm.runs.facts import provenance, versions
from genprm.store import RunReader
from genprm.worlds.arithmetic.quickstart import figures
from genprm.worlds.arithmetic.quickstart.settings import LOCALISATION_MODES, POOL_SIZES

NOTES = (
    "The teacher is a scripted tutor of the built-in world, not a language model: it knows the truth and errs at "
    "seeded rates. Policy, completer, GenPRM and the direct baseline are real, tiny transformers.",
    "All figures are from the built-in arithmetic world. They show that the method works end to end; they say "
    "nothing about a large model on real mathematics.",
    "engine_seconds and code_seconds are totals over concurrent requests and executions; they exceed wall time.",
)


async def build_report(
    config: QuickstartConfig, reader: RunReader, trained: Mapping[str, Trained]
) -> Report:
    """All figures of a finished run."""
    options = config.evaluation
    pairs = _pairs(reader, "problems", "solutions")
    localised = _pairs(reader, "localisation-problems", "localisation-solutions")
    pools = _pairs(reader, "best-of-n-problems", "best-of-n-solutions")
    cost = _cost(reader, trained)
    return Report(
        title="Quickstart in the built-in arithmetic world",
        kind="quickstart",
        notes=NOTES,
        labels=figures.label_figures(list(reader.rows("montecarlo")), pairs, config.label),
        consensus=figures.consensus_figures(
            list(reader.rows("labels")),
            {row.solution_id for row in reader.rows("consensus")},
            pairs,
            reader.summary("consensus").reasons,
        ),
        training={form: figures.training_figures(one.report) for form, one in trained.items()},
        localisation=figures.localisation_figures(
            localised,
            {mode: list(reader.rows(f"localisation-{mode}")) for mode in LOCALISATION_MODES},
            {mode: options.votes_of(mode) for mode in LOCALISATION_MODES},
            config.verify.threshold,
        ),
        best_of_n=figures.best_of_n_figures(
            list(reader.rows("best-of-n-problems")),
            pools,
            list(reader.rows("best-of-n-verifications")),
            POOL_SIZES,
            await _vote_classes(pools, config.domain),
        ),
        refinement=figures.refinement_figures(
            list(reader.rows("refine-critic")), list(reader.rows("refine-self")), config.refine.turns
        ),
        cost=cost,
        seconds=round(sum(cost.wall_seconds.values()), 3),
        seed=config.seed,
        versions=versions(),
        provenance=provenance(config),
    )


async def _vote_classes(pools: Sequence[tuple[Problem, Solution]], name: str) -> dict[str, str | None]:
    """The class of equal answers of each solution, by its id; answers of one problem are compared."""
    by_problem: dict[str, list[Solution]] = {}
    for problem, solution in pools:
        by_problem.setdefault(problem.id, []).append(solution)
    domain = load_domain(name)
    classes: dict[str, str | None] = {}
    try:
        for rows in by_problem.values():
            found = await domain.vote_classes([row.answer for row in rows])
            classes.update(zip((row.id for row in rows), found, strict=True))
    finally:
        await domain.aclose()
    return classes


def _pairs(reader: RunReader, problems: str, solutions: str) -> list[tuple[Problem, Solution]]:
    by_id = {problem.id: problem for problem in reader.rows(problems)}
    return [(by_id[row.problem_id], row) for row in reader.rows(solutions)]


def _cost(reader: RunReader, trained: Mapping[str, Trained]) -> CostSection:
    """Cost of each stage and of each training."""
    cost = stage_costs(reader.stages())
    tokens, wall = dict(cost.tokens), dict(cost.wall_seconds)
    for form, one in trained.items():
        name = "train" if form == "rationale" else f"train-{form}"
        tokens[name], wall[name] = one.report.tokens, round(one.report.seconds, 3)
    return cost.model_copy(update={"tokens": tokens, "wall_seconds": wall})
