"""Compares training here with trl's `SFTTrainer` on the same rows, and prints one JSON object as its last line.

    python benchmarks/training.py [--device cpu|cuda] [--modes bfloat16 bfloat16+checkpointing] [--rounds 2] [--steps N]

Both train the same random model, built in memory, on the same chats in the same order, with the labels that are
prepared here: `ours` is the loop of `genprm train`, `sft_trainer` a plain `SFTTrainer` with its own defaults (products
in bfloat16, its statistics, micro-batches of a fixed number of chats, an attention mask). They take turns. Input tokens
are counted without padding, and the first steps of each turn are left out.

On a GPU the model has the shape of Qwen2-1.5B and a step has 64 chats of about 870 tokens; on a CPU both are small.
`mfu` is the share of the GPU's bfloat16 peak that the model's own products need: none of recomputation or padding, and
the output layer for trained tokens alone; null if the peak is not known. No mode begins later than `--seconds`.
"""

from __future__ import annotations

import argparse
import datetime
import gc
import json
import statistics
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import machine, processor
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    PreTrainedTokenizerFast,
    PrinterCallback,
    Qwen2Config,
    TrainerCallback,
)
from trl import SFTConfig, SFTTrainer

from genprm.config import TrainConfig
from genprm.training.batches import make_plan
from genprm.training.chat_data import EncodedSample
from genprm.training.models import Loaded
from genprm.training.trainer import Clock, Job, make_dataset, make_trainer

SEED = 0
TRAINED_SHARE = 0.6
PEAK_FLOPS = {"H100": 989e12, "H200": 989e12, "A100": 312e12}
SIDES = ("ours", "sft_trainer")


@dataclass(frozen=True)
class Size:
    """What is trained: a model's shape, and chats of `tokens` tokens, half as many to half as many more."""

    config: Any
    chats: int
    tokens: int
    rows: int
    warm_up: int
    steps: int


def size_of(device: str) -> Size:
    if device == "cuda":
        shape = Qwen2Config(
            vocab_size=151_936,
            hidden_size=1536,
            intermediate_size=8960,
            num_hidden_layers=28,
            num_attention_heads=12,
            num_key_value_heads=2,
            max_position_embeddings=8192,
            tie_word_embeddings=True,
        )
        return Size(shape, chats=64, tokens=870, rows=8, warm_up=2, steps=4)
    shape = LlamaConfig(
        vocab_size=512,
        hidden_size=128,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=4,
        max_position_embeddings=1024,
    )
    return Size(shape, chats=16, tokens=128, rows=8, warm_up=1, steps=6)


def tokenizer() -> PreTrainedTokenizerFast:
    """Any tokenizer: the chats are made of token ids, but trainers want one."""
    from tokenizers import Tokenizer, models

    core = Tokenizer(models.WordLevel({"<pad>": 0, "<end>": 1}, unk_token="<pad>"))
    return PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", eos_token="<end>")


def chats(size: Size) -> list[EncodedSample]:
    rng = np.random.default_rng(SEED)
    made = []
    for _ in range(size.chats * (size.warm_up + size.steps)):
        length = int(rng.integers(size.tokens // 2, size.tokens * 3 // 2 + 1))
        ids = rng.integers(2, size.config.vocab_size, length).astype(np.int32)
        made.append(EncodedSample(ids, np.arange(length) >= (1 - TRAINED_SHARE) * length))
    return made


class StepTimes(TrainerCallback):
    """When each optimizer step had ended, on the device too."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if args.device.type == "cuda":
            torch.cuda.synchronize()
        self.times.append(time.perf_counter())


def build(size: Size, device: str, weights: Any) -> Any:
    torch.manual_seed(SEED)
    with torch.device(device):
        return AutoModelForCausalLM.from_config(size.config, dtype=weights)


def make_job(size: Size, device: str, mode: str, samples: list[EncodedSample], folder: Path) -> Job:
    precision, _, more = mode.partition("+")
    lengths = [len(sample) for sample in samples]
    plan = make_plan(lengths, batch_size=size.chats, epochs=1, max_tokens=None, seed=SEED)
    options = TrainConfig(
        model="in memory",
        batch_size=size.chats,
        precision=precision,  # type: ignore[arg-type]
        gradient_checkpointing=more == "checkpointing",
    )
    weights = torch.bfloat16 if precision == "bfloat16" else torch.float32
    loaded = Loaded(
        model=build(size, device, weights),
        tokenizer=tokenizer(),
        dtype=weights,
        positions=None,
        precision=options.precision,  # type: ignore[arg-type]
        cuda=device == "cuda",
    )
    return Job(
        loaded, samples, plan, options, folder, SEED, Clock(time.monotonic()), checkpoint_seconds=1e9
    )


def plain_trainer(job: Job, size: Size) -> SFTTrainer:
    """What one would write with trl alone, given rows and labels."""
    order = [index for step in job.plan.steps for index in step]
    arguments = SFTConfig(
        output_dir=str(job.folder),
        num_train_epochs=1,
        per_device_train_batch_size=size.rows,
        gradient_accumulation_steps=size.chats // size.rows,
        train_sampling_strategy="sequential",
        learning_rate=job.options.learning_rate,
        bf16=job.options.precision != "float32",
        gradient_checkpointing=job.options.gradient_checkpointing,
        use_cpu=not job.loaded.cuda,
        max_length=None,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        dataloader_pin_memory=job.loaded.cuda,
    )
    trainer = SFTTrainer(
        model=job.loaded.model,
        args=arguments,
        train_dataset=make_dataset(job).select(order),
        processing_class=job.loaded.tokenizer,
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def flops_per_token(size: Size, samples: list[EncodedSample]) -> float:
    """Products of one input token, forwards and backwards, attention included."""
    shape = size.config
    head = shape.hidden_size // shape.num_attention_heads
    attention = shape.hidden_size * head * (2 * shape.num_attention_heads + 2 * shape.num_key_value_heads)
    weights = shape.num_hidden_layers * (attention + 3 * shape.hidden_size * shape.intermediate_size)
    lengths = np.array([len(sample) for sample in samples], dtype=np.float64)
    seen = (lengths**2).sum() / lengths.sum() / 2  # earlier tokens of a token, on average
    scores = 2 * shape.num_hidden_layers * shape.hidden_size * seen
    output = TRAINED_SHARE * shape.hidden_size * shape.vocab_size
    return float(6 * (weights + scores + output))


@dataclass
class Turn:
    """One side's run: tokens per second of the steps after the warm-up, and the most memory."""

    rate: float
    peak_gb: float | None
    loss: float


def take_turn(
    side: str, size: Size, device: str, mode: str, samples: list[EncodedSample], folder: Path
) -> Turn:
    job = make_job(size, device, mode, samples, folder)
    trainer = make_trainer(job) if side == "ours" else plain_trainer(job, size)
    times = StepTimes()
    trainer.add_callback(times)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    result = trainer.train()
    tokens = job.plan.tokens[-1] - job.plan.tokens[size.warm_up - 1]
    rate = tokens / (times.times[-1] - times.times[size.warm_up - 1])
    peak = torch.cuda.max_memory_allocated() / 1e9 if device == "cuda" else None
    del job, trainer
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()
    return Turn(rate, peak, float(result.training_loss))


def measure(size: Size, device: str, mode: str, rounds: int, folder: Path) -> dict[str, Any]:
    samples = chats(size)
    turns: dict[str, list[Turn]] = {side: [] for side in SIDES}
    for number in range(rounds):
        for side in SIDES:
            turns[side].append(
                take_turn(side, size, device, mode, samples, folder / f"{mode}-{side}-{number}")
            )
            print(f"{mode} {side}: {turns[side][-1]}", flush=True)
    rates = {side: statistics.median(turn.rate for turn in found) for side, found in turns.items()}
    peak = next((flops for name, flops in PEAK_FLOPS.items() if name in device_name(device)), None)
    needed = flops_per_token(size, samples)
    return {
        "tokens_per_second": {side: round(rate) for side, rate in rates.items()},
        "mfu": {side: round(rate * needed / peak, 3) if peak else None for side, rate in rates.items()},
        "peak_gb": {side: found[0].peak_gb and round(found[0].peak_gb, 1) for side, found in turns.items()},
        "ratio": round(rates["ours"] / rates["sft_trainer"], 3),
        "loss": {side: round(found[0].loss, 4) for side, found in turns.items()},
        "each": {side: [round(turn.rate) for turn in found] for side, found in turns.items()},
    }


def device_name(device: str) -> str:
    return torch.cuda.get_device_name() if device == "cuda" else processor()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--modes", nargs="+", help="precision, or precision+checkpointing")
    parser.add_argument("--rounds", type=int, default=2, help="turns of each side")
    parser.add_argument("--steps", type=int, help="measured steps of each turn (4 on a GPU, 6 on a CPU)")
    parser.add_argument("--seconds", type=float, default=150.0)
    args = parser.parse_args()
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("there is no GPU here that torch can use; --device cpu measures a small model")
    modes = args.modes or (
        ["bfloat16", "bfloat16+checkpointing", "mixed"] if args.device == "cuda" else ["float32"]
    )
    started = time.monotonic()
    size = size_of(args.device)
    if args.steps:
        size = replace(size, steps=args.steps)
    found = {}
    with tempfile.TemporaryDirectory(prefix="genprm-bench-") as folder:
        for mode in modes:
            if not found or time.monotonic() - started < args.seconds:
                found[mode] = measure(size, args.device, mode, args.rounds, Path(folder))
    result = found[modes[0]] | {
        "mode": modes[0],
        "others": {mode: figures for mode, figures in found.items() if mode != modes[0]},
        "seconds": round(time.monotonic() - started),
        "device": device_name(args.device),
        "machine": f"{machine()}, torch {torch.__version__}",
        "date": datetime.date.today().isoformat(),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
