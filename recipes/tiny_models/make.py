"""Make the tiny base and policy of the arithmetic world from nothing (see README.md beside this file)."""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import torch

from genprm.worlds.arithmetic.corpus import (
    Dialogue,
    Document,
    base_documents,
    equations,
    noun_exercise,
    policy_dialogues,
    train_scenes,
)
from genprm.worlds.arithmetic.tiny import CONTEXT, build_model, build_tokenizer

IGNORE = -100
DECAY = 0.25
SCENES = 2500
PRACTICE = 2500
Sample = tuple[list[int], list[int]]
Batch = tuple[torch.Tensor, ...]


def encode_document(tokenizer: Any, document: Document) -> Sample:
    """Token ids and labels of a document; pieces that are only read have no labels."""
    ids: list[int] = []
    labels: list[int] = []
    for piece in document:
        part = tokenizer(piece.text, add_special_tokens=False)["input_ids"]
        ids += part
        labels += part if piece.learn else [IGNORE] * len(part)
    return [*ids, tokenizer.eos_token_id], [*labels, tokenizer.eos_token_id]


def encode_dialogue(tokenizer: Any, dialogue: Dialogue) -> Sample:
    """Token ids and labels of a chat in the tokenizer's own template; assistant turns are learnt."""
    ids: list[int] = []
    labels: list[int] = []
    for role, content in dialogue.turns:
        ids.append(tokenizer.convert_tokens_to_ids(f"<|{role}|>"))
        labels.append(IGNORE)
        part = tokenizer(content, add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id]
        ids += part
        labels += part if role == "assistant" else [IGNORE] * len(part)
    return ids, labels


def batches(samples: Sequence[Sample], tokens: int, rng: random.Random, pad: int) -> list[Batch]:
    """Batches of about `tokens` tokens, each of samples of like length, in random order."""
    order = sorted(
        (s for s in samples if len(s[0]) <= CONTEXT), key=lambda s: (len(s[0]) // 16, rng.random())
    )
    groups: list[list[Sample]] = [[]]
    for sample in order:
        if groups[-1] and (len(groups[-1]) + 1) * len(sample[0]) > tokens:
            groups.append([])
        groups[-1].append(sample)
    rng.shuffle(groups)
    out = []
    for group in groups:
        width = max(len(ids) for ids, _ in group)
        ids = torch.tensor([i + [pad] * (width - len(i)) for i, _ in group])
        labels = torch.tensor([x + [IGNORE] * (width - len(x)) for _, x in group])
        out.append((ids, labels))
    return out


def stream(make: Callable[[int], Sequence[Sample]], tokens: int, pad: int) -> Iterator[Batch]:
    """Endless fresh batches; `make(round)` gives the samples of one round."""
    turn = 0
    while True:
        yield from batches(make(turn), tokens, random.Random(turn), pad)
        turn += 1


def train(model: Any, data: Iterator[Batch], *, tokens: int, rate: float, name: str) -> dict[str, float]:
    """AdamW: a short warm-up, a constant rate, and a linear fall to zero over the last quarter of the tokens."""
    decayed = [p for p in model.parameters() if p.dim() >= 2]
    rest = [p for p in model.parameters() if p.dim() < 2]
    groups = [{"params": decayed, "weight_decay": 0.05}, {"params": rest, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98))
    seen = step = 0
    losses: list[float] = []
    begin = time.perf_counter()
    model.train()
    while seen < tokens:
        ids, labels = next(data)
        factor = min(1.0, (step + 1) / 60, max(0.02, (1 - seen / tokens) / DECAY))
        for group in optimizer.param_groups:
            group["lr"] = rate * factor
        hidden = model.model(input_ids=ids).last_hidden_state[:, :-1]
        wanted = labels[:, 1:]
        keep = wanted != IGNORE
        loss = torch.nn.functional.cross_entropy(model.lm_head(hidden[keep]), wanted[keep])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())
        seen += ids.numel()
        step += 1
        if step % 50 == 0:
            speed = seen / (time.perf_counter() - begin)
            recent = mean(losses[-50:])
            print(
                f"{name} step {step} tokens {seen / 1e6:.2f}M loss {recent:.4f} {speed:.0f} tok/s",
                flush=True,
            )
    return {
        "tokens": seen,
        "seconds": round(time.perf_counter() - begin, 1),
        "loss": mean(losses[-50:]),
    }


def save(model: Any, tokenizer: Any, folder: Path) -> None:
    """Write a checkpoint in half precision."""
    model.to(torch.float16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    model.to(torch.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="folder for base/ and policy/")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--base-tokens", type=float, default=10e6)
    parser.add_argument("--policy-tokens", type=float, default=4e6)
    parser.add_argument("--batch", type=int, default=8192, help="tokens a batch")
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--init", type=Path, help="start the base from this checkpoint")
    parser.add_argument("--only", choices=("base", "policy"), help="policy: start from OUT/base as it is")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    facts: dict[str, Any] = {"arguments": {k: str(v) for k, v in vars(args).items()}}

    start = args.init or (args.out / "base" if args.only == "policy" else None)
    if start:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(start)
        model = AutoModelForCausalLM.from_pretrained(start, dtype=torch.float32)
    else:
        tokenizer = build_tokenizer(tokenizer_texts(args.seed))
        model = build_model(tokenizer, args.width, args.layers)
    facts["parameters"] = sum(p.numel() for p in model.parameters())
    print(facts, len(tokenizer), flush=True)
    pad = tokenizer.pad_token_id

    if args.only != "policy":

        def base_round(turn: int) -> list[Sample]:
            scenes = train_scenes(SCENES, args.seed * 1000 + turn)
            return [encode_document(tokenizer, d) for d in base_documents(scenes, turn)]

        data = stream(base_round, args.batch, pad)
        facts["base"] = train(model, data, tokens=int(args.base_tokens), rate=2.5e-3, name="base")
        save(model, tokenizer, args.out / "base")

    if args.only != "base":

        def policy_round(turn: int) -> list[Sample]:
            scenes = train_scenes(SCENES, args.seed * 1000 + 500 + turn)
            rng = random.Random(turn)
            practice = [encode_document(tokenizer, equations(rng)) for _ in range(PRACTICE)]
            practice += [encode_document(tokenizer, noun_exercise(scene, rng)) for scene in scenes]
            return [encode_dialogue(tokenizer, d) for d in policy_dialogues(scenes, turn)] + practice

        data = stream(policy_round, args.batch, pad)
        facts["policy"] = train(model, data, tokens=int(args.policy_tokens), rate=2e-3, name="policy")
        save(model, tokenizer, args.out / "policy")
    (args.out / f"training-{args.only or 'all'}.json").write_text(json.dumps(facts, indent=2))


def tokenizer_texts(seed: int) -> list[str]:
    """The text that the tokenizer's words come from: both corpora, and the chats' fixed sentences."""
    scenes = train_scenes(1500, seed * 1000 + 999)
    documents = ["".join(p.text for p in d) for d in base_documents(scenes, 999)]
    chats = [content for d in policy_dialogues(scenes, 999) for _, content in d.turns]
    fixed = [
        "Check the solution step by step.", "{Yes} {No}", "The code agrees. The code disagrees.",
        "The output is as claimed. The output is not as claimed.", "This cannot be read.", "not this.",
        "Wait, I should look again. Wait, let me read again. The code was wrong, so again.",
        "The code has to be fixed.",
        "Code execute Error: NameError: name 'total' is not defined",
        "Code execute Error: SyntaxError: '(' was never closed (<string>, line 1)",
        "**Judgement**: $\\boxed{Yes}$", "print(total == print(False)", "<output>", "<analyze>", "<verify>",
    ]  # fmt: skip
    return documents + chats + fixed * 50


if __name__ == "__main__":
    main()
