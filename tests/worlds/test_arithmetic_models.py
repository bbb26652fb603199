"""The tokenizer is exact, the corpus holds no verdicts, and the shipped checkpoints do their work."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from genprm.domains.math import extract_answer
from genprm.engines.base import Request, SamplingParams
from genprm.text.prompts import PolicyProfile, load_profile
from genprm.text.steps import split_steps
from genprm.worlds.arithmetic import base_checkpoint, generate_problems, judge_solution, policy_checkpoint
from genprm.worlds.arithmetic.corpus import base_documents, policy_dialogues, train_scenes
from genprm.worlds.arithmetic.grammar import parse_problem
from genprm.worlds.arithmetic.problems import number_pool
from genprm.worlds.arithmetic.tiny import ASSETS, build_model, build_tokenizer
from genprm.worlds.arithmetic.truth import StepKind

RECIPE = Path(__file__).parents[2] / "recipes" / "tiny_models" / "make.py"


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(base_checkpoint())


@pytest.fixture(scope="module")
def recipe() -> Any:
    spec = importlib.util.spec_from_file_location("tiny_models_make", RECIPE)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(text=st.text(max_size=200))
def test_any_text_survives_the_tokenizer(tokenizer: Any, text: str) -> None:
    assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text


def test_digits_words_and_marks_are_single_tokens(tokenizer: Any) -> None:
    for piece in (
        "7",
        "Yes",
        "No",
        "True",
        "False",
        " Ann",
        "<analyze>\n",
        "\n```\n",
        "\\boxed{",
        "<|end|>",
    ):
        assert len(tokenizer(piece, add_special_tokens=False)["input_ids"]) == 1, piece
    assert tokenizer("407", add_special_tokens=False)["input_ids"] == [
        tokenizer.convert_tokens_to_ids(digit) for digit in "407"
    ]


def test_cutting_a_rationale_at_a_line_break_changes_no_token(tokenizer: Any) -> None:
    text = (
        "<analyze>\nHere Bob has 14 more than Ann = 23. So 23 + 14.\n</analyze>\n<verify>\n```python\n"
        "print(23 + 14 == 37)\n```\n[Code Output]\n\n```\nTrue\n```\nThe code agrees.\n</verify>\n"
        "<output>\n**Judgement**: $\\boxed{Yes}$"
    )
    whole = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert len(whole) < 60
    for opening in ("</analyze>\n", "```python\n", "37)\n```\n", "True\n```\n", "\\boxed{"):
        cut = text.rindex(opening) + len(opening)
        parts = [
            tokenizer(part, add_special_tokens=False)["input_ids"] for part in (text[:cut], text[cut:])
        ]
        assert parts[0] + parts[1] == whole, opening


def test_the_corpus_holds_no_verdict_and_no_evaluation_number() -> None:
    scenes = train_scenes(60, 1)
    texts = ["".join(p.text for p in d) for d in base_documents(scenes, 1)]
    texts += [c for d in policy_dialogues(scenes, 1) for _, c in d.turns]
    assert not [t for t in texts if "Judgement" in t or "{Yes}" in t or "{No}" in t]
    for scene in scenes:
        given_numbers = {r.number for r in scene.relations.values() if r.number >= 10}
        assert not given_numbers & set(number_pool("eval"))


def test_the_recipe_masks_what_is_only_read(recipe: Any, tokenizer: Any) -> None:
    dialogue = next(d for d in policy_dialogues(train_scenes(30, 2), 2) if len(d.turns) > 3)
    ids, labels = recipe.encode_dialogue(tokenizer, dialogue)
    chat = [{"role": r, "content": c} for r, c in dialogue.turns]
    assert tokenizer.decode(ids) == tokenizer.apply_chat_template(chat, tokenize=False)
    learnt = tokenizer.decode([i for i in labels if i != recipe.IGNORE])
    assert learnt == "".join(f"{c}<|end|>" for r, c in dialogue.turns if r == "assistant")


def test_the_recipe_trains(recipe: Any, tmp_path: Path) -> None:
    scenes = train_scenes(40, 3)
    documents = base_documents(scenes, 3)
    tok = build_tokenizer("".join(p.text for p in d) for d in documents)
    model = build_model(tok, width=32, layers=1, heads=2)
    samples = [recipe.encode_document(tok, d) for d in documents]
    data = recipe.stream(lambda turn: samples, 2048, tok.pad_token_id)
    first = recipe.train(model, data, tokens=1, rate=1e-2, name="test")["loss"]
    last = recipe.train(model, data, tokens=60_000, rate=1e-2, name="test")["loss"]
    assert last < first - 0.5
    recipe.save(model, tok, tmp_path / "m")
    assert (tmp_path / "m" / "model.safetensors").is_file()


def test_the_checkpoints_are_small() -> None:
    assert sum(p.stat().st_size for p in ASSETS.rglob("*") if p.is_file()) < 12_000_000


@pytest.mark.parametrize("folder", [base_checkpoint, policy_checkpoint])
def test_the_checkpoints_load(folder: Any) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(folder())
    tok = AutoTokenizer.from_pretrained(folder())
    assert model.config.vocab_size == len(tok)
    assert tok.eos_token_id == model.config.eos_token_id == model.generation_config.eos_token_id


async def test_the_policy_writes_solutions_that_can_be_judged() -> None:
    from genprm.engines.local import LocalEngine

    profile = load_profile("policy", PolicyProfile)
    problems = generate_problems("eval", 20, seed=4)
    engine = LocalEngine(policy_checkpoint(), device="cpu", threads=1)
    params = SamplingParams(temperature=0.7, max_tokens=250, seed=1)
    requests = [
        Request(messages=profile.messages(p.text), prefix=profile.prefix, params=params, sample=i)
        for i, p in enumerate(problems)
    ]
    done = await engine.generate(requests)
    await engine.aclose()
    readable = total = 0
    for problem, completion in zip(problems, done, strict=True):
        assert completion.finish_reason == "eos"
        steps = split_steps(profile.prefix + completion.text)
        kinds = [t.kind for t in judge_solution(problem, steps)]
        readable += sum(kind is not StepKind.UNPARSABLE for kind in kinds)
        total += len(kinds)
        assert extract_answer(steps[-1]) is not None
        assert parse_problem(problem.text)
    assert readable / total > 0.8
