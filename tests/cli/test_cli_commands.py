"""Every command through the real command line, on the packaged models."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

GENPRM = [sys.executable, "-m", "genprm"]
FAST = [
    "--set", "solutions.max_tokens=200",
    "--set", "sandbox.tier=plain",
]  # fmt: skip


def genprm(*arguments: str, stdin: str = "", timeout: float = 300) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*GENPRM, *arguments], capture_output=True, text=True, input=stdin, timeout=timeout, check=False
    )


def lines(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_the_demo_finds_the_wrong_step_and_prints_nothing_else() -> None:
    done = genprm("verify", "--demo")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    rows = [line.split() for line in done.stdout.splitlines()]
    verdicts = [row[1] for row in rows if row and row[0].isdigit()]
    assert verdicts == ["right", "wrong", "right"]
    assert "first error: step 2" in done.stdout


def test_show_work_prints_analysis_code_and_output() -> None:
    done = genprm("verify", "--demo", "--votes", "1", "--show-work")
    assert done.returncode == 0, done.stderr
    for part in ("<analyze>", "print(", "[Code Output]"):
        assert part in done.stdout


def test_a_file_is_printed_in_its_order_with_headings(tmp_path: Path) -> None:
    rows = [
        {"problem": "In the club, Oda owns 21 pens. Ned has 4 more pens than Oda. "
         "How many pens does Ned have?", "steps": ["Step 1: Ned has 4 more than Oda = 21: 21 + 4 = 25."] * (3 - number),
         **({"id": f"row {number}"} if number != 1 else {})}
        for number in range(3)
    ]  # fmt: skip
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = genprm("verify", str(file), "--model", "builtin:verifier")
    assert done.returncode == 0, done.stderr
    headings = [line for line in done.stdout.splitlines() if line.startswith("solution ")]
    assert headings == ["solution row 0", f"solution {file}:2", "solution row 2"]
    found = lines(genprm("verify", "-", "--model", "builtin:verifier", "--json", stdin=file.read_text()))
    assert [row["item_id"] for row in found][::2] == ["row 0", "row 2"]
    assert [len(row["verdicts"]) for row in found] == [3, 2, 1]


@pytest.mark.slow
def test_sample_best_of_n_and_refine(tmp_path: Path) -> None:
    policy = ["arithmetic", "--limit", "2", "--policy", "builtin:policy", *FAST]
    done = genprm("sample", *policy, "-n", "2")
    solutions = lines(done)
    verified = lines(genprm("verify", "-", "--model", "builtin:verifier", "--json", stdin=done.stdout))
    assert [row["item_id"] for row in verified] == [row["id"] for row in solutions]
    assert [row["sample"] for row in solutions] == [0, 1, 0, 1]
    assert {row["correct"] for row in solutions} <= {True, False}
    out = tmp_path / "chosen.jsonl"
    done = genprm("best-of-n", *policy, "-n", "2", "--model", "builtin:verifier", "--output", str(out))
    assert done.returncode == 0, done.stderr
    assert "majority" in done.stdout
    chosen = [json.loads(line) for line in out.read_text().splitlines()]
    assert [len(row["candidates"]) for row in chosen] == [2, 2]
    for choice in (choice for row in chosen for choice in row["choices"].values()):
        assert (choice["solution_id"] is None) == (choice["reason"] is not None)
    assert all(row["choices"]["majority"]["solution_id"] in row["candidates"] for row in chosen)
    traces = lines(genprm("refine", *policy, "--alone", "--turns", "1", "--set", "refine.max_tokens=120"))
    assert [len(row["turns"]) for row in traces] == [2, 2]


CONFIG = """
seed: 1
problems: {source: arithmetic, split: train, limit: 6}
roles:
  policy: {kind: local, options: {model: "builtin:policy", device: cpu, threads: 1}}
  teacher: {kind: tutor, options: {seed: 1}}
sandbox: {tier: plain}
solutions: {per_class: 1, batch: 8, max_samples: 16, max_tokens: 160, sampling: {temperature: 1.0}}
montecarlo: {k_start: 4, k_hard: 4, k_medium: 4, k_easy: 4, max_tokens: 160, sampling: {temperature: 1.0}}
train: {model: "builtin:base", learning_rate: 5.0e-4, batch_size: 2, max_tokens: 4000, epochs: 100, max_length: 1024}
label: {method: hard}
rationales: {profile: tutor}
verify: {profile: compact, max_tokens: 120, max_rounds: 1, logprobs: 5}
store: {shard_size: 3}
"""


def test_a_plan_says_what_it_assumes(tmp_path: Path) -> None:
    config = tmp_path / "first.yaml"
    config.write_text(CONFIG)
    for estimator, assumed in (("sequential", True), ("dynamic", False)):
        plan = genprm(
            "run", str(config), f"montecarlo.estimator={estimator}", "--dry-run", "--until", "chats"
        )
        assert plan.returncode == 0, plan.stderr
        assert ("40% of K samples per state" in " ".join(plan.stdout.split())) is assumed


@pytest.mark.slow
def test_a_run_from_config_to_a_model_that_is_used(tmp_path: Path) -> None:
    config, run = tmp_path / "first.yaml", tmp_path / "run"
    config.write_text(CONFIG)
    plan = genprm("run", str(config), "--dry-run")
    assert plan.returncode == 0, plan.stderr
    assert "nothing was called" in plan.stdout
    done = genprm("run", str(config), "-o", str(run))
    assert done.returncode == 0, done.stderr
    assert "Loading weights" not in done.stderr + done.stdout
    model = next((run / "artifacts" / "train").glob("*/genprm.json")).parent
    assert str(model) in done.stdout
    again = genprm("run", str(run / "config.yaml"))
    assert again.returncode == 0, again.stderr
    assert not (tmp_path / "runs").exists(), "the config inside a run repeats that run"
    chats = lines(genprm("export", str(run), "chats"))
    assert chats and {row["form"] for row in chats} == {"rationale"}
    assert "label" in genprm("export", str(run)).stdout
    without = genprm("label", str(run), "--method", "hard", "--threshold", "0.5")
    assert without.returncode == 1
    assert "the rule 'hard' has no threshold" in without.stderr
    labelled = genprm("label", str(run), "--method", "difference", "--threshold", "-0.5")
    assert labelled.returncode == 0, labelled.stderr
    assert "compared with the run's own rule" in labelled.stdout
    used = genprm(
        "verify", "--model", str(model), "--problem", "What is 2 + 3?", "--solution", "Step 1: 5."
    )
    assert "Traceback" not in used.stderr, used.stderr
    assert used.stdout.splitlines()[1].split()[0] == "1"
    exported = tmp_path / "chats.jsonl"
    exported.write_text("".join(json.dumps(row) + "\n" for row in chats))
    flags = ["--config", str(config), "--set", "train.max_tokens=1500"]
    trained = genprm("train", str(exported), "-o", str(tmp_path / "model"), *flags)
    assert trained.returncode == 0, trained.stderr
    assert (tmp_path / "model" / "genprm.json").is_file()
    rows = [
        {
            "id": f"r{i}",
            "problem": "What is 2 + 3?",
            "steps": ["Step 1: 2 + 3 = 5."],
            "label": -1 if i % 2 else 0,
        }
        for i in range(4)
    ]
    (tmp_path / "toy.json").write_text(json.dumps(rows))
    measured = genprm(
        "eval",
        "processbench",
        str(tmp_path / "toy.json"),
        "--model",
        str(model),
        "-o",
        str(tmp_path / "eval"),
    )
    assert measured.returncode == 0, measured.stderr
    report = json.loads((tmp_path / "eval" / "report.json").read_text())
    assert report["benchmark"]["splits"]["toy"]["pass@1"]["erroneous"] == 2
    assert (tmp_path / "eval" / "report.html").is_file()


@pytest.mark.slow
def test_what_a_policy_wrote_instead_and_one_problem(tmp_path: Path) -> None:
    config, run = tmp_path / "first.yaml", tmp_path / "run"
    config.write_text(CONFIG)
    done = genprm("run", str(config), "-o", str(run), "--until", "montecarlo", "solutions.max_tokens=60")
    assert done.returncode == 1
    assert "most often dropped: sample_unfinished" in done.stderr
    told = genprm("dropped", str(run), "solutions", "--reason", "sample_unfinished", "--examples", "1")
    assert told.returncode == 0, told.stderr
    assert told.stdout.startswith("solutions: sample_unfinished ")
    assert "        Step 1: " in told.stdout
    (reason,) = json.loads(genprm("dropped", str(run), "--reason", "sample_unfinished", "--json").stdout)
    assert reason["count"] > 0 and 0 < len(reason["examples"]) <= 3
    problem = reason["examples"][0]["id"].rpartition("/")[0]
    shown = genprm("show", str(run), problem)
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.startswith(f"problem {problem}\n")
    assert json.loads(genprm("show", str(run), problem, "--json").stdout)["problems"]["rows"]


def test_doctor_names_its_extras() -> None:
    done = genprm("doctor")
    assert done.returncode == 0, done.stderr
    for extra in ("extra [local]", "extra [train]", "extra [vllm]"):
        assert extra in done.stdout
    level = json.loads(genprm("doctor", "--json").stdout)["sandbox"]["level"]
    assert f"{level} of 3: " in done.stdout


# Torch, which takes its time, is left out; what asks for files by the system's name comes before.
ELSEWHERE = """
import sys, sysconfig, zoneinfo
import genprm.cli.main
sysconfig.get_config_vars()
sys.modules["torch"] = None
sys.platform, sys.argv = "freebsd14", ["genprm", "doctor", *sys.argv[1:]]
genprm.cli.main.main()
"""


@pytest.mark.parametrize("flags", [[], ["--json"]], ids=["table", "JSON"])
def test_doctor_says_what_to_do_where_there_is_no_sandbox(flags: list[str]) -> None:
    command = [sys.executable, "-c", ELSEWHERE, *flags]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    for remedy in ("Linux container", "WSL", "verify.components=cot"):
        assert remedy in " ".join(done.stdout.split())
    if flags:
        assert json.loads(done.stdout)["sandbox"]["level"] is None


COMMANDS = (
    "verify run eval quickstart sample best-of-n refine label "
    "train import train-prm card export show dropped doctor"
)


@pytest.mark.parametrize("command", ["", *COMMANDS.split()])
def test_help_is_there_for_every_command(command: str) -> None:
    done = genprm(*([command] if command else []), "--help")
    assert done.returncode == 0
    assert "Usage" in done.stdout


def test_user_text_is_never_read_as_markup(tmp_path: Path) -> None:
    file = tmp_path / "[bold]rows[/bold].jsonl"
    done = genprm("verify", str(file), "--model", "builtin:verifier")
    assert "[bold]rows[/bold].jsonl" in done.stderr


_ON_A_TERMINAL = """
import fcntl, os, signal, sys, termios
signal.signal(signal.SIGINT, signal.SIG_DFL)
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, "-m", "genprm", *sys.argv[1:]])
"""


def test_an_interrupt_says_how_to_continue(tmp_path: Path) -> None:
    """Ctrl-C on a terminal: one line, exit code 130, no traceback."""
    config = tmp_path / "c.yaml"
    config.write_text(CONFIG)
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", _ON_A_TERMINAL, "run", str(config),
         "-o", str(tmp_path / "run"), "--until", "chats"],
        stdin=follower, stdout=follower, stderr=follower, start_new_session=True,
    )  # fmt: skip
    os.close(follower)
    said = b""
    while b"solutions" not in said:
        said += os.read(leader, 4096)
    os.write(leader, b"\x03")
    try:
        while chunk := os.read(leader, 4096):
            said += chunk
    except OSError:
        pass  # the terminal is gone with the process
    assert process.wait(timeout=60) == 130
    assert b"Interrupted" in said
    assert b"Traceback" not in said
