"""The tutor: a scripted teacher for the arithmetic world, imperfect at seeded rates.

It answers the `teacher` prompt (one user turn with the problem and the tagged paragraphs) as a strong
model would: for each paragraph a heading with its number, an analysis, code that stops for execution, a closing
sentence that reads the output, and a judgement; at the end the index of the first wrong paragraph, 1-based, or -1.
It knows the truth, and departs from it at the rates it is given, so that executed output, reflection and
consensus filtering have real work. Every answer is a pure function of the seed and the request's text.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

from genprm.engines.base import Request
from genprm.errors import EngineRequestError
from genprm.records import NO_ERROR
from genprm.worlds.arithmetic.grammar import (
    Scene,
    parse_problem,
    parse_step,
    person_values,
    true_value,
)
from genprm.worlds.arithmetic.reasoning import AGREES, DIFFERS, Need, Plan, known_values, need, plan_check
from genprm.worlds.arithmetic.truth import judge_steps
from genprm.worlds.arithmetic.writer import slipped

Responder = Callable[[Request], str]

_OUTPUT = re.compile(r"\[Code Output\]\s*```[a-z]*\n(.*?)\n?```", re.DOTALL)
_PARAGRAPH = re.compile(r"<paragraph_(\d+)>\n?(.*?)\n?</paragraph_\1>", re.DOTALL)
_FENCE = "\n```\n"
_BROKEN = ("NameError", "SyntaxError", "other_number")
_AGAIN = ("Wait, I should look again.", "Wait, let me read again.")
_FAILED = ("The code was wrong, so again.", "The code has to be fixed.")


@dataclass(frozen=True, slots=True)
class TutorRates:
    """How often the tutor departs from the truth.

    Attributes:
        wrong_index: share of solutions whose first-error index is wrong.
        faulty_code: share of paragraphs whose first code fails or checks something else.
        conflict: share of paragraphs whose first analysis misreads the relation; the tutor reflects
            when the output does not fit.
        slip: share of paragraphs whose analysis computes wrongly, so that it concludes one thing and the
            executed code another; the judgement follows the code.
    """

    wrong_index: float = 0.0
    faulty_code: float = 0.0
    conflict: float = 0.0
    slip: float = 0.0


def make_tutor(
    seed: int = 0,
    *,
    wrong_index_rate: float = 0.12,
    faulty_code_rate: float = 0.03,
    conflict_rate: float = 0.02,
    slip_rate: float = 0.02,
) -> Responder:
    """A responder for the scripted engine that plays the teacher.

    Args:
        seed: changes which solutions and paragraphs the tutor fails on.
        wrong_index_rate, faulty_code_rate, conflict_rate, slip_rate: see `TutorRates`; shares in [0, 1].

    Returns:
        a function from a request to the text up to the next code block's end, or to the end. It raises
        `EngineRequestError` where the request is not a teacher prompt of this world.
    """
    rates = TutorRates(wrong_index_rate, faulty_code_rate, conflict_rate, slip_rate)

    def respond(request: Request) -> str:
        problem, paragraphs = _read_prompt(request)
        key = f"tutor:{seed}:{request.params.seed}:{request.sample}:{problem}:{paragraphs}"
        return _Lesson(parse_problem(problem), paragraphs, rates, key).go_on(request.prefix)

    return respond


def _read_prompt(request: Request) -> tuple[str, list[str]]:
    users = [m.content for m in request.messages if m.role == "user"]
    text = users[0] if users else request.prompt or ""
    paragraphs = [match[2].strip() for match in _PARAGRAPH.finditer(text)]
    head = re.search(r"Problem:\s*(.*?)\s*Solution:", text, re.DOTALL)
    if not paragraphs or head is None:
        raise EngineRequestError(
            "the tutor only reads teacher prompts: a problem, then tagged paragraphs",
            hint="use the scripted tutor for the rationales stage of the arithmetic world only",
        )
    return head[1], paragraphs


class _Lesson:
    """One solution under review; everything is decided from the key, nothing is kept between calls."""

    def __init__(self, scene: Scene, paragraphs: list[str], rates: TutorRates, key: str) -> None:
        self.scene, self.paragraphs, self.rates, self.key = scene, paragraphs, rates, key
        self.answer = true_value(scene, scene.question, person_values(scene)) or Fraction(0)
        truths = [t.correct for t in judge_steps(scene, paragraphs)]
        right = next((i for i, ok in enumerate(truths) if not ok), NO_ERROR)
        self.index = self._verdict(right)

    def _rng(self, *place: object) -> random.Random:
        digest = hashlib.sha256(":".join([self.key, *map(str, place)]).encode()).digest()
        return random.Random(int.from_bytes(digest[:8], "big"))

    def _verdict(self, right: int) -> int:
        """The index that the tutor will give: the right one, or at `wrong_index` another one."""
        rng = self._rng("verdict")
        if rng.random() >= self.rates.wrong_index:
            return right
        others: list[int] = [i for i in (*range(len(self.paragraphs)), NO_ERROR) if i != right]
        return rng.choice(others)

    def go_on(self, prefix: str) -> str:
        """The text that follows `prefix`."""
        done = prefix.count("</output>")
        current = prefix.rsplit("</output>", 1)[-1]
        if current.count("<verify>") and "```python" in current and current.rstrip().endswith("```"):
            return self._after_code(done, current)
        if "<output>" in current:
            return _without_overlap(prefix, self._judgement(done))
        text = "" if done == 0 else "\n"
        text = self._final() if self._ended(done) else text + self._open(done)
        return _without_overlap(prefix, text)

    def _ended(self, done: int) -> bool:
        return done >= len(self.paragraphs) or (self.index != NO_ERROR and done > self.index)

    def _final(self) -> str:
        number = self.index + 1 if self.index != NO_ERROR else NO_ERROR
        return f"\nThe first wrong paragraph is \\boxed{{{number}}}."

    def _plan(self, step: int) -> Plan | None:
        claim = parse_step(self.paragraphs[step])
        if claim is None:
            return None
        return plan_check(self.scene, claim, known_values(self.scene, self.paragraphs[:step]), self.answer)

    def _open(self, step: int) -> str:
        """Heading, analysis and first code of a paragraph."""
        plan = self._plan(step)
        rng = self._rng(step, "open")
        heading = f"### Paragraph {step + 1}\n"
        if plan is None:
            return f"{heading}{_reviewed('This cannot be read, so this is wrong.', 'print(False)')}"
        analysis = plan.analysis(rng)
        code = f"print({plan.check})"
        trouble = self._trouble(step)
        if trouble == "conflict":
            misread = self._misread(step, plan)
            analysis, code = misread.analysis(rng), f"print({misread.check})"
        elif trouble == "slip":
            analysis = plan.analysis(rng, _miscounted(plan, rng))
        elif trouble == "NameError":
            code = code.replace("print(", "print(total == ", 1)
        elif trouble == "SyntaxError":
            code = code.removesuffix(")")
        elif trouble == "other_number":
            code = f"print({self._misread(step, plan).check})"
        return heading + _reviewed(analysis, code)

    def _trouble(self, step: int) -> str | None:
        """What goes wrong with the first round of a paragraph."""
        rng = self._rng(step, "trouble")
        draw = rng.random()
        if draw < self.rates.faulty_code:
            return rng.choice(_BROKEN)
        draw -= self.rates.faulty_code
        if draw < self.rates.conflict:
            return "conflict"
        return "slip" if draw < self.rates.conflict + self.rates.slip else None

    def _misread(self, step: int, plan: Plan) -> Plan:
        """The plan with another operation."""
        claim = parse_step(self.paragraphs[step])
        wanted = self.scene.question if claim is None or claim.quantity is None else claim.quantity
        parts = plan.need.expression.split()
        if plan.need.value is None:
            return plan
        if len(parts) == 1:
            return plan._replace(need=Need(plan.need.facts[:1], f"{parts[0]} + 1"))
        known = known_values(self.scene, self.paragraphs[:step])
        swapped = {"+": "-", "-": "+", "*": "+", "/": "*"}
        operator = next((p for p in parts if p in swapped), "+")
        other = need(self.scene, wanted, known, swapped[operator])
        return plan if other is None else plan._replace(need=Need(plan.need.facts[:1], other.expression))

    def _after_code(self, step: int, current: str) -> str:
        """Reading of the output: another round where it does not fit, else the judgement."""
        rng = self._rng(step, "close", current.count("```python"))
        outputs = _OUTPUT.findall(current)
        shown = outputs[-1].strip() if outputs else None
        rounds = current.count("```python")
        plan = self._plan(step)
        trouble = self._trouble(step) if plan is not None else None
        opening = "" if current.endswith("\n") else "\n"
        if rounds == 1 and plan is not None and trouble not in {None, "slip"}:
            start = _AGAIN if trouble == "conflict" else _FAILED
            again = f"{rng.choice(start)} {plan.analysis(rng)}"
            return f"{opening}{again}\n```python\nprint({plan.check}){_FENCE}"
        agrees = shown == "True" if shown is not None else step != self.index
        said = rng.choice(AGREES if agrees else DIFFERS)
        return f"{opening}{said}\n</verify>\n{self._judgement(step)}"

    def _judgement(self, step: int) -> str:
        """The verdict on a paragraph and what follows it, up to the next code."""
        word = "No" if step == self.index else "Yes"
        text = f"<output>\n**Judgement**: $\\boxed{{{word}}}$\n</output>"
        if self._ended(step + 1):
            return text + self._final()
        return f"{text}\n{self._open(step + 1)}"


def _reviewed(analysis: str, code: str) -> str:
    return f"<analyze>\n{analysis}\n</analyze>\n<verify>\n```python\n{code}{_FENCE}"


def _miscounted(plan: Plan, rng: random.Random) -> Fraction | None:
    """A wrong value for a derivation; None (the true one) where there is nothing to compute."""
    value = plan.need.value
    if value is None or value.denominator != 1 or plan.need.expression.isdigit():
        return None
    return Fraction(slipped(int(value), rng))


def _without_overlap(prefix: str, text: str) -> str:
    """`text` without a beginning that `prefix` ends with already (a forced opening)."""
    for size in range(min(len(prefix), len(text)), 0, -1):
        if prefix.endswith(text[:size]):
            return text[size:]
    return text
