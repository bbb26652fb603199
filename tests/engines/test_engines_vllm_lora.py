"""A real vLLM loads what LoRA training saves: the merged model verifies in the trained format, the adapter writes it."""

from __future__ import annotations

import pytest

from genprm.engines import VllmEngine
from genprm.text.transcript import build_turn
from smollm2 import RANK, ROOT, Taught, check, judged, sums, taught

pytestmark = pytest.mark.vllm
TRAINER = ROOT / ".venv" / "bin" / "python"


@pytest.fixture(scope="module")
def made() -> Taught:
    pytest.importorskip("vllm")
    if not TRAINER.exists():
        pytest.skip("no environment that can train: run `make setup`")
    return taught(TRAINER)


async def test_the_merged_model_verifies_in_the_trained_format(made: Taught) -> None:
    engine = VllmEngine(made.model, dtype="float32", enforce_eager=True, max_context=512)
    try:
        found = await judged(engine)
    finally:
        await engine.aclose()
    for one, verdict in found:
        check(one, verdict)


def test_the_adapter_alone_writes_it_on_the_base(made: Taught) -> None:
    from vllm import LLM, SamplingParams
    from vllm.lora.request import LoRARequest

    engine = LLM(
        str(made.base),
        dtype="float32",
        enforce_eager=True,
        max_model_len=512,
        enable_lora=True,
        max_lora_rank=RANK,
    )
    (one,) = sums(1, seed=1)
    wanted = build_turn(one.turn()).partition("[Code Output]")[0]
    params = SamplingParams(temperature=0.0, max_tokens=80)
    adapter = LoRARequest("taught", 1, str(made.adapter))
    texts = [
        engine.chat(one.asked(), params, lora_request=lora, use_tqdm=False)[0].outputs[0].text
        for lora in (adapter, None)
    ]
    assert texts[0].startswith(wanted)
    assert not texts[1].startswith(wanted), "the base alone does not know the format"
