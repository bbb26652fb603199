"""Seeded problems of the arithmetic world, with train and evaluation sides that share no skeleton.

A *skeleton* is the structure of a problem: which relation each person has, to which other people, and
what is asked; it has no names and no numbers. Skeletons are split by hash, and so are the given numbers
from 10 to 99: an evaluation problem has a structure and two-digit numbers that no training problem has.
Small factors (2 to 9) and the relation sentences themselves are the shared vocabulary.

Two harder splits of the evaluation side show what a verifier does beyond what it was trained on: `eval-large` gives
numbers five times as large, `eval-long` needs seven to nine steps.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType
from typing import Literal, NamedTuple

from genprm.errors import ConfigError
from genprm.records import Problem
from genprm.worlds.arithmetic.grammar import (
    ITEMS,
    NAMES,
    PLACES,
    RELATIONS,
    Quantity,
    Relation,
    Scene,
    ask,
    parse_problem,
    person_values,
    quantity,
    true_value,
)

Side = Literal["train", "eval"]
Split = Literal["train", "eval", "eval-large", "eval-long"]
SIDES: tuple[Side, ...] = ("train", "eval")
EVAL_SHARE = 3

_WEIGHTS = {
    "boxes": 1.0, "more": 2.2, "fewer": 2.0, "times": 1.6, "twice": 1.0, "half": 1.2, "third": 0.8,
    "share": 0.8, "gave": 1.6, "bought": 1.2, "needs": 1.8, "spare": 1.6, "both": 0.8,
}  # fmt: skip
_QUESTION_WEIGHTS = {"value": 2.0, "sum": 2.5, "gap": 1.5, "cost": 1.5, "costsum": 2.0}
_FACTORS = {"times": range(3, 5), "share": range(4, 6)}


class Level(NamedTuple):
    """What the problems of a split are like.

    Attributes:
        side: whose structures and given numbers they have.
        numbers: the range of the given numbers.
        derived: how many people's numbers follow from others', with weights.
        steps: fewest and most steps of the straight solution.
        most: the largest number of things, and of coins.
    """

    side: Side
    numbers: range = range(10, 100)
    derived: Mapping[int, int] = MappingProxyType({2: 3, 3: 4, 4: 2})
    steps: tuple[int, int] = (3, 5)
    most: tuple[int, int] = (200, 600)


SPLITS: Mapping[Split, Level] = {
    "train": Level("train"),
    "eval": Level("eval"),
    "eval-large": Level("eval", numbers=range(50, 500), most=(1000, 3000)),
    "eval-long": Level("eval", derived=MappingProxyType({6: 2, 7: 3, 8: 2}), steps=(7, 9)),
}


class Node(NamedTuple):
    """One person of a skeleton: the relation's kind and the positions of the people it refers to."""

    kind: str
    parents: tuple[int, ...] = ()


class Skeleton(NamedTuple):
    """The structure of a problem, without names, numbers and order of sentences."""

    nodes: tuple[Node, ...]
    question: str
    asked: tuple[int, ...]

    @property
    def key(self) -> str:
        """A canonical spelling, by which skeletons are compared and split."""
        people = ";".join(f"{n.kind}({','.join(map(str, n.parents))})" for n in self.nodes)
        return f"{people}?{self.question}({','.join(map(str, self.asked))})"

    @property
    def side(self) -> Side:
        """The side that this skeleton belongs to, by hash."""
        return _side(f"skeleton:{self.key}")


def _side(key: str) -> Side:
    return "eval" if hashlib.sha256(key.encode()).digest()[0] % EVAL_SHARE == 0 else "train"


@cache
def number_pool(split: Split) -> tuple[int, ...]:
    """The numbers of two or more digits that problems of a split may give."""
    level = SPLITS[split]
    return tuple(n for n in level.numbers if _side(f"number:{n}") == level.side)


def generate_problems(split: Split, count: int, seed: int = 0) -> list[Problem]:
    """Make `count` problems of a split, the same ones for the same arguments.

    The first `n` problems do not depend on `count`.

    Raises:
        ConfigError: an unknown split or a negative count.
    """
    if split not in SPLITS:
        raise ConfigError(
            f"the built-in arithmetic world has no split '{split}'", hint=f"Known: {', '.join(SPLITS)}."
        )
    if count < 0:
        raise ConfigError(f"cannot make {count} problems", hint="ask for 0 or more")
    return [_problem(split, seed, index) for index in range(count)]


def _problem(split: Split, seed: int, index: int) -> Problem:
    rng = random.Random(f"arithmetic:{split}:{seed}:{index}")
    while True:
        skeleton = draw_skeleton(rng, SPLITS[split])
        if skeleton.side != SPLITS[split].side:
            continue
        scene = _fill(skeleton, split, rng)
        if scene is None:
            continue
        answer = true_value(scene, scene.question)
        return Problem(
            id=f"arithmetic-{split}-{seed}-{index:05d}",
            text=scene.text,
            answer=str(answer),
            source="arithmetic",
            metadata={"split": split, "seed": seed, "index": index, "skeleton": skeleton.key},
        )


def draw_skeleton(rng: random.Random, level: Level) -> Skeleton:
    """A random structure of a level's size, of either side."""
    while True:
        nodes = _draw_nodes(rng, level)
        question, asked = _draw_question(rng, len(nodes))
        skeleton = Skeleton(nodes, question, asked)
        if _acceptable(skeleton, level):
            return skeleton


def _draw_nodes(rng: random.Random, level: Level) -> tuple[Node, ...]:
    derived = rng.choices(list(level.derived), weights=list(level.derived.values()))[0]
    nodes = [Node("given")]
    extra = rng.random() < 0.35
    position = rng.randint(1, derived) if extra else -1
    for step in range(1, derived + 1):
        if step == position:
            nodes.append(Node("given"))
        kind = rng.choices(list(_WEIGHTS), weights=list(_WEIGHTS.values()))[0]
        if kind == "boxes":
            nodes.append(Node("boxes"))
        elif kind == "both" and len(nodes) >= 2:
            nodes.append(Node("both", tuple(sorted(rng.sample(range(len(nodes)), 2)))))
        else:
            kind = "more" if kind == "both" else kind
            parent = len(nodes) - 1 if rng.random() < 0.7 else rng.randrange(len(nodes))
            nodes.append(Node(kind, (parent,)))
    return tuple(nodes)


def _draw_question(rng: random.Random, people: int) -> tuple[str, tuple[int, ...]]:
    kind = rng.choices(list(_QUESTION_WEIGHTS), weights=list(_QUESTION_WEIGHTS.values()))[0]
    last = people - 1
    if kind in {"value", "cost"}:
        return kind, (last,)
    return kind, tuple(sorted((rng.randrange(last), last)))


def _acceptable(skeleton: Skeleton, level: Level) -> bool:
    """As many steps as the level wants, and at most one person beside the point."""
    needed = set(skeleton.asked)
    for position in reversed(range(len(skeleton.nodes))):
        if position in needed:
            needed |= set(skeleton.nodes[position].parents)
    idle = len(skeleton.nodes) - len(needed)
    steps = sum(skeleton.nodes[p].kind != "given" for p in needed)
    steps += {"value": 0, "sum": 1, "gap": 1, "cost": 1, "costsum": 3}[skeleton.question]
    fewest, most = level.steps
    return fewest <= steps <= most and idle <= 1


def _fill(skeleton: Skeleton, split: Split, rng: random.Random) -> Scene | None:
    """Names and numbers for a skeleton; None where no numbers that fit were found."""
    pool = number_pool(split)
    names = rng.sample(NAMES, len(skeleton.nodes))
    item = rng.choice(ITEMS)
    price = rng.randint(2, 5) if skeleton.question.startswith("cost") else None
    place = rng.choice(PLACES)
    for _ in range(60):
        relations = [_relation(node, names, i, pool, rng) for i, node in enumerate(skeleton.nodes)]
        if rng.random() < 0.15:
            rng.shuffle(relations)
        asked = [names[i] for i in skeleton.asked]
        table = {r.person: r for r in relations}
        scene = Scene(place, item, table, *ask(skeleton.question, item, *asked), price)
        values = person_values(scene)
        if skeleton.question == "gap" and values[asked[0]] < values[asked[1]]:
            scene = Scene(place, item, table, *ask("gap", item, *reversed(asked)), price)
        total = true_value(scene, scene.question)
        most_things, most_coins = SPLITS[split].most
        sound = all(v.denominator == 1 and 2 <= v <= most_things for v in values.values())
        if sound and total is not None and 2 <= total <= most_coins:
            return scene
    return None


def _relation(
    node: Node, names: list[str], index: int, pool: tuple[int, ...], rng: random.Random
) -> Relation:
    others = tuple(names[p] for p in node.parents)
    form = RELATIONS[node.kind]
    if form.factor is not None:
        number = form.factor
    elif node.kind in _FACTORS:
        number = rng.choice(_FACTORS[node.kind])
    elif node.kind == "both":
        number = 0
    else:
        number = rng.choice(pool)
    count = rng.randint(2, 5) if node.kind == "boxes" else 0
    return Relation(node.kind, names[index], others, number, count)


def skeleton_of(problem: Problem | Mapping[str, object]) -> str:
    """The skeleton's key that a generated problem was made from."""
    metadata = problem.metadata if isinstance(problem, Problem) else problem
    return str(metadata["skeleton"])


def needed_quantities(scene: Scene) -> set[Quantity]:
    """Every quantity that lies on some way to the answer; all else is beside the point."""
    people = set(scene.question.who)
    for _ in scene.relations:
        people |= {o for name in people for o in scene.relations[name].others}
    needed = {quantity("has", name) for name in people} | {scene.question}
    if scene.question.kind == "cost" and len(scene.question.who) == 2:
        needed |= {quantity("cost", name) for name in scene.question.who}
        needed.add(quantity("has", *scene.question.who))
    return needed


def scene_of(problem: Problem) -> Scene:
    """The scene behind a problem's text (its metadata is not looked at)."""
    return parse_problem(problem.text)
