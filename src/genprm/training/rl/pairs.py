"""Preference pairs from a verifier's own votes: on one step, a turn that the label bears out and one that it does not.

Both turns follow the same chat: the turns of the preferred path on the steps before, which the labels bear out as well
(Step-DPO, arXiv:2406.18629: correct earlier steps, then one right and one wrong continuation). The rejected turn was
written after its own path's earlier turns, which were right too, but not in the same words, unless the paths share a
history.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Literal

from genprm.config import DpoConfig
from genprm.errors import DataError
from genprm.identity import rows_digest
from genprm.records import ChatMessage, LabelledSolution, StepVerdict, Verification, Vote, VoteStatus
from genprm.rewards.voting import leading_vote
from genprm.text.prompts import VerifierProfile
from genprm.training.rl.credit import format_fault
from genprm.training.rl.rollout import labelled_steps

_VERDICTS = (VoteStatus.OK, VoteStatus.NO_LOGPROBS)
"""Votes with a verdict; whether its probability could be read does not matter here."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Two ways to continue one chat.

    Attributes:
        id: the solution's id and the step, from 1.
        prompt: the chat up to the step's user turn.
        chosen, rejected: the assistant's turn.
    """

    id: str
    prompt: tuple[ChatMessage, ...]
    chosen: str
    rejected: str


@dataclass(frozen=True, slots=True)
class Pairs:
    """The pairs of many verifications, and what gave none.

    Attributes:
        counts: of labelled steps: `paired`; `agreed` and `disagreed`, on which all votes are alike and give no pair;
            `unknown`, without any vote that could be used and followed. Of other steps: `unlabelled`. Of
            verifications: `unmatched`, without labels, and `repeated`, the same as one before. Of votes in no pair:
            `malformed`; `lost` to a fault; `off_path`, after an earlier turn that the label does not bear out;
            `unseen`, after an earlier turn that the verification does not hold, because adaptive voting did not ask
            this path for a vote there, or because it does not say whether paths shared a history.
        sources: where the labels come from, as they say.
    """

    rows: tuple[Pair, ...]
    counts: Counter[str]
    sources: tuple[str, ...] = ()


def preference_pairs(
    verifications: Iterable[Verification],
    labelled: Iterable[LabelledSolution],
    profile: VerifierProfile,
    options: DpoConfig,
) -> Pairs:
    """Pairs from every labelled step up to the first wrong one on which votes disagree.

    Args:
        verifications: matched with the labels by their ids, `item_id` and `id`; components must be those of
            `options.verify`. One that says the same as an earlier one, whatever it cost, gives no pair again.
        profile: the prompt profile with which the votes were taken.

    Raises:
        DataError: two solutions with one id, steps that differ from the labelled ones, or votes of another form.
    """
    known: dict[str, LabelledSolution] = {}
    for solution in labelled:
        if known.setdefault(solution.id, solution) != solution:
            raise DataError(f"two labelled solutions have the id '{solution.id}'")
    counts: Counter[str] = Counter()
    rows: list[Pair] = []
    seen: set[str] = set()
    for row in verifications:
        found = known.get(row.item_id)
        if found is None:
            counts["unmatched"] += 1
            continue
        digest = rows_digest([row])
        if digest in seen:
            counts["repeated"] += 1
            continue
        seen.add(digest)
        _check(row, found, options)
        rows += _of_solution(row, found, profile, options, counts)
    return Pairs(
        tuple(rows),
        counts,
        tuple(sorted({solution.source for solution in known.values() if solution.source})),
    )


def _check(row: Verification, solution: LabelledSolution, options: DpoConfig) -> None:
    if row.steps != solution.steps or row.problem != solution.problem:
        raise DataError(
            f"verification '{row.item_id}' is of another problem or other steps than the labels under this id",
            hint="give the labels of the solutions that were verified",
        )
    if row.components != options.verify.components:
        raise DataError(
            f"verification '{row.item_id}' was made with components '{row.components}', and the model is to be asked "
            f"with '{options.verify.components}'",
            hint=f"set verify.components={row.components or 'those of a generative verifier'}",
        )


def _of_solution(
    row: Verification,
    solution: LabelledSolution,
    profile: VerifierProfile,
    options: DpoConfig,
    counts: Counter[str],
) -> Iterator[Pair]:
    judged = labelled_steps(solution)
    if not judged:
        counts["unlabelled"] += len(solution.steps)
    told = _Told(row.history)
    for step in range(judged):
        label, verdict = solution.labels[step], row.verdicts[step]
        on_path: dict[int, tuple[str, ...]] = {}
        votes = _usable(verdict, counts)
        if label is None:
            counts["unlabelled"] += 1
        for vote in votes:
            turns = told.before(vote.path)
            if isinstance(turns, _Lost):
                counts[turns.value] += 1
            else:
                on_path[vote.path] = turns
        votes = [vote for vote in votes if vote.path in on_path]
        agreeing = [vote for vote in votes if vote.judgement is label]
        opposed = [vote for vote in votes if label is not None and vote.judgement is not label]
        if label is not None:
            counts[_kind(agreeing, opposed)] += 1
        matched = list(zip(agreeing, opposed, strict=False))
        for good, bad in matched[: options.pairs_per_step]:
            prompt = profile.messages(
                row.problem, row.steps, step, on_path[good.path], components=options.verify.components
            )
            yield Pair(f"{row.item_id}:{step + 1}", prompt, _text(good), _text(bad))
        right = votes if label is None else agreeing
        told.add(verdict, {vote.path: (*on_path[vote.path], _text(vote)) for vote in right})


class _Lost(Enum):
    """Why no pair can follow what a path has written; the values are those of `Pairs.counts`."""

    OFF = "off_path"
    UNSEEN = "unseen"


class _Told:
    """What each path had written before a step, as far as the votes hold it.

    Args:
        history: the verification's; if nobody knows it, nobody knows what a path had written after the first step.
    """

    def __init__(self, history: Literal["independent", "shared"] | None) -> None:
        self._history = history
        self._paths: dict[int, tuple[str, ...] | _Lost] = {}
        self._others: tuple[str, ...] | _Lost = ()

    def before(self, path: int) -> tuple[str, ...] | _Lost:
        """The path's turns on the steps so far, if all of them are known and borne out by their labels."""
        return self._paths.get(path, self._others)

    def add(self, verdict: StepVerdict, right: Mapping[int, tuple[str, ...]]) -> None:
        """Go on behind a step; `right` are the turns of the paths whose turn on it is borne out as well."""
        lost = {
            vote.path: _Lost.UNSEEN if self.before(vote.path) is _Lost.UNSEEN else _Lost.OFF
            for vote in verdict.votes
        }
        if self._history is None:
            self._paths, self._others = {}, _Lost.UNSEEN
            return
        found: dict[int, tuple[str, ...] | _Lost] = {**lost, **right}
        leader = leading_vote(verdict) if self._history == "shared" else None
        if leader is not None:
            self._paths, self._others = {}, found[leader.path]
            return
        silent = {path: turns for path, turns in self._paths.items() if turns is _Lost.OFF}
        self._paths = {**silent, **found}
        self._others = _Lost.OFF if self._others is _Lost.OFF else _Lost.UNSEEN


def _kind(agreeing: Sequence[Vote], opposed: Sequence[Vote]) -> str:
    if agreeing and opposed:
        return "paired"
    if agreeing:
        return "agreed"
    return "disagreed" if opposed else "unknown"


def _usable(verdict: StepVerdict, counts: Counter[str]) -> list[Vote]:
    """The votes with exactly one verdict of their own, in the order of their paths."""
    found = []
    for vote in sorted(verdict.votes, key=lambda one: one.path):
        if vote.status not in (*_VERDICTS, VoteStatus.NO_JUDGEMENT):
            counts["lost"] += 1
        elif format_fault(vote) is not None:
            counts["malformed"] += 1
        else:
            found.append(vote)
    return found


def _text(vote: Vote) -> str:
    assert vote.rationale is not None  # `format_fault` has seen it
    return vote.rationale.text
