"""The reward of a judgement, read from log-probabilities (equations 4 and 5).

The judgement token is the one that holds the first character of the boxed word, found by text offsets,
because tokenisers differ: `Yes`, ` Yes`, `{Yes`, `Yes}$`, or `Y` and `es`. "Yes" and "No" differ in that
character, so the alternatives of this one token decide.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from genprm.engines.base import Completion
from genprm.engines.tokens import TokenLogprob, token_at
from genprm.text.transcript import Judgement

_OPENERS = " \t\n{$"
_BY_LETTER = {"y": "yes", "Y": "yes", "n": "no", "N": "no"}
# Two log-probabilities of one token in one answer differ by rounding at most.
_SAME = 1e-3


@dataclass(frozen=True, slots=True)
class Reward:
    """p(Yes) / (p(Yes) + p(No)), in [0, 1].

    Attributes:
        bound: `other_outside_top_k` if one word was not among the alternatives. Then the whole
            probability that the alternatives leave over is given to the missing word, and `value` is a
            bound: at most the true reward if No is missing, at least it if Yes is.
    """

    value: float
    bound: Literal["exact", "other_outside_top_k"] = "exact"


def read_reward(judgement: Judgement, pieces: Sequence[tuple[int, Completion]]) -> Reward | None:
    """The reward of a judgement found in a text that was generated in pieces.

    Args:
        judgement: where the word stands in the text.
        pieces: (start in the text, completion), in order of generation.

    Returns:
        None if there are no usable log-probabilities at the word: the engine gave none, or some that are no
        probabilities, or the word was not generated.
    """
    # Later pieces overwrite the text of earlier ones that were cut, so the last one wins.
    piece = next((piece for piece in reversed(pieces) if piece[0] <= judgement.start), None)
    if piece is None:
        return None
    start, completion = piece
    position = judgement.start - start
    token = token_at(completion.tokens, position)
    if token is None:
        return None
    return reward_at(token, token.text[: position - token.offset])


def reward_at(token: TokenLogprob, lead: str = "") -> Reward | None:
    """The reward at a judgement token; `lead` is what the token holds before the word.

    Probabilities of alternatives that read alike add up. None if neither word is among the alternatives, or if a
    log-probability is unknown: then nothing is known about the shares of the others either.
    """
    alternatives = _with_sampled(token)
    if not all(logprob < math.inf for _, logprob in alternatives):  # NaN is not, either
        return None
    yes = no = 0.0
    for text, logprob in alternatives:
        word = _word(text, lead)
        if word == "yes":
            yes += _probability(logprob)
        elif word == "no":
            no += _probability(logprob)
    if yes + no <= 0.0:
        return None
    if yes > 0.0 and no > 0.0:
        return Reward(yes / (yes + no))
    left = min(1.0, max(0.0, 1.0 - sum(_probability(logprob) for _, logprob in alternatives)))
    value = yes / (yes + left) if yes > 0.0 else left / (no + left)
    return Reward(value, "other_outside_top_k")


def _probability(logprob: float) -> float:
    return math.exp(min(0.0, logprob))


def _with_sampled(token: TokenLogprob) -> list[tuple[str, float]]:
    """The alternatives, and the sampled token if it is not one of them.

    An alternative that reads like it may be another token: a server that keys alternatives by their text shows one of
    the two. Its own log-probability says which, if the server gives it.
    """
    alike = [logprob for text, logprob in token.top if text == token.text]
    if alike and math.isnan(token.logprob):
        return list(token.top)
    if any(math.isclose(logprob, token.logprob, abs_tol=_SAME) for logprob in alike):
        return list(token.top)
    return [(token.text, token.logprob), *token.top]


def _word(token: str, lead: str) -> str | None:
    """The word of which a token can only be the beginning, with or without what follows it; None for neither."""
    core = token[len(lead) :] if lead and token.startswith(lead) else token.lstrip(_OPENERS)
    word = _BY_LETTER.get(core[:1])
    if word is None:
        return None
    core = core.lower()
    if core.startswith(word):
        return None if core[len(word) : len(word) + 1].isalpha() else word
    return word if word.startswith(core) else None
