"""Measures estimators and label rules where the truth is known, and prints one JSON object as its last line.

    python benchmarks/montecarlo.py [--problems N] [--repeats N] [--completions N] [--run RUN]

Two questions, both in the arithmetic world:

- `estimators`: how many completions does each estimator need, and how well do the labels name the first error? The
  world's writer, with the habits that the built-in policy was trained on, as sharp as sampling at temperature 0.5 makes
  them, writes solutions and completes each of their states `--completions` times. It notices an error in the last
  step as often as it corrects one of its own. The share of right completions is the success probability of an
  oracle, from which every estimator draws samples of its own, `--repeats` times. The library's own code plans,
  counts and labels.
  `at_least_4_steps` is the same for solutions of that length alone, where a search has something to skip.
- `rules`, with `--run`: what does each rule make of the same counts? They are those of a finished quickstart: real
  completions by the built-in policy, 16 per state.

`completions` counts all that were drawn, `up_to_first_errors` those of states that no first error comes before.
`first_error_accuracy` is the share of solutions whose first error (or that there is none) the labels name, in percent
with a 95 % interval over problems; an unknown one counts as wrong. `kept` is the number of solutions that the consensus
filter keeps with the scripted teacher's reviews, `kept_right` the share of them whose first error is the true one.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from machine import machine

from genprm.aio import derive_seed
from genprm.config import LabelConfig, MonteCarloConfig, RationaleConfig
from genprm.domains.math import MathDomain
from genprm.engines import make_engine
from genprm.errors import GenPRMError
from genprm.evals.intervals import ratio_share
from genprm.evals.labels import LabelledSolution, label_quality
from genprm.labels import label_solution
from genprm.records import Problem, Rationale, Share, Solution, SolutionScores, StepScore, Usage
from genprm.sandbox import IsolatedSandbox
from genprm.store import RunReader
from genprm.synth.consensus import filter_by_consensus
from genprm.synth.montecarlo import Estimate, estimate_with
from genprm.synth.rationales import write_rationales
from genprm.worlds.arithmetic import first_error, generate_problems
from genprm.worlds.arithmetic.grammar import Scene, parse_problem
from genprm.worlds.arithmetic.truth import StepKind, judge_steps
from genprm.worlds.arithmetic.writer import POLICY_HABITS, Habits, write_solution

SEED = 7
PER_CLASS = 2
DRAWS = 24
LONG = 4
MOST = 128
RULES = {
    "hard": LabelConfig(method="hard"),
    "ratio 0.8": LabelConfig(method="ratio"),
    "difference -0.3": LabelConfig(method="difference"),
    "posterior": LabelConfig(method="posterior"),
}
BANDS = {
    "posterior, band 0.8 to 0.95, dropped": LabelConfig(
        method="posterior", true_up_to=0.8, false_above=0.95
    ),
    "posterior, band 0.8 to 0.95, left to the teacher": LabelConfig(
        method="posterior", true_up_to=0.8, false_above=0.95, undecided="keep"
    ),
}
ESTIMATORS = {
    "fixed, K = 16": MonteCarloConfig(estimator="fixed", k_start=16),
    "dynamic": MonteCarloConfig(),
    "sequential": MonteCarloConfig(estimator="sequential"),
    "binary": MonteCarloConfig(estimator="binary"),
}

Items = list[tuple[Problem, tuple[Solution, ...]]]


@dataclass(frozen=True)
class World:
    """Problems with solutions, their true first errors and reviews, and the oracle's chance of success by state."""

    items: Items
    truth: Mapping[str, int]
    rationales: Sequence[Rationale]
    chances: Mapping[tuple[str, tuple[str, ...]], float]


class Oracle:
    """Draws samples of a state from its known chance; the same index gives the same sample."""

    name = "oracle"

    def __init__(self, world: World, repeat: int) -> None:
        self._world = world
        self._repeat = repeat
        self._drawn: dict[tuple[str, tuple[str, ...]], list[bool]] = {}

    async def estimate(self, problem: Problem, steps: Sequence[str], samples: range) -> Estimate:
        """See `genprm.synth.montecarlo.Estimator`."""
        state = problem.id, tuple(steps)
        if state not in self._drawn:
            rng = random.Random(derive_seed(self._repeat, problem.id, *steps))
            self._drawn[state] = [rng.random() < self._world.chances[state] for _ in range(MOST)]
        right = sum(self._drawn[state][index] for index in samples)
        return Estimate(StepScore(correct=right, total=len(samples)), Usage(requests=len(samples)))


def sharpened(rate: float) -> float:
    """How often a choice is made at temperature 0.5 that has this rate at temperature 1."""
    return rate**2 / (rate**2 + (1 - rate) ** 2)


HABITS = Habits(
    misread={kind: sharpened(rate) for kind, rate in POLICY_HABITS.misread.items()},
    **{
        field.name: sharpened(getattr(POLICY_HABITS, field.name))
        for field in fields(Habits)
        if field.name != "misread"
    },
)


def completion(scene: Scene, kept: tuple[str, ...], rng: random.Random) -> str:
    """The last step of a completion; a wrong last step that is noticed is written again."""
    if kept:
        last = judge_steps(scene, kept)[-1]
        slip = last.kind == StepKind.SLIP
        noticed = 0.0 if last.correct else HABITS.correct_slip if slip else HABITS.correct_misread
        if rng.random() < noticed:
            kept = kept[:-1]
    return write_solution(scene, rng, HABITS, kept)[-1]


async def make_world(problems: int, completions: int) -> World:
    """Solutions by the writer, right and wrong ones, and how often it completes their states with success."""
    rng = random.Random(SEED)
    items: Items = []
    chances: dict[tuple[str, tuple[str, ...]], float] = {}
    async with MathDomain() as domain:
        for problem in generate_problems(split="train", count=problems, seed=SEED):
            scene = parse_problem(problem.text)
            found: dict[bool, dict[tuple[str, ...], None]] = {True: {}, False: {}}
            for _ in range(DRAWS):
                steps = tuple(write_solution(scene, rng, HABITS))
                if len(steps) > 1:
                    found[domain.extract(steps[-1]).answer == problem.answer][steps] = None
            if not all(found.values()):
                continue
            solutions = [
                Solution(
                    id=f"{problem.id}/{int(right)}{number}",
                    problem_id=problem.id,
                    steps=steps,
                    correct=right,
                )
                for right, some in found.items()
                for number, steps in enumerate(list(some)[:PER_CLASS])
            ]
            items.append((problem, tuple(solutions)))
            states = (row.steps[:length] for row in solutions for length in range(len(row.steps)))
            for kept in dict.fromkeys(states):  # in order, so that every run draws the same world
                ends = (completion(scene, kept, rng) for _ in range(completions))
                right = sum(domain.extract(end).answer == problem.answer for end in ends)
                chances[problem.id, kept] = right / completions
    pairs = [(problem, row) for problem, rows in items for row in rows]
    truth = {row.id: first_error(problem, row.steps) for problem, row in pairs}
    return World(items, truth, await review(pairs), chances)


async def review(pairs: Sequence[tuple[Problem, Solution]]) -> Sequence[Rationale]:
    """What the scripted teacher finds in each solution."""
    teacher = make_engine("tutor", seed=1)
    async with IsolatedSandbox(tier="plain") as sandbox:
        made = await write_rationales(
            pairs, teacher, sandbox, RationaleConfig(profile="tutor"), seed=1, concurrency=64
        )
    await teacher.aclose()
    return made.rows


def figures(
    scores: Sequence[SolutionScores],
    rule: LabelConfig,
    solutions: Mapping[str, Solution],
    truth: Mapping[str, int],
    rationales: Sequence[Rationale],
) -> tuple[list[LabelledSolution], list[tuple[str, bool]]]:
    """Labels beside the truth, and what the filter keeps: (problem, whether its first error is the true one)."""
    labels = [label_solution(row, rule) for row in scores]
    compared = [
        LabelledSolution(
            row.problem_id, truth[row.solution_id], row.first_error, len(solutions[row.solution_id].steps)
        )
        for row in labels
    ]
    kept = filter_by_consensus([solutions[row.solution_id] for row in labels], labels, rationales).rows
    return compared, [(row.problem_id, row.first_error == truth[row.solution_id]) for row in kept]


def summary(
    compared: Sequence[LabelledSolution], kept: Sequence[tuple[str, bool]], repeats: int
) -> dict[str, Any]:
    """The figures of one estimator and rule."""
    right: dict[str, list[bool]] = {}
    for problem, good in kept:
        right.setdefault(problem, []).append(good)
    share = ratio_share([sum(one) for one in right.values()], [len(one) for one in right.values()])
    return {
        "solutions": len(compared) // repeats,
        "first_error_accuracy": shown(label_quality(compared).accuracy),
        "kept": round(len(kept) / repeats, 1),
        "kept_right": shown(share),
    }


def shown(share: Share) -> list[float] | None:
    """Value, low and high in percent."""
    if share.value is None or share.low is None or share.high is None:
        return None
    return [round(number, 2) for number in (share.value, share.low, share.high)]


async def measure_estimators(world: World, items: Items, repeats: int) -> dict[str, dict[str, Any]]:
    """Every estimator with every rule."""
    solutions = {row.id: row for _, rows in items for row in rows}
    found: dict[str, dict[str, Any]] = {}
    for name, options in ESTIMATORS.items():
        found[name] = {}
        scored: list[tuple[list[SolutionScores], int]] = []
        for rule_name, rule in RULES.items():
            if options.rule_decides or not scored:
                scored = [await sample(world, items, options, rule, repeat) for repeat in range(repeats)]
            compared: list[LabelledSolution] = []
            kept: list[tuple[str, bool]] = []
            for scores, _ in scored:
                more = figures(scores, rule, solutions, world.truth, world.rationales)
                compared += more[0]
                kept += more[1]
            cost = sum(completions for _, completions in scored) / repeats
            needed = sum(up_to_first_errors(scores, rule, solutions) for scores, _ in scored) / repeats
            found[name][rule_name] = {
                "completions": round(cost),
                "up_to_first_errors": round(needed),
                **summary(compared, kept, repeats),
            }
    return found


def up_to_first_errors(
    scores: Sequence[SolutionScores], rule: LabelConfig, solutions: Mapping[str, Solution]
) -> int:
    """Completions of the states that lie before a first error, or lead to it: what stopping there alone would leave."""
    states: dict[tuple[str, tuple[str, ...]], int] = {}
    for row in scores:
        states[row.problem_id, ()] = row.start.total
        first = label_solution(row, rule).first_error
        steps = solutions[row.solution_id].steps
        end = len(steps) - 1 if first is None or first < 0 else min(first + 1, len(steps) - 1)
        for length in range(1, end + 1):
            states[row.problem_id, steps[:length]] = row.steps[length - 1].total
    return sum(states.values())


async def sample(
    world: World, items: Items, options: MonteCarloConfig, rule: LabelConfig, repeat: int
) -> tuple[list[SolutionScores], int]:
    """Scores, and the completions that they cost, those of dropped problems included."""
    made = await estimate_with(items, Oracle(world, repeat), options, rule=rule)
    usage = sum((row.usage for row in (*made.rows, *made.dropped)), Usage())
    return list(made.rows), usage.requests


def measure_rules(run: RunReader) -> dict[str, Any]:
    """Every rule on the counts of a finished run."""
    problems = {row.id: row for row in run.rows("problems")}
    solutions = {row.id: row for row in run.rows("solutions")}
    scores = list(run.rows("montecarlo"))
    truth = {
        row.solution_id: first_error(problems[row.problem_id], solutions[row.solution_id].steps)
        for row in scores
    }
    rationales = list(run.rows("rationales"))
    return {
        name: summary(*figures(scores, rule, solutions, truth, rationales), 1)
        for name, rule in (RULES | BANDS).items()
    }


async def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--problems", type=int, default=120, help="of the world; about half drop out")
    parser.add_argument("--repeats", type=int, default=3, help="samplings of every estimator")
    parser.add_argument(
        "--completions", type=int, default=200, help="per state, by which the oracle knows it"
    )
    parser.add_argument("--run", type=Path, help="a finished quickstart, for the rules on real completions")
    options = parser.parse_args()
    try:
        run = RunReader(options.run) if options.run else None
    except GenPRMError as error:
        parser.error(str(error))
    world = await make_world(options.problems, options.completions)
    long = [
        (problem, tuple(row for row in rows if len(row.steps) >= LONG)) for problem, rows in world.items
    ]
    result = {
        "estimators": await measure_estimators(world, world.items, options.repeats),
        "at_least_4_steps": await measure_estimators(
            world, [(problem, rows) for problem, rows in long if rows], options.repeats
        ),
        "rules": measure_rules(run) if run else None,
        "problems": len(world.items),
        "repeats": options.repeats,
        "machine": machine(),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    asyncio.run(main())
