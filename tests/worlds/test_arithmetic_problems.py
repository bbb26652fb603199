"""Problems are seeded, readable back from their text, and the two sides share no skeleton and no number."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genprm.errors import ConfigError, DataError
from genprm.worlds.arithmetic import generate_problems, reference_solution
from genprm.worlds.arithmetic.grammar import parse_problem, person_values, true_value
from genprm.worlds.arithmetic.problems import SIDES, SPLITS, Split, number_pool, scene_of, skeleton_of


def test_the_same_arguments_give_the_same_problems() -> None:
    assert generate_problems("train", 20, seed=3) == generate_problems("train", 20, seed=3)
    assert generate_problems("train", 20, seed=3) != generate_problems("train", 20, seed=4)


def test_the_first_problems_do_not_depend_on_how_many_are_made() -> None:
    assert generate_problems("eval", 30, seed=1)[:10] == generate_problems("eval", 10, seed=1)


def test_train_and_eval_share_no_skeleton() -> None:
    keys = [{skeleton_of(p) for p in generate_problems(split, 400, seed=0)} for split in SIDES]
    assert not keys[0] & keys[1]
    assert min(len(k) for k in keys) > 200


def test_number_pools_are_disjoint_and_large_enough() -> None:
    train, evaluation = (set(number_pool(split)) for split in SIDES)
    assert not train & evaluation
    assert train | evaluation == set(range(10, 100))
    assert min(len(train), len(evaluation)) >= 20


@settings(max_examples=40, deadline=None)
@given(split=st.sampled_from(list(SPLITS)), seed=st.integers(0, 10**9))
def test_a_problem_keeps_the_promises_of_its_split(split: Split, seed: int) -> None:
    (problem,) = generate_problems(split, 1, seed)
    numbers = {int(n) for n in re.findall(r"\d+", problem.text)}
    assert {n for n in numbers if n >= 10} <= set(number_pool(split))
    scene = parse_problem(problem.text)
    assert scene.text == problem.text
    values = person_values(scene)
    assert all(v.denominator == 1 and v >= 2 for v in values.values())
    assert str(true_value(scene, scene.question)) == problem.answer
    assert split in problem.id
    fewest, most = SPLITS[split].steps
    assert fewest <= len(reference_solution(problem)) <= most


@pytest.mark.parametrize("split", ["eval-large", "eval-long"])
def test_the_harder_splits_share_no_structure_and_no_given_number_with_training(split: Split) -> None:
    train, harder = generate_problems("train", 400, seed=0), generate_problems(split, 60, seed=0)
    assert not {skeleton_of(p) for p in train} & {skeleton_of(p) for p in harder}
    assert not set(number_pool("train")) & set(number_pool(split))


def test_the_large_split_gives_numbers_five_times_as_large() -> None:
    assert min(number_pool("eval-large")) >= 50 and max(number_pool("eval-large")) > 490
    given = [
        int(n) for p in generate_problems("eval-large", 60, seed=0) for n in re.findall(r"\d\d+", p.text)
    ]
    assert sum(given) / len(given) > 100


def test_every_relation_and_question_occurs() -> None:
    scenes = [scene_of(p) for p in generate_problems("train", 400, seed=5)]
    assert len({r.kind for s in scenes for r in s.relations.values()}) == 14
    assert {(s.question.kind, len(s.question.who)) for s in scenes} == {
        ("has", 1), ("has", 2), ("gap", 2), ("cost", 1), ("cost", 2),
    }  # fmt: skip


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(ConfigError, match="test"):
        generate_problems("test", 1)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="-1"):
        generate_problems("train", -1)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "What is 2 + 2?",
        "At school, Ann has 23 apples.",
        "At school, Ann has 23 apples. How many apples does Bob have?",
        "At school, Ann has 3 more apples than Bob. Bob has 3 more apples than Ann. How many apples does Bob have?",
        "At school, Ann has 23 apples. How many coins do the apples of Ann cost?",
    ],
)
def test_a_foreign_text_is_refused(text: str) -> None:
    with pytest.raises(DataError):
        person_values(parse_problem(text))
