"""The quickstart: the pipeline in the arithmetic world, its evaluation, and the report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from genprm.config import Components, EngineConfig, dump_config
from genprm.records import Verification
from genprm.runs import Pipeline, Progress, Resources
from genprm.runs.facts import run_facts, versions
from genprm.store import RunStore
from genprm.view import write_report
from genprm.worlds.arithmetic.quickstart import figures
from genprm.worlds.arithmetic.quickstart.evaluation import Evaluation, Pair
from genprm.worlds.arithmetic.quickstart.settings import LOCALISATION_MODES, POOL_SIZES, QuickstartConfig

NOTES = (
    "The teacher is a scripted tutor of the built-in world, not a language model: it knows the truth and errs at "
    "seeded rates. Policy, completer, GenPRM and the direct baseline are real, tiny transformers.",
    "All figures are from the built-in arithmetic world. They show that the method works end to end; they say "
    "nothing about a large model on real mathematics.",
    "engine_seconds and code_seconds are summed over concurrent requests and executions; they exceed wall time.",
)


async def run_quickstart(config: QuickstartConfig, folder: Path, progress: Progress) -> dict[str, Any]:
    """Run or resume the quickstart in `folder` and return the report, which is also written there."""
    with RunStore(folder, format=config.store.format) as store:
        store.describe(dump_config(config), run_facts(config.seed))
        async with Resources(config.sandbox, store) as resources:
            run = _Quickstart(config, Pipeline(config, store, resources, progress))
            report, examples = await run.report()
        store.write_json("report.json", report)
        write_report(report, examples, folder / "report.html")
    return report


class _Quickstart:
    """Collects the parts of the report."""

    def __init__(self, config: QuickstartConfig, pipeline: Pipeline) -> None:
        self.config = config
        self.pipeline = pipeline
        self.evaluation = Evaluation(pipeline, config.evaluation)

    async def report(self) -> tuple[dict[str, Any], list[Verification]]:
        """All figures, and verified solutions to read."""
        pipeline, config = self.pipeline, self.config
        scores, pairs = await pipeline.montecarlo(), await pipeline.pairs()
        labels, kept = await pipeline.labels(), await pipeline.consensus()
        summary = pipeline.store.stage("consensus", type(kept[0])).summary() if kept else None
        trained = {"rationale": await pipeline.train("rationale"), "direct": await pipeline.train("direct")}
        verifier, direct = (_engine(config.roles.policy, one.path) for one in trained.values())

        localised, by_mode = await self._localise(verifier, direct)
        best = await self._best_of_n(verifier)
        refined = await self._refine(verifier)
        report = {
            "notes": list(NOTES),
            "labels": figures.label_figures(scores, pairs, config.label),
            "consensus": figures.consensus_figures(
                labels, {row.solution_id for row in kept}, pairs, summary.reasons if summary else {}
            ),
            "training": {form: _training(one.report) for form, one in trained.items()},
            "localisation": figures.localisation_figures(localised, by_mode, config.evaluation.votes),
            "best_of_n": best,
            "refinement": refined,
            **self._costs({f"train-{form}": one.report for form, one in trained.items()}),
            "seed": config.seed,
            "versions": versions(),
        }
        return report, _examples(localised, by_mode["cot+code+execution"], config.evaluation.examples)

    async def _localise(
        self, verifier: EngineConfig, direct: EngineConfig
    ) -> tuple[list[Pair], dict[Components, list[Verification]]]:
        problems = self.evaluation.problems(self.config.evaluation.localisation_solutions, "localisation")
        by_id = {problem.id: problem for problem in problems}
        samples = await self.evaluation.samples(problems, 1, "localisation")
        pairs = [(by_id[solution.problem_id], solution) for solution in samples]
        by_mode: dict[Components, list[Verification]] = {}
        for mode in LOCALISATION_MODES:
            by_mode[mode] = await self.evaluation.verifications(
                f"localisation-{mode}",
                pairs,
                direct if mode == "direct" else verifier,
                votes=self.config.evaluation.votes,
                components=mode,
                localise=True,
            )
        await self.pipeline.resources.release(direct)
        return pairs, by_mode

    async def _best_of_n(self, verifier: EngineConfig) -> dict[str, Any]:
        options = self.config.evaluation
        problems = self.evaluation.problems(options.best_of_n_problems, "best-of-n")
        by_id = {problem.id: problem for problem in problems}
        samples = await self.evaluation.samples(problems, max(POOL_SIZES), "best-of-n")
        pairs = [(by_id[solution.problem_id], solution) for solution in samples]
        rows = await self.evaluation.verifications(
            "best-of-n", pairs, verifier, votes=options.best_of_n_votes, components="cot+code+execution"
        )
        return figures.best_of_n_figures(problems, pairs, rows, POOL_SIZES)

    async def _refine(self, verifier: EngineConfig) -> dict[str, Any]:
        options = self.config.evaluation
        problems = self.evaluation.problems(options.refinement_problems, "refinement")
        by_id = {problem.id: problem for problem in problems}
        samples = await self.evaluation.samples(problems, 1, "refinement")
        pairs = [(by_id[solution.problem_id], solution) for solution in samples]
        traces = {
            "critic": await self.evaluation.refinements(pairs, verifier, "refine-critic"),
            "self": await self.evaluation.refinements(pairs, None, "refine-self"),
        }
        return figures.refinement_figures(traces, options.refine.turns)

    def _costs(self, trainings: dict[str, Any]) -> dict[str, Any]:
        """Cost of each stage, from what its shards recorded, and the wall time of all."""
        summaries = self.pipeline.store.summaries()
        tokens = {row.stage: row.usage.completion_tokens for row in summaries}
        engine = {row.stage: round(row.usage.engine_seconds, 3) for row in summaries}
        code = {row.stage: round(row.usage.code_seconds, 3) for row in summaries}
        wall = {row.stage: round(row.seconds, 3) for row in summaries}
        for name, report in trainings.items():
            tokens[name], wall[name] = report.tokens, round(report.seconds, 3)
        cost = {"tokens": tokens, "engine_seconds": engine, "code_seconds": code, "wall_seconds": wall}
        return {"cost": cost, "seconds": round(sum(wall.values()), 3)}


def _engine(policy: EngineConfig, model: Path) -> EngineConfig:
    """The engine of a trained model, with the policy's settings."""
    return EngineConfig(kind=policy.kind, options={**policy.options, "model": str(model)})


def _training(report: Any) -> dict[str, Any]:
    return {
        "samples": report.samples,
        "steps": report.steps,
        "tokens": report.tokens,
        "loss_first": report.loss_first,
        "loss_last": report.loss_last,
    }


def _examples(pairs: Sequence[Pair], rows: Sequence[Verification], count: int) -> list[Verification]:
    """Verified solutions to read, half of them with a found error, in the order of the problems."""
    wrong = [row for row in rows if row.first_error is not None and row.first_error >= 0]
    right = [row for row in rows if row.first_error == -1]
    return [*wrong[: count - count // 2], *right[: count // 2]]
