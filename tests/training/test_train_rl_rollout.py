"""Rollouts of a verifier in training: the text of inference, a mask on what the model wrote, a reward for each turn."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_train_prompt_check import CHATML
from tiny_tokenizers import byte_tokenizer

from genprm.config import Components, GrpoConfig, VerifyConfig
from genprm.engines import Completion, Engine, LocalEngine, Request, ScriptedEngine
from genprm.errors import ConfigError, EngineUnavailable
from genprm.records import LabelledSolution
from genprm.rewards.genprm.path import PathContext
from genprm.rewards.genprm.written import own_spans
from genprm.sandbox import IsolatedSandbox, Sandbox
from genprm.text.prompts import VerifierProfile, load_profile
from genprm.text.transcript import count_judgements, output_spans
from genprm.training import ChatEncoder
from genprm.training.rl.credit import advantages
from genprm.training.rl.grpo_trainer import figures, mask_of, token_advantages
from genprm.training.rl.rollout import Roller, Rollout, labelled_steps
from genprm.worlds.arithmetic.demo import demo_item

pytest.importorskip("transformers")

SOLUTION = LabelledSolution(
    id="s", problem="Add 2 and 3.", steps=("2 + 3 = 5", "5 + 1 = 7"), labels=(True, False)
)
GENPRM = load_profile("genprm", VerifierProfile)
CHECK = "2 + 3\n</analyze>\n", "print(2 + 3)\n```\n", "It is 5.\n</verify>\n<output>\n"
"""An analysis, its check, and what follows the executed output, up to the verdict."""


def verdict(*words: str) -> str:
    boxed = " or ".join(f"$\\boxed{{{word}}}$" for word in words)
    return f"**Judgement**: {boxed}\n</output>\n"


def judge(*turns: str) -> Callable[[Request], str]:
    """A model that analyses, checks and then ends its turn about each step in the given way."""

    def respond(request: Request) -> str:
        step = sum(message.role == "assistant" for message in request.messages)
        analysis, code, rest = CHECK
        if request.prefix.endswith("```python\n"):
            return code + rest + turns[step]
        if request.prefix.endswith("\\boxed"):
            return "{Yes}"
        if "```python" not in request.prefix:
            return analysis
        return rest + turns[step]

    return respond


def roller(engine: Engine, sandbox: Sandbox | None, tokenizer: Any = None, **options: Any) -> Roller:
    asked = VerifyConfig(max_rounds=2, max_tokens=200, **options.pop("verify", {}))
    chosen = GrpoConfig(model="m", paths=options.pop("paths", 2), verify=asked, **options)
    context = PathContext(
        engine=engine,
        sandbox=sandbox,
        profile=load_profile(asked.profile, VerifierProfile),
        options=asked,
        slots=asyncio.Semaphore(64),
        seed=0,
        limits=None if sandbox is None else sandbox.limits,
    )
    return Roller(context, ChatEncoder(tokenizer or byte_tokenizer(CHATML)), chosen)


@pytest.fixture
async def sandbox() -> AsyncIterator[IsolatedSandbox]:
    async with IsolatedSandbox(tier="plain", workers=1) as box:
        yield box


class Recorded:
    """An engine that remembers what it was asked, and what it said."""

    def __init__(self, engine: LocalEngine) -> None:
        self.engine = engine
        self.said: dict[int, list[tuple[str, str]]] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self.engine, name)

    async def generate(self, requests: Any) -> list[Completion]:
        done = await self.engine.generate(requests)
        for request, completion in zip(requests, done, strict=True):
            self.said.setdefault(request.sample, []).append((self.engine.render(request), completion.text))
        return done


async def test_a_rollout_is_what_inference_renders_byte_for_byte(sandbox: IsolatedSandbox) -> None:
    from transformers import AutoTokenizer

    from genprm.worlds.arithmetic.tiny import verifier_checkpoint

    folder = verifier_checkpoint()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    item = demo_item()
    solution = LabelledSolution(id="demo", problem=item.problem, steps=item.steps[:2], labels=(True, True))
    engine = Recorded(LocalEngine(folder, deterministic=True))
    try:
        made = roller(engine, sandbox, tokenizer, verify={"profile": "compact"}, paths=2)  # type: ignore[arg-type]
        ((*rows,),) = await made.roll_out([solution], seed=4)
    finally:
        await engine.aclose()
    assert len(rows) == 2 and any("[Code Output]" in row.text for row in rows)
    for sample, row in enumerate(rows):
        written = engine.said[sample]
        assert all(row.text.startswith(prompt + text) for prompt, text in written)
        assert row.ids == tuple(tokenizer(row.text, add_special_tokens=False)["input_ids"][: len(row.ids)])
        own = tokenizer.decode([token for token, step in zip(row.ids, row.steps, strict=True) if step >= 0])
        assert own == "".join(text for _, text in written)  # what the model said, and nothing else
        assert "[Code Output]" not in own and "<analyze>" not in own


@pytest.mark.parametrize(
    ("turns", "outcomes", "rewards"),
    [
        ((verdict("Yes"), verdict("No")), ("right", "right"), (1.0, 1.0)),
        ((verdict("No"), verdict("No")), ("wrong", "right"), (0.0, 1.0)),
        ((verdict("Yes"), verdict("Yes")), ("right", "wrong"), (1.0, 0.0)),
        # The first word that is read would be right.
        ((verdict("Yes", "No"), verdict("No")), ("malformed",), (-1.0,)),
        ((verdict("Yes", "Yes"), verdict("No")), ("malformed",), (-1.0,)),
        # Forced to answer, it would say Yes, which is right.
        (("I cannot say.", verdict("No")), ("malformed",), (-1.0,)),
    ],
)
async def test_a_turn_is_rewarded_for_one_right_verdict(
    sandbox: IsolatedSandbox, turns: tuple[str, ...], outcomes: tuple[str, ...], rewards: tuple[float, ...]
) -> None:
    ((first, second),) = await roller(ScriptedEngine(judge(*turns)), sandbox).roll_out([SOLUTION], seed=0)
    assert first.credits == second.credits
    assert tuple(one.outcome for one in first.credits) == outcomes
    assert tuple(one.value for one in first.credits) == rewards


async def test_a_turn_that_had_to_be_forced_stands_as_the_model_left_it(sandbox: IsolatedSandbox) -> None:
    ((row, _),) = await roller(ScriptedEngine(judge("I cannot say.")), sandbox).roll_out([SOLUTION], seed=0)
    assert row.text.count("I cannot say.") == 1 and "\\boxed" not in row.text.rpartition("[Code Output]")[2]
    own = bytes_of(row)
    assert own == "".join([*CHECK, "I cannot say."])


def bytes_of(row: Rollout) -> str:
    """What the model wrote, by the mask."""
    tokenizer = byte_tokenizer(CHATML)
    pairs = zip(row.ids, row.steps, strict=True)
    return str(tokenizer.decode([token for token, step in pairs if step >= 0]))


async def test_a_fault_is_unknown_and_leaves_its_group(sandbox: IsolatedSandbox) -> None:
    closed = IsolatedSandbox(tier="plain", workers=1)
    await closed.aclose()
    ((row, _),) = await roller(ScriptedEngine(judge(verdict("Yes"))), closed).roll_out([SOLUTION], seed=0)
    assert [(one.outcome, one.value) for one in row.credits] == [("lost", None)]
    assert "SandboxDied" in row.credits[0].reason and not any(mask_of(row))

    def answers_one(request: Request) -> str:
        if request.sample == 1 and request.messages[-1].content == SOLUTION.steps[1]:
            raise EngineUnavailable("it is gone")
        return judge(verdict("Yes"), verdict("Yes" if request.sample else "No"))(request)

    made = roller(ScriptedEngine(answers_one), sandbox, paths=3)
    (group,) = await made.roll_out([SOLUTION], seed=0)
    assert [[one.value for one in row.credits] for row in group] == [[1.0, 1.0], [1.0, None], [1.0, 0.0]]
    totals = figures([group], 1, 1)
    assert totals.outcomes["lost"] == 1 and totals.reward == pytest.approx(4 / 5)
    # The step that all got right teaches nothing; on the other, the two that are known are compared.
    per_token = token_advantages(group)
    for row, values, expected in zip(group, per_token, (0.7069, 0.0, -0.7069), strict=True):
        steps = row.steps[row.start :]
        assert {round(v, 3) for v, step in zip(values, steps, strict=True) if step == 1} <= {
            round(expected, 3)
        }
        assert all(v == 0 for v, step in zip(values, steps, strict=True) if step != 1)
    assert sum(mask_of(group[1])) < sum(mask_of(group[0]))


async def test_text_that_the_template_acts_on_is_lost_and_not_trained(sandbox: IsolatedSandbox) -> None:
    drops_thoughts = CHATML.replace("m['content']", "m['content'].split('</think>')[-1]")
    talks = judge("</think>" + verdict("Yes"), verdict("No"))
    made = roller(ScriptedEngine(talks), sandbox, byte_tokenizer(drops_thoughts))
    ((row, _),) = await made.roll_out([SOLUTION], seed=0)
    assert {one.outcome for one in row.credits} == {"lost"} and mask_of(row) == [0]


@pytest.mark.parametrize("components", ["direct", "cot", "cot+code"])
async def test_forms_without_execution_need_no_sandbox(components: Components) -> None:
    made = roller(
        ScriptedEngine(judge(verdict("Yes"), verdict("No"))), None, verify={"components": components}
    )
    ((row, _),) = await made.roll_out([SOLUTION], seed=0)
    assert row.credits[0].outcome == "right" and not output_spans(row.text)
    assert bytes_of(row).startswith("{Yes}" if components == "direct" else CHECK[0])


def test_paths_judge_up_to_the_first_wrong_or_the_last_known_step() -> None:
    def steps(*labels: bool | None) -> int:
        row = {"id": "s", "problem": "p", "steps": ("a",) * len(labels), "labels": labels}
        return labelled_steps(LabelledSolution.model_validate(row))

    assert steps(True, True, True) == 3
    assert steps(True, False, True, False) == 2
    assert steps(None, True, None) == 2
    assert steps(None, None, False) == 3
    assert steps(None, None) == 0


@given(st.lists(st.one_of(st.none(), st.floats(-2, 2)), min_size=1, max_size=12))
def test_unknown_rewards_change_nobody_elses_advantage(rewards: list[float | None]) -> None:
    found = advantages(rewards)
    known = [one for one in rewards if one is not None]
    assert [one for one in found if one is not None] == advantages(known)
    assert [one is None for one in found] == [one is None for one in rewards]
    assert sum(one for one in found if one is not None) == pytest.approx(0, abs=1e-6)


def test_verdicts_are_counted_outside_of_code_and_output() -> None:
    inside = "<verify>\n```python\nprint(r'\\boxed{Yes}')\n```\n</verify>\n"
    assert count_judgements(inside + "<output>\n" + verdict("No")) == 1
    assert count_judgements("<analyze>\nIs it \\boxed{Yes}?\n</analyze>\n" + inside + verdict("No")) == 2
    assert count_judgements("nothing \\boxed{12}") == 0


def test_what_was_cut_or_printed_is_nobodys_own() -> None:
    pieces = [(5, Completion(text="abcdef")), (8, Completion(text="XY"))]
    assert own_spans("open:abcXY", pieces) == ((5, 8), (8, 10))
    assert own_spans("open:abQXY", pieces[:1]) == ((5, 7),)
    block = "[Code Output]\n\n```\n5\n```\n"
    assert own_spans(f"ab{block}cd", [(0, Completion(text=f"ab{block}cd"))]) == (
        (0, 2),
        (2 + len(block), 4 + len(block)),
    )


def test_rewards_have_their_order() -> None:
    with pytest.raises(ConfigError, match="malformed <= wrong < right"):
        GrpoConfig(malformed=0.5)
