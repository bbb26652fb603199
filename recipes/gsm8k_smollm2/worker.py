"""The two jobs of this recipe that run in processes of their own: training one model, and verifying a share of solutions.

`run.py` starts them; each ends by itself at the time that it is given, and leaves what it has done.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from annotated.files import PROFILE, read_chats

import genprm
from genprm.cli.console import show_error
from genprm.config import SamplingConfig, SandboxConfig, TrainConfig, VerifyConfig
from genprm.engines import LocalEngine
from genprm.evals.processbench import load_processbench
from genprm.records import Verification, VerifyItem
from genprm.rewards import Verifier
from genprm.store import write_atomic
from genprm.text.prompts import VerifierProfile, load_profile
from genprm.training import TrainProgress, train

MICRO_BATCH = 32768
"""Tokens at once in training on a GPU: a whole step, because starting a small model's kernels takes the time."""
ROWS = 512
"""Sequences that one engine decodes together. With their states, up to 4096 tokens each, an engine takes up to 60 GB.

Many, because a decoding step of so small a model is thousands of tiny kernels, however many sequences there are.
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    jobs = parser.add_subparsers(dest="job", required=True)
    _train_arguments(jobs.add_parser("train"))
    _verify_arguments(jobs.add_parser("verify"))
    arguments = parser.parse_args()
    try:
        if arguments.job == "train":
            train_model(arguments)
        else:
            asyncio.run(verify_share(arguments))
    except genprm.GenPRMError as error:
        show_error(error)
        return 1
    return 0


def _train_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", type=Path, help="folder that build.py made")
    parser.add_argument("base", type=Path, help="the model to start from")
    parser.add_argument("model", type=Path, help="folder for the trained model")
    parser.add_argument("--form", choices=("rationale", "direct"), required=True)
    parser.add_argument("--until", type=float, required=True, help="time.time() at which to stop")
    parser.add_argument("--epochs", type=float, required=True)
    parser.add_argument("--batch-size", type=int, required=True)
    parser.add_argument("--learning-rate", type=float, required=True)
    parser.add_argument("--chats", type=int, help="at most so many chats")


def train_model(arguments: argparse.Namespace) -> None:
    """Fine-tune on the chats of a build until the time is up."""
    import torch

    chats = read_chats(arguments.data, arguments.chats)
    options = TrainConfig(
        model=str(arguments.base),
        form=arguments.form,
        learning_rate=arguments.learning_rate,
        batch_size=arguments.batch_size,
        epochs=arguments.epochs,
        max_seconds=max(1.0, arguments.until - time.time()),
        max_length=2048,
        micro_batch_tokens=MICRO_BATCH if torch.cuda.is_available() else 0,
    )
    report = train(
        chats,
        options,
        arguments.model,
        profile=load_profile(str(PROFILE), VerifierProfile),
        seed=0,
        on_progress=_shown,
    )
    print(json.dumps(report.model_dump(mode="json", exclude={"losses", "files"})))


def _shown(progress: TrainProgress) -> None:
    if progress.step % 25 == 1:
        print(
            f"step {progress.step} of {progress.total}, loss {progress.loss:.3f}, {progress.tokens} tokens, "
            f"{progress.seconds:.0f} s",
            file=sys.stderr,
            flush=True,
        )


def _verify_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path)
    parser.add_argument(
        "items", type=Path, help="solutions in ProcessBench's format, in the order to take them"
    )
    parser.add_argument("rows", type=Path, help="file for the verifications")
    parser.add_argument(
        "--share", type=int, nargs=2, required=True, metavar=("K", "N"), help="every Nth, from K"
    )
    parser.add_argument("--until", type=float, required=True, help="time.time() at which to stop")
    parser.add_argument("--votes", type=int, required=True)
    parser.add_argument("--temperature", type=float, required=True)
    parser.add_argument("--direct", action="store_true", help="ask for the judgement alone")
    parser.add_argument("--boxes", type=int, help="sandbox boxes; one per core unless given")
    parser.add_argument("--allow-unsandboxed", action="store_true")


async def verify_share(arguments: argparse.Namespace) -> None:
    """Verify every Nth solution, all steps and all votes, until the time is up; rows are written as they are done.

    Solutions that the file of rows has already are not verified again.
    """
    first, every = arguments.share
    items = load_processbench(arguments.items)[first::every]
    done = arguments.rows.read_text(encoding="utf-8").splitlines() if arguments.rows.exists() else []
    known = {Verification.model_validate_json(line).item_id for line in done}
    wanted = [
        VerifyItem(id=one.id, problem=one.problem, steps=one.steps, problem_id=one.id)
        for one in items
        if one.id not in known
    ]
    if not wanted:
        return
    options = VerifyConfig(
        profile=str(PROFILE),
        votes=arguments.votes,
        components="direct" if arguments.direct else "cot+code+execution",
        max_rounds=2,
        max_tokens=320,
        logprobs=5,
        sampling=SamplingConfig(temperature=arguments.temperature),
    )
    engine = LocalEngine(
        arguments.model,
        batch_size=ROWS,
        max_context=4096,
        prefix_cache_mb=6144,
        name=arguments.model.name,
    )
    sandbox = SandboxConfig(
        tier="plain", workers=arguments.boxes, allow_unsandboxed=arguments.allow_unsandboxed
    )
    try:
        # Few more requests than rows: a solution that waits for a row is one that is not finished when time is up.
        async with Verifier(
            engine, options=options, sandbox_options=sandbox, concurrency=ROWS * 5 // 4
        ) as verifier:
            async with asyncio.timeout(max(0.1, arguments.until - time.time())):
                async for row in verifier.judge(wanted):
                    done.append(row.model_dump_json())
                    if len(done) % 20 == 0:
                        write_atomic(arguments.rows, "\n".join(done).encode())
    except TimeoutError:
        print(f"time is up: {len(done)} of {len(items)} solutions", file=sys.stderr)
    finally:
        write_atomic(arguments.rows, "\n".join(done).encode())
        await engine.aclose()


if __name__ == "__main__":
    sys.exit(main())
