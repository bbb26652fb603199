"""Make the data of this recipe out of GSM8K's training solutions.

    python recipes/gsm8k_smollm2/build.py TRAIN.jsonl DATA --against TEST.jsonl --against PROCESSBENCH.json

TRAIN is GSM8K's training file (JSONL with `question` and `answer`, calculator annotations included), or `hub:ID` with
the data set's id. Problems that share 13 words in a row with a problem of a file given by `--against` are left out and
counted. DATA gets the chats in parts, `dev.json` and `heldout.json` (solutions of problems that no chat is about, in
ProcessBench's format), and `build.json` with all counts. A build that was stopped continues where it stood.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import random
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from annotated.building import Made, make_solutions, write_chats
from annotated.files import PROFILE, write_items
from annotated.overlap import LENGTH, Benchmark
from annotated.reading import Worked, gsm8k_rows, read_worked
from annotated.tutor import Rates

import genprm
from genprm.cli.console import show_error
from genprm.identity import content_key
from genprm.sandbox import make_sandbox
from genprm.sources import read_rows
from genprm.store import write_atomic
from genprm.text.prompts import VerifierProfile, load_profile

BATCH = 200


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("train", help="GSM8K's training file, or hub:ID")
    parser.add_argument("data", type=Path, help="folder for what is made")
    parser.add_argument("--against", type=Path, action="append", default=[], help="benchmark file; repeat")
    parser.add_argument("--copies", type=int, default=2, help="correct and corrupted tellings per problem")
    parser.add_argument(
        "--held-out", type=int, default=100, help="problems for dev, and for the held-out set"
    )
    parser.add_argument("--limit", type=int, help="at most so many problems, for a trial")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--allow-unsandboxed", action="store_true", help="run code if nothing isolates it")
    arguments = parser.parse_args()
    try:
        counts = build(arguments)
    except genprm.GenPRMError as error:
        show_error(error)
        return 1
    print(json.dumps(counts, indent=1))
    return 0


def build(arguments: argparse.Namespace) -> dict[str, object]:
    """Make everything; returns the counts of `build.json`."""
    worked, counts = chosen_problems(arguments.train, arguments.against, arguments.limit)
    random.Random(arguments.seed).shuffle(worked)
    apart = min(arguments.held_out, len(worked) // 4)
    if not apart:
        raise genprm.DataError("too few problems whose solutions are proved by annotations")
    dev, heldout, rest = worked[:apart], worked[apart : 2 * apart], worked[2 * apart :]
    arguments.data.mkdir(parents=True, exist_ok=True)
    for name, problems in (("dev", dev), ("heldout", heldout)):
        items = [made.item() for made in make_solutions(problems, 1, arguments.seed)]
        write_items(arguments.data / f"{name}.json", items)
        counts[name] = len(items)
    made = list(make_solutions(rest, arguments.copies, arguments.seed))
    random.Random(arguments.seed).shuffle(made)
    counts |= asyncio.run(_write_parts(made, arguments))
    counts["kinds"] = dict(Counter(one.kind or "correct" for one in made))
    write_atomic(arguments.data / "build.json", json.dumps(counts, indent=1).encode())
    return counts


def chosen_problems(
    train: str, against: Sequence[Path], limit: int | None
) -> tuple[list[Worked], dict[str, object]]:
    """The problems whose solutions are proved and that no benchmark shares, and how many were left out."""
    given = list(gsm8k_rows(train))
    worked = list(itertools.islice(read_worked(iter(given)), limit))
    counts: dict[str, object] = {"problems": len(given), "proved": len(worked)}
    shared = {}
    for path in against:
        benchmark = Benchmark(_questions(path))
        kept = [one for one in worked if not benchmark.overlaps(one.question)]
        shared[path.name] = len(worked) - len(kept)
        worked = kept
    counts[f"sharing {LENGTH} words with"] = shared
    return worked, counts


def _questions(path: Path) -> Iterator[str]:
    for row in read_rows(path):
        yield row.text(row.first(("question", "problem")) or "question")


async def _write_parts(made: Sequence[Made], arguments: argparse.Namespace) -> dict[str, object]:
    """The chats in parts of `BATCH` solutions; parts that an earlier build finished are kept."""
    profile = load_profile(str(PROFILE), VerifierProfile)
    sandbox = make_sandbox(genprm.SandboxConfig(allow_unsandboxed=arguments.allow_unsandboxed), "plain")
    dropped: Counter[str] = Counter()
    chats = 0
    try:
        for start in range(0, len(made), BATCH):
            batch = made[start : start + BATCH]
            key = content_key(profile, [(one.solution, one.first_error) for one in batch])
            path = arguments.data / "chats" / f"{start // BATCH:04d}-{key[:12]}.jsonl"
            if not path.exists():
                written, lost = await write_chats(
                    batch, sandbox, profile, rates=Rates(), seed=arguments.seed
                )
                lines = [json.dumps(dict(lost)), *(chat.model_dump_json() for chat in written)]
                path.parent.mkdir(exist_ok=True)
                write_atomic(path, "\n".join(lines).encode())
            first, *rest = path.read_text(encoding="utf-8").splitlines()
            dropped.update(json.loads(first))
            chats += len(rest)
            print(f"{start + len(batch)} of {len(made)} solutions, {chats} chats", file=sys.stderr)
    finally:
        await sandbox.aclose()
    return {"solutions": len(made), "chats": chats, "dropped": dict(dropped)}


if __name__ == "__main__":
    sys.exit(main())
