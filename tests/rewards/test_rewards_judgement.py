"""Rewards: p(Yes) / (p(Yes) + p(No)) at the judgement token, whatever the tokeniser."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genprm.engines import Completion, TokenLogprob
from genprm.rewards.genprm.judgement import read_reward, reward_at
from genprm.text.transcript import find_judgement


def token(text: str, top: dict[str, float], offset: int = 0) -> TokenLogprob:
    ranked = sorted(top.items(), key=lambda pair: -pair[1])
    return TokenLogprob(
        text, math.log(top.get(text, 1e-9)), offset, tuple((t, math.log(p)) for t, p in ranked)
    )


@pytest.mark.parametrize(
    ("text", "lead", "top", "reward"),
    [
        ("Yes", "", {"Yes": 0.6, "No": 0.2}, 0.75),
        (" Yes", " ", {" Yes": 0.6, " No": 0.2}, 0.75),
        ("{Yes", "{", {"{Yes": 0.6, "{No": 0.2}, 0.75),
        ("Yes}$", "", {"Yes}$": 0.5, "Yes}": 0.1, "No}$": 0.2}, 0.75),
        ("Y", "", {"Y": 0.6, "N": 0.2}, 0.75),
        ("Y", "", {"Y": 0.5, "Yes": 0.1, "N": 0.1, "No": 0.1}, 0.75),
        ("Yes", "", {"Yes": 0.3, "yes": 0.2, " YES": 0.1, "NO": 0.1, "no": 0.1}, 0.75),
        ("Yes", "", {"Yes": 0.6, "No": 0.2, "Not": 0.1, "Yesterday": 0.05, "{": 0.05}, 0.75),
        ("$\\boxed{No", "$\\boxed{", {"$\\boxed{No": 0.2, "$\\boxed{Yes": 0.6}, 0.75),
    ],
)
def test_alternatives_are_summed_over_spellings(
    text: str, lead: str, top: dict[str, float], reward: float
) -> None:
    found = reward_at(token(text, top), lead)
    assert found is not None
    assert found.value == pytest.approx(reward)
    assert found.bound == "exact"


def test_a_word_outside_the_top_k_makes_a_bound() -> None:
    yes = reward_at(token("Yes", {"Yes": 0.9, "Maybe": 0.04}))
    assert yes is not None and yes.bound == "other_outside_top_k"
    assert yes.value == pytest.approx(0.9 / 0.96)
    no = reward_at(token("No", {"No": 0.8}))
    assert no is not None and no.value == pytest.approx(0.2)
    assert reward_at(token("Perhaps", {"Perhaps": 1.0})) is None


def test_the_sampled_token_counts_even_outside_the_top_k() -> None:
    found = reward_at(TokenLogprob("No", math.log(0.1), 0, (("Yes", math.log(0.3)),)))
    assert found is not None and found.value == pytest.approx(0.75) and found.bound == "exact"


@given(
    st.floats(0.001, 0.998),
    st.floats(0.001, 0.998),
    st.sampled_from(["", " ", "{", "\\boxed{"]),
    st.booleans(),
)
def test_rewards_are_shares(p_yes: float, p_no: float, lead: str, yes: bool) -> None:
    scale = max(1.0, p_yes + p_no)
    top = {lead + "Yes": p_yes / scale, lead + "No": p_no / scale}
    found = reward_at(token(lead + ("Yes" if yes else "No"), top), lead)
    assert found is not None
    assert found.value == pytest.approx(p_yes / (p_yes + p_no))


@given(
    st.floats(-20, 0),
    st.sampled_from([math.nan, math.inf]),
    st.sampled_from(["Yes", "No", "Maybe"]),
    st.sampled_from(["Yes", "No"]),
)
def test_a_probability_that_is_not_a_number_leaves_nothing_known(
    logprob: float, strange: float, where: str, word: str
) -> None:
    top = {"Yes": logprob, "No": logprob, "Maybe": -3.0, where: strange}
    assert reward_at(TokenLogprob(word, top[word], 0, tuple(top.items()))) is None


def test_an_impossible_word_is_a_certain_other() -> None:
    found = reward_at(TokenLogprob("Yes", -0.1, 0, (("Yes", -0.1), ("No", -math.inf))))
    assert found is not None and 0.5 < found.value <= 1


def completion(pieces: list[str], at: int, top: dict[str, float]) -> Completion:
    tokens, offset = [], 0
    for i, piece in enumerate(pieces):
        tokens.append(token(piece, top if i == at else {piece: 1.0}, offset))
        offset += len(piece)
    return Completion(text="".join(pieces), tokens=tuple(tokens))


@pytest.mark.parametrize(
    ("before", "pieces", "at", "top"),
    [
        ("<output>\n$\\boxed{", ["Yes", "}$"], 0, {"Yes": 0.6, "No": 0.2}),
        ("<output>\n$\\boxed", ["{", "Y", "es", "}"], 1, {"Y": 0.6, "N": 0.2}),
        ("<output>\n$\\boxed", ["{Yes", "}"], 0, {"{Yes": 0.6, "{No": 0.2}),
        ("", ["<output>\n", "$\\", "boxed", "{", " Yes", "}$\n</output>\n"], 4, {" Yes": 0.6, " No": 0.2}),
        ("<output>", ["\\boxed{Yes}$"], 0, {"\\boxed{Yes}$": 0.6, "\\boxed{No}$": 0.2}),
    ],
)
def test_the_token_is_found_by_text_offsets(
    before: str, pieces: list[str], at: int, top: dict[str, float]
) -> None:
    done = completion(pieces, at, top)
    judgement = find_judgement(before + done.text)
    assert judgement is not None
    found = read_reward(judgement, [(0, Completion(text="x")), (len(before), done)])
    assert found is not None and found.value == pytest.approx(0.75)


def test_no_logprobs_no_reward() -> None:
    judgement = find_judgement("<output>\\boxed{Yes}")
    assert judgement is not None
    assert read_reward(judgement, [(0, Completion(text="<output>\\boxed{Yes}"))]) is None
    assert read_reward(judgement, []) is None
    assert read_reward(judgement, [(18, completion(["s}"], 0, {"s}": 1.0}))]) is None
