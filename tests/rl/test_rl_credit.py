"""Credit rules: their equations, and that what depends on the unknown is unknown."""

from __future__ import annotations

import math
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genprm import ConfigError
from genprm.rl import CreditRule, learnable, place, returns, step_credits
from genprm.rl.advantages import MARK, group_advantages, marked, spread, token_advantages

REWARDS = st.lists(st.floats(0, 1), min_size=1, max_size=12)
PARTLY = st.lists(st.one_of(st.none(), st.floats(0, 1)), min_size=1, max_size=12)
RULES: tuple[CreditRule, ...] = get_args(CreditRule)


@given(REWARDS)
def test_the_whole_return_is_what_the_table_says(rewards: list[float]) -> None:
    def whole(rule: CreditRule, **options: float) -> float:
        found = returns(step_credits(rewards, rule, **options))[0]
        assert found is not None
        return found

    assert whole("last") == rewards[-1]
    assert whole("sum") == pytest.approx(math.fsum(rewards))
    assert whole("difference", start=0.25) == pytest.approx(rewards[-1] - 0.25)
    assert whole("min", temperature=0) == min(rewards)
    assert whole("min", temperature=1e-4) == pytest.approx(min(rewards), abs=0.01)
    assert min(rewards) - 1e-9 <= whole("min") <= math.fsum(rewards) / len(rewards) + 1e-9


@given(REWARDS, st.floats(0.01, 2))
def test_min_form_is_the_softmax_of_pure(rewards: list[float], temperature: float) -> None:
    total = math.fsum(math.exp(-reward / temperature) for reward in rewards)
    expected = [math.exp(-reward / temperature) / total * reward for reward in rewards]
    assert step_credits(rewards, "min", temperature=temperature) == pytest.approx(expected)


@given(PARTLY, st.sampled_from(RULES))
def test_unknown_is_masked_and_never_a_number(rewards: list[float | None], rule: CreditRule) -> None:
    """Whatever stands in the place of the unknown, a return that is given does not depend on it."""
    found = returns(step_credits(rewards, rule))
    filled = [
        returns(step_credits([value if reward is None else reward for reward in rewards], rule))
        for value in (0.0, 1.0)
    ]
    for given_, low, high in zip(found, *filled, strict=True):
        if given_ is not None:
            assert given_ == pytest.approx(low) == pytest.approx(high)
    if rule == "last":
        assert (found[0] is None) == (rewards[-1] is None)
    if rule == "min":
        assert (found[0] is None) == (None in rewards)
    if None in rewards and rule in ("sum", "difference"):
        assert found[0] is None


@given(PARTLY, st.sampled_from(RULES))
def test_what_is_not_a_number_is_unknown(rewards: list[float | None], rule: CreditRule) -> None:
    as_nan = [math.nan if reward is None else reward for reward in rewards]
    assert step_credits(as_nan, rule) == step_credits(rewards, rule)


def test_steps_after_the_last_unknown_can_be_learned_from() -> None:
    rewards, ends = [0.5, None, 0.25, 1.0], [1, 2, 4, 5]
    assert step_credits(rewards, "sum") == (0.5, None, 0.25, 1.0)
    assert learnable(step_credits(rewards, "sum"), ends, 6) == [False, False, False, True, True, True]
    assert step_credits(rewards, "difference") == (0.5, None, None, 0.75)
    assert learnable(step_credits(rewards, "difference"), ends, 6) == [False] * 5 + [True]
    assert learnable(step_credits(rewards, "last"), ends, 6) == [True] * 6
    assert learnable(step_credits(rewards, "min"), ends, 6) == [False] * 6
    assert learnable((), (), 2) == [False, False]


def test_credits_stand_at_the_ends_of_their_steps() -> None:
    assert place([0.5, 0.25], [1, 3], 4) == [0.0, 0.5, 0.0, 0.25]
    assert place([0.5, 0.25], [1, 1], 2) == [0.0, 0.75]
    placed = place([0.5, None], [0, 2], 3)
    assert placed[:2] == [0.5, 0.0]
    assert math.isnan(placed[2])
    assert marked([0.0, 0.0, 0.5], [1, 2]) == [0.0, MARK, 0.5]


def test_a_rule_that_is_none_is_an_error() -> None:
    with pytest.raises(ConfigError, match="'mean'"):
        step_credits([0.5], "mean")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="negative"):
        step_credits([0.5], "min", temperature=-1)


def test_one_credit_per_response_is_grpo() -> None:
    rewards = [0.2, 0.9, 0.4]
    mean = sum(rewards) / 3
    deviation = math.sqrt(sum((reward - mean) ** 2 for reward in rewards) / 2)
    found = group_advantages([[reward] for reward in rewards], ["p"] * 3)
    assert [row[0] for row in found] == pytest.approx([(r - mean) / deviation for r in rewards], abs=1e-4)


@given(st.lists(PARTLY, min_size=1, max_size=6))
def test_the_unknown_moves_no_advantage(rows: list[list[float | None]]) -> None:
    """A response that is wholly unknown changes nothing for the others, and has no advantage itself."""
    alone = group_advantages(rows, ["p"] * len(rows))
    beside = group_advantages([*rows, [None, math.nan]], ["p"] * (len(rows) + 1))
    assert beside == [*alone, [None, None]]
    known = [value for row in rows for value in row if value is not None]
    for row, found in zip(rows, alone, strict=True):
        for index, advantage in enumerate(found):
            assert (advantage is None) == (None in row[index:] or len(known) < 2)


def test_groups_are_apart_and_one_alone_teaches_nothing() -> None:
    found = group_advantages([[1.0], [0.0], [0.5]], ["p", "p", "q"], by_deviation=False)
    assert found == [[0.5], [-0.5], [None]]
    assert spread([1.0, None], [1, 2], 4) == [1.0, 1.0, 0.0, 0.0]


def test_tensors_say_the_same() -> None:
    torch = pytest.importorskip("torch")
    rewards = torch.tensor(
        [
            [0.0, 0.5, 0.0, 0.9, 0.0],
            [0.0, MARK, 0.3, 0.0, 0.0],
            [0.0, 0.0, math.nan, 0.0, 0.0],
            [0.0, math.nan, 0.7, 0.0, 0.0],
        ]
    )
    mask = torch.tensor([[1, 1, 1, 1, 0], [1, 1, 1, 0, 0], [1, 1, 1, 0, 0], [1, 1, 1, 0, 0]])
    found = token_advantages(rewards, mask, ["p"] * 4)
    steps = group_advantages([[0.5, 0.9], [0.0, 0.3], [None], [None, 0.7]], ["p"] * 4)
    assert found[0].tolist() == pytest.approx([steps[0][0]] * 2 + [steps[0][1]] * 2 + [0.0])
    assert found[1].tolist() == pytest.approx([steps[1][0]] * 2 + [steps[1][1], 0.0, 0.0])
    assert found[2].tolist() == [0.0] * 5
    assert found[3].tolist() == pytest.approx([0.0, 0.0, steps[3][1], 0.0, 0.0])
