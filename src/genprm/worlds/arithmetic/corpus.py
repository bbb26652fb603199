"""Training text of the tiny models: exercises for the base, solutions and rewritings for the policy.

Everything is made from train-side skeletons and numbers. Nothing here judges a step: whether a step is
right is said only in what the tutor writes, and the verifiers of the quickstart learn it from there. What
True and False, Yes and No mean the base learns from questions about plain sums.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

from genprm.text.prompts import PolicyProfile, RefineProfile, VerifierProfile, load_profile
from genprm.worlds.arithmetic.grammar import (
    Scene,
    evaluate,
    parse_problem,
    parse_step,
    person_values,
    quantity,
    quoted,
    true_value,
)
from genprm.worlds.arithmetic.problems import generate_problems
from genprm.worlds.arithmetic.reasoning import (
    AGREES,
    DIFFERS,
    Need,
    conclusion,
    known_values,
    need,
    plan_check,
    saying,
)
from genprm.worlds.arithmetic.truth import judge_steps
from genprm.worlds.arithmetic.writer import (
    CARELESS_HABITS,
    CLEAN,
    MISREADING_HABITS,
    POLICY_HABITS,
    quieter,
    write_solution,
)

SEPARATOR = "\n\n"


class Piece(NamedTuple):
    """A stretch of training text; `learn` tells whether the loss counts it."""

    text: str
    learn: bool


Document = list[Piece]


class Dialogue(NamedTuple):
    """A chat to train on: (role, content) turns; the loss counts assistant turns."""

    turns: tuple[tuple[str, str], ...]


def train_scenes(count: int, seed: int) -> list[Scene]:
    """Scenes of the train side."""
    return [parse_problem(p.text) for p in generate_problems("train", count, seed)]


def base_documents(scenes: Sequence[Scene], seed: int) -> list[Document]:
    """The base's exercises: reading and recall for each scene, plain solutions and arithmetic for some."""
    rng = random.Random(f"base:{seed}")
    documents: list[Document] = []
    for scene in scenes:
        read = chat_exercise if rng.random() < 0.6 else reading_exercise
        documents += [read(scene, rng), recall_exercise(scene, rng), noun_exercise(scene, rng)]
        if rng.random() < 0.6:
            steps = write_solution(scene, rng, CLEAN if rng.random() < 0.4 else POLICY_HABITS)
            documents.append([Piece(scene.text + "\n", False), Piece(SEPARATOR.join(steps), True)])
        if rng.random() < 0.6:
            documents.append(equations(rng))
        if rng.random() < 0.6:
            documents.append(questions(rng))
        documents += [comparisons(rng), comparisons(rng)]
    rng.shuffle(documents)
    return documents


def reading_exercise(scene: Scene, rng: random.Random) -> Document:
    """A problem, then the steps of a solution, each followed by what it needs, by what it says and mostly by code.

    The code compares the two. Printed output is read and put into words. Whether the step is right is not said. In
    every third solution half of the numbers that steps quote are other people's: what a step needs can then not be
    copied from the step.
    """
    careless = quieter(CARELESS_HABITS, rng.choice((0.0, 1.0, 1.5)))
    steps = write_solution(scene, rng, MISREADING_HABITS if rng.random() < 0.35 else careless)
    answer = true_value(scene, scene.question, person_values(scene))
    document = [Piece(scene.text, False)]
    for index, step in enumerate(steps):
        claim = parse_step(step)
        if claim is None or answer is None:
            continue
        plan = plan_check(scene, claim, known_values(scene, steps[:index]), answer)
        document.append(Piece(f"\n{step}\n", True))
        if plan is not None:
            document.append(Piece(f"{plan.lead}{plan.need.text(rng)} {saying(plan)}", True))
            if rng.random() < 0.6:
                document += [Piece("\n", True), *comparison(plan.check, rng)]
    return document


def chat_exercise(scene: Scene, rng: random.Random) -> Document:
    """A reading exercise laid out as a verifier's chat, since a small model does not carry over what it can by itself.

    No step is judged or concluded about: a turn ends where the judgement would stand.
    """
    profile = load_profile("compact", VerifierProfile)
    steps = write_solution(scene, rng, MISREADING_HABITS if rng.random() < 0.4 else CARELESS_HABITS)
    answer = true_value(scene, scene.question, person_values(scene))
    coded, executed = rng.random() < 0.8, rng.random() < 0.85
    document = [Piece(f"<|system|>{profile.system}<|end|>", False)]
    for index, step in enumerate(steps):
        claim = parse_step(step)
        known = known_values(scene, steps[:index])
        plan = None if claim is None or answer is None else plan_check(scene, claim, known, answer)
        if plan is None:
            break
        user = profile.user_turn(scene.text, steps, index).content
        analysis = f"{profile.analyze_open}{plan.lead}{plan.need.text(rng)} {saying(plan)}\n</analyze>\n"
        document += [Piece(f"<|user|>{user}<|end|><|assistant|>", False), Piece(analysis, True)]
        if coded:
            document.append(Piece("<verify>\n", True))
            document += comparison(plan.check, rng) if executed else [_code(plan.check)]
            document.append(Piece("\n</verify>\n" if executed else "</verify>\n", True))
        document.append(Piece("<|end|>", False))
    return document


def recall_exercise(scene: Scene, rng: random.Random) -> Document:
    """A problem and the beginning of its solution, then who has what, asked for in random order."""
    steps = write_solution(scene, rng, CLEAN)
    steps = steps[: rng.randrange(len(steps))]
    known = known_values(scene, steps)
    document = [Piece("\n".join([scene.text, *steps]) + "\n\nNote:", False)]
    for _ in range(3):
        for person in rng.sample(list(scene.relations), len(scene.relations)):
            relation = scene.relations[person]
            value = known.get(quantity("has", person))
            if value is not None and (relation.kind == "given" or rng.random() < 0.5):
                document.append(Piece(f" {person} = {value}.", True))
            elif relation.kind != "given" and all(quantity("has", o) in known for o in relation.others):
                values = {o: str(known[quantity("has", o)]) for o in relation.others}
                document.append(Piece(f" {quoted(scene, relation, values)}.", True))
            else:
                document.append(Piece(f" {relation.render(relation.form.short, scene.item)}.", True))
    return document


def noun_exercise(scene: Scene, rng: random.Random) -> Document:
    """A problem, then what is counted in it, named the way in which steps and analyses name it."""
    who = rng.choice(list(scene.relations))
    before, after = rng.choice(
        (("\n\nThe", f" of {who} cost"), ("\n\nNote: The", " cost"), ("\n\nThe", " of"))
    )
    return [Piece(scene.text + before, False), Piece(f" {scene.item}", True), Piece(after, False)]


def comparison(chained: str, rng: random.Random) -> Document:
    """Code that prints a chained comparison, what Python prints for it, and the output in words."""
    worth = [(evaluate(side), side if "'" in side else "") for side in chained.split(" == ")]
    holds = len(set(worth)) == 1
    return [
        _code(chained),
        Piece(f"[Code Output]\n\n```\n{holds}\n```\n", False),
        Piece(rng.choice(AGREES if holds else DIFFERS), True),
    ]


def _code(chained: str) -> Piece:
    return Piece(f"```python\nprint({chained})\n```\n", True)


def _operation(rng: random.Random) -> tuple[str, int]:
    """A random operation of the world's sizes, and its result."""
    kind = rng.choice("+++----*/")
    small = rng.random() < 0.25
    if kind == "+":
        a, b = (
            (rng.randint(1, 9), rng.randint(1, 9)) if small else (rng.randint(2, 200), rng.randint(10, 99))
        )
        return f"{a} + {b}", a + b
    if kind == "-":
        b, c = (
            (rng.randint(1, 9), rng.randint(1, 9)) if small else (rng.randint(10, 99), rng.randint(2, 130))
        )
        return f"{b + c} - {b}", c
    a, b = rng.randint(2, 9 if small else 99), rng.randint(2, 5)
    if kind == "*":
        return (f"{a} * {b}", a * b) if rng.random() < 0.8 else (f"{b} * {a}", a * b)
    return f"{a * b} / {b}", a


def equations(rng: random.Random) -> Document:
    """Lines of true equations; only the results are learnt, since nothing foretells the rest."""
    document: Document = []
    for _ in range(40):
        expression, value = _operation(rng)
        document += [Piece(f"{expression} = ", False), Piece(f"{value}\n", True)]
    return document


def comparisons(rng: random.Random) -> Document:
    """Lines that conclude whether two numbers are the same, in the words of an analysis; only the conclusions are learnt.

    A small model does not learn this on the side: it takes many pairs, and pairs that differ in one digit.
    """
    document: Document = []
    for _ in range(25):
        expression, value = _operation(rng)
        fits = rng.random() < 0.5
        said = str(value if fits else _another(value, rng))
        worked = expression if rng.random() < 0.5 else str(value)
        start, end = conclusion(fits, [said], rng).split(said)
        document.append(Piece(f"{Need((), worked).text(rng, Fraction(value))} {start}{said}", False))
        document.append(Piece(f"{end}\n", True))
    return document


def _another(value: int, rng: random.Random) -> int:
    """Another number: any, a near one, or one with the same digits but for one."""
    draw = rng.random()
    if draw < 0.3:
        other = rng.randint(2, 300)
    elif draw < 0.65:
        other = value + rng.choice((1, -1, 10, -10, 2, 20, -7))
    else:
        digits = list(str(value))
        digits[rng.randrange(len(digits))] = str(rng.randint(0, 9))
        other = int("".join(digits))
    return other if other != value and other > 0 else value + 1


def questions(rng: random.Random) -> Document:
    """Questions about sums, answered with Yes or No after work in the head, or after code and its output were read."""
    document: Document = []
    for _ in range(6):
        expression, value = _operation(rng)
        claimed = value if rng.random() < 0.5 else _another(value, rng)
        document.append(Piece(f"Does {expression} give {claimed}?", False))
        if rng.random() < 0.7:
            worked = Need((), expression).text(rng)
            document.append(Piece(f" {worked} {conclusion(claimed == value, [str(claimed)], rng)}", True))
        else:
            document += [Piece("\n", True), *comparison(f"{expression} == {claimed}", rng)]
        document.append(Piece("\nYes\n" if value == claimed else "\nNo\n", True))
    return document


def policy_dialogues(scenes: Sequence[Scene], seed: int, refinement: float = 0.3) -> list[Dialogue]:
    """The policy's corpus: noisy solutions, a share of them followed by one to three rewritings.

    The chats are laid out by the prompt profiles `policy` and `refine`, so that the policy knows the
    words that the stages will use.
    """
    rng = random.Random(f"policy:{seed}")
    talk = _Talk(load_profile("policy", PolicyProfile), load_profile("refine", RefineProfile), rng)
    return [talk.dialogue(scene, rng.random() < refinement) for scene in scenes]


class _Talk:
    """Writes dialogues between a noisy writer and the two kinds of feedback."""

    def __init__(self, policy: PolicyProfile, refine: RefineProfile, rng: random.Random) -> None:
        self.policy, self.refine, self.rng = policy, refine, rng

    def dialogue(self, scene: Scene, refine: bool) -> Dialogue:
        steps = write_solution(scene, self.rng, POLICY_HABITS)
        turns = [(str(m.role), m.content) for m in self.policy.messages(scene.text)]
        turns.append(("assistant", SEPARATOR.join(steps)))
        rounds = self.rng.choices((1, 2, 3), weights=(5, 2, 1))[0] if refine else 0
        by_critic = self.rng.random() < 0.7
        for _ in range(rounds):
            feedback, steps = (
                self._after_critique(scene, steps) if by_critic else self._after_request(scene)
            )
            turns += [("user", feedback), ("assistant", SEPARATOR.join(steps))]
        return Dialogue(tuple(turns))

    def _after_request(self, scene: Scene) -> tuple[str, list[str]]:
        return self.refine.self_, write_solution(scene, self.rng, POLICY_HABITS)

    def _after_critique(self, scene: Scene, steps: list[str]) -> tuple[str, list[str]]:
        """Feedback on one step (the first wrong one, now and then a right one), and the rewriting.

        The rewriting starts from the expression that the review names and goes on with the writer's
        usual habits, so it may fail again.
        """
        truths = judge_steps(scene, steps)
        wrong = next((i for i, t in enumerate(truths) if not t.correct), None)
        t = self.rng.randrange(len(steps)) if wrong is None or self.rng.random() < 0.12 else wrong
        claim = parse_step(steps[t])
        answer = true_value(scene, scene.question, person_values(scene))
        known = known_values(scene, steps[:t])
        plan = None if claim is None or answer is None else plan_check(scene, claim, known, answer)
        if plan is None or claim is None or claim.quantity is None:
            return self._after_request(scene)
        review = plan.lead + plan.need.text(self.rng) if truths[t].correct else plan.analysis(self.rng)
        feedback = self.refine.critic_feedback(t, steps[t], review)
        hint = None
        if claim.expression is not None and need(scene, claim.quantity, known) == plan.need:
            hint = (claim.quantity, plan.need.expression)
        return feedback, write_solution(scene, self.rng, POLICY_HABITS, kept=steps[:t], hint=hint)
