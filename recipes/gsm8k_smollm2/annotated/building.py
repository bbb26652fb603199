"""Building the data: told solutions, their tutor's executed rationales, the consensus, and the training chats."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from annotated.corrupting import Told, correct, corrupted
from annotated.reading import Worked
from annotated.tutor import Rates, Tutor
from annotated.writing import Paragraph, tell
from genprm.config import RationaleConfig
from genprm.engines import ScriptedEngine
from genprm.evals.processbench import ProcessBenchItem
from genprm.records import NO_ERROR, Problem, Rationale, Solution, SolutionLabels, StepLabel, TrainingSample
from genprm.sandbox.base import Sandbox
from genprm.synth.consensus import filter_by_consensus
from genprm.synth.rationales import write_rationales
from genprm.text.prompts import TeacherProfile, VerifierProfile, load_profile
from genprm.training import build_samples

NAME = "scripted tutor (GSM8K annotations)"
_MOST_STEPS = 12


@dataclass(frozen=True, slots=True)
class Made:
    """A told solution with what is known about it."""

    problem: Problem
    solution: Solution
    paragraphs: tuple[Paragraph, ...]
    kind: str | None

    @property
    def first_error(self) -> int:
        """Index of the first wrong paragraph, or NO_ERROR."""
        return next((i for i, part in enumerate(self.paragraphs) if not part.right), NO_ERROR)

    def item(self) -> ProcessBenchItem:
        """The solution as a row of ProcessBench."""
        return ProcessBenchItem(
            id=self.solution.id,
            problem=self.problem.text,
            steps=self.solution.steps,
            label=self.first_error,
            generator=self.kind or "correct",
        )


def make_solutions(problems: Sequence[Worked], copies: int, seed: int) -> Iterator[Made]:
    """Per problem and copy a correct solution and a corrupted one, each told in a manner of its own.

    A problem that no drawn mistake fits gives its correct solution alone.
    """
    for copy in range(copies):
        for worked in problems:
            rng = random.Random(f"{seed}:{copy}:{worked.id}")
            told = [correct(worked, rng), corrupted(worked, rng)]
            for one in told:
                made = None if one is None else _made(worked, one, f"{worked.id}:{copy}", rng)
                if made is not None:
                    yield made


def _made(worked: Worked, told: Told, name: str, rng: random.Random) -> Made | None:
    """The told solution; None if it became too long, or if a fact to misquote was not to be found."""
    paragraphs = tuple(tell(worked, told, rng))
    kind = told.kind
    problem = Problem(id=worked.id, text=worked.question, answer=worked.answer, source="gsm8k")
    solution = Solution(
        id=f"{name}:{kind or 'correct'}",
        problem_id=worked.id,
        steps=tuple(part.text for part in paragraphs),
        policy="corrupted GSM8K solution" if kind else "GSM8K solution",
    )
    made = Made(problem, solution, paragraphs, kind)
    wrong = made.first_error != NO_ERROR
    return made if len(paragraphs) <= _MOST_STEPS and wrong == (kind is not None) else None


def labels_of(made: Made) -> SolutionLabels:
    """The truth as step labels: known up to the first wrong paragraph."""
    first = made.first_error
    known = len(made.paragraphs) if first == NO_ERROR else first + 1
    labels = [StepLabel(label=index != first) for index in range(known)]
    rest = [StepLabel(label=None, reason="after the first error")] * (len(made.paragraphs) - known)
    return SolutionLabels(
        solution_id=made.solution.id,
        problem_id=made.problem.id,
        method="hard",
        threshold=0.0,
        labels=(*labels, *rest),
    )


async def write_chats(
    batch: Sequence[Made], sandbox: Sandbox, profile: VerifierProfile, *, rates: Rates, seed: int
) -> tuple[list[TrainingSample], Counter[str]]:
    """The training chats of a batch of solutions, and why the others were dropped.

    The tutor reviews every solution, its code runs in the sandbox, and the consensus keeps what agrees with the labels.
    """
    teacher = load_profile("tutor", TeacherProfile)
    lessons = [
        (teacher.messages(one.problem.text, one.solution.steps)[-1].content, one.paragraphs)
        for one in batch
    ]
    engine = ScriptedEngine(Tutor(lessons, rates, seed), name=NAME)
    written = await write_rationales(
        [(one.problem, one.solution) for one in batch],
        engine,
        sandbox,
        RationaleConfig(max_rounds=2),
        seed=seed,
        profile=teacher,
    )
    outcome = filter_by_consensus(
        [one.solution for one in batch], [labels_of(one) for one in batch], written.rows
    )
    dropped = Counter(row.reason for row in outcome.dropped)
    by_id = {one.solution.id: one for one in batch}
    rationales: dict[tuple[str, int], Rationale] = {
        (row.solution_id, row.sample): row for row in written.rows
    }
    chats = []
    for kept in outcome.rows:
        one = by_id[kept.solution_id]
        rationale = rationales[kept.solution_id, kept.rationale_sample]
        chats.append(build_samples(one.solution, one.problem, rationale, profile=profile))
    return chats, dropped
