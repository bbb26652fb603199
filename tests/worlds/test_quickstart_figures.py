"""From the quickstart's records to the sections of its report."""

from __future__ import annotations

import pytest

from genprm.config import LabelConfig
from genprm.labels.rules import label_solution
from genprm.records import (
    NO_ERROR,
    Problem,
    RefinementTrace,
    RefinementTurn,
    Solution,
    SolutionScore,
    SolutionScores,
    StepScore,
    StepVerdict,
    Verification,
    Vote,
    VoteStatus,
)
from genprm.rewards import first_error as first_error_of
from genprm.rewards import tally
from genprm.worlds.arithmetic import generate_problems, reference_solution
from genprm.worlds.arithmetic.quickstart import figures

PROBLEMS = generate_problems("eval", 3, seed=5)


def solution(
    problem: Problem, *, wrong: bool = False, sample: int = 0, answer: str | None = None
) -> Solution:
    steps = reference_solution(problem)
    if wrong:
        steps = ("Step 1: 1 + 1 = 3.", *steps[1:])
    return Solution(
        id=f"{problem.id}/{sample}",
        problem_id=problem.id,
        steps=steps,
        answer=answer or problem.answer,
        correct=not wrong,
        sample=sample,
    )


def verified(one: Solution, votes: list[int | VoteStatus], score: float = 0.5) -> Verification:
    """Each vote names a first error, or how the path was lost on the first step."""
    verdicts: list[StepVerdict] = []
    for step in range(len(one.steps)):
        ballots = [
            Vote(path=path, status=cast if step == 0 else VoteStatus.NOT_REACHED)
            if isinstance(cast, VoteStatus)
            else Vote(path=path, reward=0.1 if cast == step else 0.9, judgement=cast != step)
            for path, cast in enumerate(votes)
        ]
        verdicts.append(tally(step, ballots))
    return Verification(
        item_id=one.id,
        problem="P",
        steps=one.steps,
        verdicts=tuple(verdicts),
        first_error=first_error_of([verdict.judgement for verdict in verdicts]),
        score=SolutionScore(last=score, mean=score, min=score),
    )


def test_labels_and_consensus_are_compared_with_the_truth() -> None:
    pairs = [(PROBLEMS[0], solution(PROBLEMS[0])), (PROBLEMS[1], solution(PROBLEMS[1], wrong=True))]
    scores = []
    for problem, one in pairs:
        right = StepScore(correct=8, total=8) if one.correct else StepScore(correct=0, total=8)
        rows = SolutionScores(
            solution_id=one.id,
            problem_id=problem.id,
            start=StepScore(correct=8, total=8),
            steps=(right,) * len(one.steps),
        )
        scores.append(rows)
    options = LabelConfig()
    section = figures.label_figures(scores, pairs, options)
    assert section.rows == 2
    assert {share.value for share in section.accuracy.values()} == {100.0}
    assert {kind: (share.value, share.total) for kind, share in section.unseen.items()} == {
        "unparsable": (0.0, 1)
    }
    labels = [label_solution(row, options) for row in scores]
    kept = figures.consensus_figures(labels, {pairs[0][1].id}, pairs, {"disagree": 1})
    assert (kept.kept, kept.dropped, kept.accuracy_after.total) == (1, 1, 1)
    assert figures.consensus_figures(labels, set(), pairs, {"disagree": 2}).accuracy_after.value is None


def test_localisation_keeps_engine_faults_apart() -> None:
    pairs = [(PROBLEMS[0], solution(PROBLEMS[0])), (PROBLEMS[1], solution(PROBLEMS[1], wrong=True))]
    rows = [
        verified(pairs[1][1], [0, VoteStatus.NO_JUDGEMENT]),
        verified(pairs[0][1], [NO_ERROR, VoteStatus.ENGINE_FAILED]),
    ]
    section = figures.localisation_figures(pairs, {"cot": rows}, {"cot": 2})
    assert (section.solutions, section.erroneous) == (2, 1)
    alone, together = section.modes["cot"]["pass@1"], section.modes["cot"]["maj@2"]
    assert (together.f1.value, together.failed.value, together.unparsed.value) == (100.0, 0.0, 0.0)
    assert (alone.correct_accuracy.value, alone.error_accuracy.value) == (100.0, 50.0)
    assert (alone.failed.value, alone.unparsed.value) == (25.0, 25.0)
    with pytest.raises(ValueError, match="no verification of 1 solutions"):
        figures.localisation_figures(pairs, {"cot": rows[:1]}, {"cot": 2})


def test_equal_answers_vote_together() -> None:
    """The vote classes decide what is equal: 7 and 7.0 outvote the wrong answer only as one class."""
    problem = PROBLEMS[0]
    pool = [solution(problem, sample=0, answer="7"), solution(problem, sample=1, answer="7.0")]
    pool += [solution(problem, sample=2, answer="8", wrong=True)]
    rows = [verified(one, [NO_ERROR], 0.5) for one in pool]
    pairs = [(problem, one) for one in pool]
    classes = {one.id: str(float(str(one.answer))) for one in pool}
    together = figures.best_of_n_figures([problem], pairs, rows, (3,), classes)
    apart = figures.best_of_n_figures([problem], pairs, rows, (3,), {one.id: one.answer for one in pool})
    assert together.sizes[3]["majority"].value == 100.0
    assert apart.sizes[3]["majority"].value == pytest.approx(200 / 3)
    assert together.sizes[3]["weighted"].value == 100.0


def test_refinement_counts_every_turn() -> None:
    def trace(problem: Problem, flags: tuple[bool, ...]) -> RefinementTrace:
        turns = tuple(
            RefinementTurn(turn=turn, solution=solution(problem, wrong=not flag), changed=turn == 1)
            for turn, flag in enumerate(flags)
        )
        return RefinementTrace(problem_id=problem.id, solution_id="s", mode="dialogue", turns=turns)

    critic = [trace(PROBLEMS[0], (False, True)), trace(PROBLEMS[1], (True, True))]
    alone = [trace(PROBLEMS[0], (False, False)), trace(PROBLEMS[1], (True, False))]
    section = figures.refinement_figures(critic, alone, 1)
    assert [share.value for share in section.critic] == [50.0, 100.0]
    assert [share.value for share in section.self] == [50.0, 0.0]
    assert (section.critic_changed, section.self_changed, section.problems) == ((2,), (2,), 2)
