"""Rationales by a teacher, with executed verification (method, part 3).

The teacher reviews a whole solution in one assistant turn: analysis, code that really runs, judgement,
for one paragraph after the other, and the index of the first wrong paragraph at the end. One interpreter
serves the whole solution. What a teacher leaves out or writes wrongly becomes a status with a reason.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from genprm.aio import bounded_map
from genprm.config.models import RationaleConfig
from genprm.engines.base import Engine
from genprm.errors import EngineError, SandboxError
from genprm.generate.policy import lost, unsettling
from genprm.generate.rollout import Draft, Path, failure_text, write
from genprm.records import Problem, Rationale, Solution, StageOutput, Usage
from genprm.sandbox.base import Limits, Sandbox
from genprm.text.prompts import TeacherProfile, load_profile
from genprm.text.transcript import THINK_END, parse_review

# "12}" and a little slack.
_INDEX_TOKENS = 8
_PARAGRAPH_END = "</output>"


async def write_rationales(
    items: Sequence[tuple[Problem, Solution]],
    engine: Engine,
    sandbox: Sandbox,
    options: RationaleConfig,
    *,
    seed: int,
    profile: TeacherProfile | None = None,
    concurrency: int = 64,
    limits: Limits | None = None,
) -> StageOutput[Rationale]:
    """`options.samples` rationales for every solution, in order; failed ones are rows, too.

    A problem is lost if a retryable fault hit one of its rationales, or if faults hit all of them.

    Args:
        seed: a rationale depends on it, the solution's id and the sample's index alone.
        profile: the teacher's prompt profile, in place of `options.profile`.
        concurrency: solutions under review at the same time.

    Raises:
        ConfigError: an unknown profile.
    """
    profile = profile or load_profile(options.profile, TeacherProfile)
    reviewer = _Reviewer(engine, sandbox, options, profile, seed, asyncio.Semaphore(concurrency), limits)

    async def work(
        job: tuple[Problem, Solution, int],
    ) -> tuple[Rationale, EngineError | SandboxError | None]:
        return await reviewer.review(*job)

    jobs = [(*item, sample) for item in items for sample in range(options.samples)]
    done = await bounded_map(work, jobs, concurrency)
    by_problem: dict[str, list[tuple[Rationale, EngineError | SandboxError | None]]] = {}
    for rationale, fault in done:
        by_problem.setdefault(rationale.problem_id, []).append((rationale, fault))
    faults = {problem: unsettling([fault for _, fault in pairs]) for problem, pairs in by_problem.items()}
    return StageOutput(
        tuple(rationale for rationale, _ in done if faults[rationale.problem_id] is None),
        lost=tuple(
            lost(problem, fault, sum((row.usage for row, _ in by_problem[problem]), Usage()))
            for problem, fault in faults.items()
            if fault is not None
        ),
    )


@dataclass(frozen=True, slots=True)
class _Reviewer:
    """Reviews solutions; holds what all reviews share."""

    engine: Engine
    sandbox: Sandbox
    options: RationaleConfig
    profile: TeacherProfile
    seed: int
    slots: asyncio.Semaphore
    limits: Limits | None

    async def review(
        self, problem: Problem, solution: Solution, sample: int
    ) -> tuple[Rationale, EngineError | SandboxError | None]:
        path = Path(
            self.engine,
            self.sandbox,
            key=("rationale", solution.id, sample),
            seed=self.seed,
            sample=sample,
            sampling=self.options.sampling,
            slots=self.slots,
            limits=self.limits,
            add_generation_prompt=self.profile.add_generation_prompt,
            fixed_seed=True,
            note_empty=self.profile.note_empty_output,
        )
        path.begin(self.profile.messages(problem.text, solution.steps))
        draft = Draft(text=self.profile.prefix)
        status: str | None = None
        reason: str | None = None
        fault: EngineError | SandboxError | None = None
        try:
            await self._write(path, draft, len(solution.steps))
        except EngineError as error:
            status, reason, fault = "engine_failed", failure_text(error), error
        except SandboxError as error:
            status, reason, fault = "sandbox_failed", failure_text(error), error
        finally:
            await path.aclose()
        found = parse_review(draft.text, len(solution.steps), draft.rounds, thinking=self.profile.thinking)
        if status is None:
            status, reason = self._status(draft, found.first_error, found.reason)
        rationale = Rationale.model_validate(
            {
                "solution_id": solution.id,
                "problem_id": problem.id,
                "steps": found.steps,
                "first_error": found.first_error if status == "ok" else None,
                "status": status,
                "reason": reason,
                "teacher": self.engine.name,
                "sample": sample,
                "usage": path.usage,
            }
        )
        return rationale, fault

    async def _write(self, path: Path, draft: Draft, n_steps: int) -> None:
        """Write the review, pausing after every paragraph and before the final index."""
        options, profile = self.options, self.profile
        if profile.thinking == "strip" and not await self._think(path, draft):
            return
        finish = [_PARAGRAPH_END, profile.index_open]
        if profile.thinking == "review":
            finish.append(THINK_END)
        # A paragraph takes one turn of this loop, two if its judgement has to be forced.
        for _ in range(2 * n_steps + 2):
            await write(
                path, draft, finish=finish, max_rounds=options.max_rounds, max_tokens=options.max_tokens
            )
            if draft.end == "finish" and draft.text.endswith(THINK_END):
                draft.text += f"\n\n{profile.index_open}"
            if draft.text.endswith(profile.index_open):
                draft.add(await path.generate(draft.text, stop=("}",), max_tokens=_INDEX_TOKENS))
                return
            if draft.end == "rounds":
                draft.text += profile.forced_output
            elif draft.end != "finish":
                return
            draft.scanned = draft.safe = len(draft.text)

    async def _think(self, path: Path, draft: Draft) -> bool:
        """Let the teacher think; code in its thinking does not run. False if it never ended its thinking."""
        thought = await path.generate(draft.text, stop=(THINK_END,), max_tokens=self.options.max_tokens)
        draft.add(thought)
        draft.end = "tokens" if thought.finish_reason == "length" else "eos"
        draft.scanned = draft.safe = len(draft.text)
        return draft.text.endswith(THINK_END)

    def _status(self, draft: Draft, first_error: int | None, reason: str | None) -> tuple[str, str | None]:
        """The status of a review that no fault ended, and its reason."""
        if self.profile.thinking == "strip" and THINK_END not in draft.text and draft.end != "tokens":
            return "no_index", "the thinking never ends"
        if first_error is not None:
            return "ok", None
        if draft.end == "tokens":
            return "truncated", "token budget used up"
        return "no_index", reason
