"""Rollouts: verification paths of the model that is being trained, as tokens with a mask.

A rollout is what inference does: a `VerificationPath` with the profile's openings, executed code and bounds, on the
model's own earlier turns. Its text is then rendered as a training chat is, and a token carries the loss if it starts
in what the model wrote itself: neither in a prompt, nor in a forced opening, nor in a `[Code Output]` block.

A path ends with its first malformed turn. If that one met a bound, it stands in the rollout as the model left it, so
that what led to the bound is what learns from it.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from genprm.config import GrpoConfig
from genprm.errors import TrainingError
from genprm.generate.executions import Runs
from genprm.records import ChatMessage, LabelledSolution
from genprm.rewards.genprm.path import PathContext, VerificationPath
from genprm.rewards.genprm.written import WrittenTurn
from genprm.training.chat_data import ChatEncoder
from genprm.training.rl.credit import Credit, credit


@dataclass(frozen=True, slots=True)
class Rollout:
    """One path through a solution.

    Attributes:
        text: the whole chat, rendered.
        ids: its tokens, up to the last one that the model wrote.
        steps: for each token the step in whose turn the model wrote it, -1 for a token of anybody else.
        credits: what each turn is worth, up to the first malformed or lost one.
    """

    text: str
    ids: tuple[int, ...]
    steps: tuple[int, ...]
    credits: tuple[Credit, ...]

    @property
    def start(self) -> int:
        """How many tokens come before the first one that the model wrote; at least one token follows them."""
        own = (place for place, step in enumerate(self.steps) if step >= 0)
        return next(own, len(self.ids) - 1)


def labelled_steps(solution: LabelledSolution) -> int:
    """How many steps a path judges: up to the last label, and no further than the first step labelled wrong."""
    known = [index for index, label in enumerate(solution.labels) if label is not None]
    wrong = next((index for index in known if solution.labels[index] is False), None)
    return 1 + (known[-1] if wrong is None else wrong) if known else 0


@dataclass(frozen=True, slots=True)
class Roller:
    """Makes rollouts.

    Args:
        context: engine, sandbox, profile and bounds; its seed decides the sampling.
        encoder: of the model's tokenizer.
    """

    context: PathContext
    encoder: ChatEncoder
    options: GrpoConfig

    async def roll_out(self, solutions: Sequence[LabelledSolution], seed: int) -> list[list[Rollout]]:
        """A group of `options.paths` rollouts for each solution, all at once."""
        context = dataclasses.replace(self.context, seed=seed)
        return await asyncio.gather(*(self._group(context, solution) for solution in solutions))

    async def _group(self, context: PathContext, solution: LabelledSolution) -> list[Rollout]:
        runs = Runs()
        paths = [
            VerificationPath(context, solution.id, solution.problem, index, runs)
            for index in range(self.options.paths)
        ]
        return await asyncio.gather(*(self._follow(path, solution) for path in paths))

    async def _follow(self, path: VerificationPath, solution: LabelledSolution) -> Rollout:
        credits_: list[Credit] = []
        try:
            for step in range(labelled_steps(solution)):
                vote = await path.judge(solution.steps[step])
                credits_.append(credit(vote, solution.labels[step], self.options))
                if credits_[-1].outcome in ("malformed", "lost"):
                    break
        finally:
            await path.aclose()
        return self._encoded(solution, path.turns, credits_)

    def _encoded(
        self, solution: LabelledSolution, turns: Sequence[WrittenTurn], credits_: Sequence[Credit]
    ) -> Rollout:
        turns = [*turns[:-1], turns[-1].before or turns[-1]] if turns else []
        messages = self._chat(solution, turns)
        try:
            text, starts = self.encoder.content_starts(messages)
        except TrainingError as error:
            # Something in the model's own text, such as a tag that the template acts on.
            lost = tuple(Credit("lost", reason=error.message) for _ in credits_)
            return Rollout("", (0,), (-1,), lost)
        answers = [
            start for start, message in zip(starts, messages, strict=True) if message.role == "assistant"
        ]
        placed = [
            (step, (start + first, start + last))
            for step, (start, turn) in enumerate(zip(answers, turns, strict=True))
            for first, last in turn.own
        ]
        ids, owner = self.encoder.owners(text, [span for _, span in placed])
        steps = [placed[number][0] if number >= 0 else -1 for number in owner.tolist()]
        end = next((place + 1 for place in reversed(range(len(steps))) if steps[place] >= 0), len(steps))
        return Rollout(text, tuple(ids[:end].tolist()), tuple(steps[:end]), tuple(credits_))

    def _chat(self, solution: LabelledSolution, turns: Sequence[WrittenTurn]) -> list[ChatMessage]:
        profile, components = self.context.profile, self.context.options.components
        answers = [turn.text for turn in turns]
        last = max(0, len(turns) - 1)
        chat = profile.messages(
            solution.problem, solution.steps, last, answers[:last], components=components
        )
        return [*chat, *(ChatMessage(role="assistant", content=text) for text in answers[last:])]
