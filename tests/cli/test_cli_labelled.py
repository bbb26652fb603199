"""`genprm import`, `export --layout` and `train-prm` through the real command."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from genprm.records import LabelledSolution
from tiny_prm import tiny_prm


def genprm(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "genprm", *arguments],
        capture_output=True,
        text=True,
        input=stdin,
        timeout=300,
        check=False,
    )


ROWS = [
    {"prompt": "Add.", "completions": [f"Step 1: {n} = 5", f"Step 2: {n} = 7"], "labels": [True, False]}
    for n in range(4)
]


def test_rows_go_in_and_out_again(tmp_path: Path) -> None:
    given = "".join(
        json.dumps(row) + "\n" for row in [*ROWS, {"prompt": "x", "completions": [], "labels": []}]
    )
    own, out = tmp_path / "own.jsonl", tmp_path / "out.jsonl"
    done = genprm("import", "-", "-o", str(own), stdin=given)
    assert (done.returncode, done.stdout) == (0, f"4 rows in {own}\n")
    assert done.stderr == (
        "left out, no_steps: 1, the first at standard input:5: there is no list of steps, or it is empty\n"
    )
    rows = [LabelledSolution.model_validate_json(line) for line in own.read_text().splitlines()]
    assert [row.labels for row in rows] == [(True, False)] * 4
    back = genprm("export", str(own), "--layout", "stepwise", "-o", str(out))
    assert back.returncode == 0, back.stderr
    assert [json.loads(line) for line in out.read_text().splitlines()] == ROWS


def test_what_evaluation_sets_hold_is_left_out(tmp_path: Path) -> None:
    given, held, out = tmp_path / "given.jsonl", tmp_path / "test.jsonl", tmp_path / "out.jsonl"
    rows = [{"question": f"What is {n} plus {n}?", "answer": f"So.\n#### {2 * n}"} for n in range(3)]
    given.write_text("".join(json.dumps(row) + "\n" for row in rows))
    held.write_text(json.dumps({"problem": "what is 1 plus 1", "steps": ["a"], "label": 0}))
    done = genprm(
        "decontaminate", str(given), "--preset", "gsm8k", "--against", f"bench={held}", "-o", str(out)
    )
    assert (done.returncode, done.stdout) == (0, f"2 rows in {out}\n")
    assert "left out, contaminated: 1 (bench 1)" in done.stderr and "'what is 1 plus 1'" in done.stderr
    found = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(row["problem"], row["answer"]) for row in found] == [
        ("What is 0 plus 0?", "0"), ("What is 2 plus 2?", "4"),
    ]  # fmt: skip
    given.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    again = genprm(
        "decontaminate", str(given), "--layout", "auto", "--near-duplicates", "0.8", "-o", str(out)
    )
    assert again.returncode == 0, again.stderr
    assert len([LabelledSolution.model_validate_json(line) for line in out.read_text().splitlines()]) == 4


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["decontaminate", "ROWS", "-o", "x.jsonl"], "nothing to leave out"),
        (["decontaminate", "ROWS", "-o", "x.jsonl", "--against", "NONE"], "is not NAME=FILE"),
        (["decontaminate", "ROWS", "-o", "x.jsonl", "--against", "a=b.jsonl"], "no such file"),
        (
            ["decontaminate", "ROWS", "-o", "x.jsonl", "--against", "a=b.jsonl", "--against", "a=c.jsonl"],
            "two evaluation sets are called 'a': b.jsonl and c.jsonl",
        ),
        (["import", "NONE", "-o", "x.jsonl"], "no such file"),
        (["import", "ROWS", "-o", "x.csv"], "unknown kind of file"),
        (["import", "ROWS", "-o", "x.jsonl", "--layout", "trl"], "no layout 'trl'"),
        (["export", "ROWS", "--layout", "stepwise"], "without the other"),
        (["export", "ROWS", "--layout", "messages", "-o", "x.jsonl"], "is for chats"),
        (["train-prm", "ROWS", "-o", "model"], "no model to train"),
        (["card", "model", "--report", "ROWS"], "is not a report"),
        (["card", "model", "--report", "NONE"], "NONE cannot be read: No such file"),
        (["card", "model", "--report", "."], ". cannot be read: Is a directory"),
        (["train-prm", "ROWS", "-o", "model", "-s", "lerning_rate=1"], "Did you mean 'learning_rate'?"),
    ],
)
def test_a_mistake_is_one_message(arguments: list[str], says: str, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    places = {"ROWS": str(rows), "x.csv": str(tmp_path / "x.csv"), "x.jsonl": str(tmp_path / "x.jsonl")}
    done = genprm(
        *(places.get(one, str(tmp_path / one) if one in ("NONE", "model") else one) for one in arguments)
    )
    said = " ".join(done.stderr.split())
    assert done.returncode == 1 and says in said and "Traceback" not in said, said
    assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl"]


@pytest.mark.slow
def test_a_discriminative_model_from_labels_to_a_verdict(tmp_path: Path) -> None:
    rows, folder = tmp_path / "rows.jsonl", tmp_path / "model"
    rows.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    flags = ["--model", tiny_prm(), "-s", "batch_size=4"]
    done = genprm("train-prm", str(rows), "-o", str(folder), *flags)
    assert done.returncode == 0, done.stderr
    assert "4 solutions, 4 right and 4 wrong steps" in done.stdout
    assert (folder / "README.md").is_file()
    flags = ["--problem", "Add.", "--solution", "Step 1: 2 = 5\nStep 2: 2 = 7", "--json"]
    used = genprm("verify", "--model", str(folder), *flags)
    assert used.returncode == 0, used.stderr
    verdicts = json.loads(used.stdout)["verdicts"]
    assert [verdict["status"] for verdict in verdicts] == ["ok", "ok"]
    many = genprm("verify", "--model", str(folder), "--votes", "4", *flags)
    assert many.returncode == 1 and "verify.votes" in many.stderr
