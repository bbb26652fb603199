"""SmolLM2-135M, taught the format of a verification with LoRA: made once, for the local engine's test and for vLLM's.

vLLM's environment cannot train, so the model is made by a process of another one, and kept under `.cache/` for as long
as nothing of this file, of the library and of the pinned versions changes.
"""

from __future__ import annotations

import contextlib
import io
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from genprm.config import SamplingConfig, SandboxConfig, VerifyConfig
from genprm.engines import Engine
from genprm.identity import content_key
from genprm.records import (
    NO_ERROR,
    CodeStatus,
    Problem,
    Rationale,
    Solution,
    StepRationale,
    StepVerdict,
    TrainingSample,
    VerifyItem,
)
from genprm.rewards import Verifier, judge_all
from genprm.sources import write_layout
from genprm.text.prompts import VerifierProfile, load_profile
from genprm.text.transcript import Segment, Turn, build_turn
from genprm.training import TrainReport, build_samples

ROOT = Path(__file__).resolve().parents[1]
RECIPE = ROOT / "recipes" / "gsm8k_smollm2"
PROFILE = "compact"
CHATS, STEPS, RANK = 48, 24, 16
OPTIONS = {
    "train.lora_rank": RANK,
    "train.lora_alpha": 2 * RANK,
    "train.learning_rate": 2e-3,
    "train.batch_size": CHATS // STEPS,
    "train.schedule": "linear",
    "verify.profile": PROFILE,
}
_NAMES = ("Ann", "Ben", "Eva", "Kim", "Leo", "Mia", "Tom", "Zoe")
_THINGS = ("pens", "eggs", "cups", "nuts", "caps", "jars")


@dataclass(frozen=True)
class Sum:
    """A problem of one step, and what the step claims."""

    problem: str
    step: str
    claim: str

    @property
    def holds(self) -> bool:
        return bool(eval(self.claim))

    def turn(self) -> Turn:
        """What the verifier is to write about the step."""
        printed = io.StringIO()
        code = f"print({self.claim})"
        with contextlib.redirect_stdout(printed):
            exec(code)
        said = "The code agrees." if self.holds else "The code disagrees."
        check = (
            Segment("code", code),
            Segment("output", printed.getvalue().strip()),
            Segment("prose", said),
        )
        return Turn(f"The step claims {self.claim}.", check, self.holds)

    def asked(self) -> list[dict[str, str]]:
        """The chat with which the verifier is asked about the step."""
        profile = load_profile(PROFILE, VerifierProfile)
        turns = [
            *profile.system_turn("cot+code+execution"),
            profile.user_turn(self.problem, (self.step,), 0),
        ]
        return [turn.model_dump(mode="json") for turn in turns]


def sums(count: int, seed: int) -> Iterator[Sum]:
    """Right and wrong ones in turn."""
    rng = random.Random(seed)
    for number in range(count):
        a, b = rng.randint(11, 60), rng.randint(11, 39)
        claimed = a + b + (rng.choice((-10, -1, 1, 2, 10)) if number % 2 else 0)
        name, thing = rng.choice(_NAMES), rng.choice(_THINGS)
        yield Sum(
            f"{name} has {a} {thing} and gets {b} more. How many {thing} does {name} have then?",
            f"{name} then has {a} + {b} = {claimed} {thing}.",
            f"{a} + {b} == {claimed}",
        )


def chats() -> list[TrainingSample]:
    """Chats as the pipeline makes them of executed rationales."""
    profile = load_profile(PROFILE, VerifierProfile)
    return [
        build_samples(*_records(number, one), profile=profile) for number, one in enumerate(sums(CHATS, 0))
    ]


def _records(number: int, one: Sum) -> tuple[Solution, Problem, Rationale]:
    names = {"solution_id": f"s{number}", "problem_id": f"p{number}"}
    turn = one.turn()
    step = StepRationale(text=build_turn(turn), judgement=turn.judgement)
    return (
        Solution(id=f"s{number}", problem_id=f"p{number}", steps=(one.step,)),
        Problem(id=f"p{number}", text=one.problem),
        Rationale(steps=(step,), first_error=NO_ERROR if one.holds else 0, **names),
    )


@dataclass(frozen=True)
class Taught:
    """What was made: the folder of the merged model, its base, and the report of its training."""

    model: Path
    base: Path
    report: TrainReport

    @property
    def adapter(self) -> Path:
        return self.model / "adapter"


def taught(python: str | Path = sys.executable) -> Taught:
    """The trained model, made by this interpreter unless it is there."""
    folder = ROOT / ".cache" / f"smollm2-lora-{_key()[:16]}"
    if not (folder / "done").exists():
        for old in folder.parent.glob("smollm2-lora-*"):
            shutil.rmtree(old)
        done = subprocess.run(
            [str(python), str(Path(__file__).resolve()), str(folder)],
            capture_output=True,
            text=True,
            timeout=1800,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        (folder / "done").touch()
    report = TrainReport.model_validate_json((folder / "model" / "genprm_training.json").read_text())
    return Taught(folder / "model", folder / "base", report)


async def judged(engine: Engine) -> list[tuple[Sum, StepVerdict]]:
    """Held-out sums with the verdicts on their steps, at temperature 0."""
    given = list(sums(4, seed=1))
    options = VerifyConfig(
        profile=PROFILE, max_tokens=120, max_rounds=1, sampling=SamplingConfig(temperature=0)
    )
    items = [
        VerifyItem(id=str(number), problem=one.problem, steps=(one.step,))
        for number, one in enumerate(given)
    ]
    async with Verifier(
        engine, options=options, sandbox_options=SandboxConfig(tier="plain", workers=1)
    ) as verifier:
        rows = await judge_all(verifier, items)
    return [(one, row.verdicts[0]) for one, row in zip(given, rows, strict=True)]


def check(one: Sum, verdict: StepVerdict) -> None:
    """The verdict has the trained format: analysis, code that was executed, a judgement that follows its output."""
    (vote,) = verdict.votes
    assert vote.rationale is not None and verdict.status == "ok", verdict
    assert vote.rationale.text == build_turn(one.turn())
    (ran,) = vote.rationale.rounds
    assert (ran.status, ran.output) == (CodeStatus.OK, str(one.holds))
    assert vote.judgement is one.holds and not vote.forced
    assert verdict.reward is not None and (verdict.reward > 0.5) is one.holds


def _key() -> str:
    """Of all that decides what training comes to."""
    paths = [Path(__file__), ROOT / "constraints.txt", *sorted((ROOT / "src" / "genprm").rglob("*.py"))]
    return content_key([path.read_text(encoding="utf-8") for path in paths])


def make(folder: Path) -> None:
    """Base, chats and model, by the commands that users have."""
    from genprm.cli.main import app

    sys.path.insert(0, str(RECIPE))
    from run_gpu import convert, packaged_gguf

    folder.mkdir(parents=True)
    convert(packaged_gguf().parent, folder / "base")
    write_layout(iter(chats()), folder / "chats.jsonl")
    flags = [part for key, value in OPTIONS.items() for part in ("-s", f"{key}={value}")]
    app(
        [
            "train",
            str(folder / "chats.jsonl"),
            "-o",
            str(folder / "model"),
            "--model",
            str(folder / "base"),
            *flags,
        ],
        standalone_mode=False,
    )


if __name__ == "__main__":
    make(Path(sys.argv[1]))
