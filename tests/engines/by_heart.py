"""A tiny verifier that knows the reviews of two solutions by heart: real weights for real servers, in seconds."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from genprm.records import VerifyItem
from genprm.text.prompts import VerifierProfile, load_profile
from genprm.text.transcript import Segment, Turn, render_turn

PROFILE = "compact"
ITEMS = tuple(
    VerifyItem(
        id=name,
        problem=f"{name} has {first} apples. Bob has 4 more. How many has Bob?",
        steps=(f"Step 1: Bob has 4 more: {first} + 4 = {first + 4}.", f"Step 2: So Bob has {first + 6}."),
    )
    for name, first in (("Ann", 3), ("Eve", 12))
)
TRUTH = (True, False)
_GGUF = Path(__file__).resolve().parents[2] / "benchmarks" / "tiny_gguf.py"


def _reviews(item: VerifyItem) -> list[str]:
    first = 3 if item.id == "Ann" else 12
    sides = (f"{first} + 4 == {first + 4}", f"{first} + 4 == {first + 6}")
    profile = load_profile(PROFILE, VerifierProfile)
    turns = [
        Turn(
            f"{item.id} is the one to add to. This needs {first} + 4.",
            (
                Segment("code", f"print({side})"),
                Segment("output", str(right)),
                Segment("prose", "That is what it says."),
            ),
            right,
        )
        for side, right in zip(sides, TRUTH, strict=True)
    ]
    return [
        render_turn(turn, profile, index=index, components="cot+code+execution")
        for index, turn in enumerate(turns)
    ]


def make(folder: Path) -> Path:
    """Train the packaged base until it knows the reviews, and save it in `folder`."""
    import torch
    from transformers import AutoTokenizer, LlamaForCausalLM

    from genprm.worlds.arithmetic import base_checkpoint

    profile = load_profile(PROFILE, VerifierProfile)
    tokenizer = AutoTokenizer.from_pretrained(base_checkpoint())
    batch = []
    for item in ITEMS:
        reviews = _reviews(item)
        chat = [*profile.messages(item.problem, item.steps, 1, reviews[:1])]
        turns = [{"role": message.role, "content": message.content} for message in chat]
        turns.append({"role": "assistant", "content": reviews[1]})
        text = tokenizer.apply_chat_template(turns, tokenize=False)
        batch.append(tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"])
    torch.manual_seed(0)
    model = LlamaForCausalLM.from_pretrained(base_checkpoint(), dtype=torch.float32)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.0)
    for _ in range(200):
        losses = [model(input_ids=ids, labels=ids).loss for ids in batch]
        loss = torch.stack(losses).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if loss.item() < 0.005:
            break
    model.eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def make_gguf(checkpoint: Path, target: Path) -> Path:
    """The checkpoint as a GGUF file."""
    spec = importlib.util.spec_from_file_location("tiny_gguf", _GGUF)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.write_gguf(checkpoint, target)
    return target
