"""Users' mistakes, through the real command: one clear message, exit code 1 or 2, no traceback."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

GENPRM = [sys.executable, "-m", "genprm"]


def genprm(
    *arguments: str, stdin: str = "", command: list[str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*(command or GENPRM), *arguments],
        capture_output=True,
        text=True,
        input=stdin,
        timeout=120,
        check=False,
    )


def assert_mistake(done: subprocess.CompletedProcess[str], *needles: str) -> None:
    said = " ".join(done.stderr.split())
    assert done.returncode in (1, 2), (done.returncode, said)
    assert "Traceback" not in done.stderr + done.stdout
    assert said.count("error:") == 1, said
    for needle in needles:
        assert needle in said, said


def config(tmp_path: Path, text: str) -> str:
    path = tmp_path / "run.yaml"
    path.write_text(text)
    return str(path)


def test_a_wrong_config_key(tmp_path: Path) -> None:
    done = genprm("run", config(tmp_path, "montecarlo: {k_strat: 3}\n"))
    assert_mistake(done, "unknown key 'montecarlo.k_strat'", "Did you mean 'k_start'?")


def test_a_wrong_override(tmp_path: Path) -> None:
    assert_mistake(genprm("run", config(tmp_path, ""), "seed=one"), "'seed' cannot be 'one'")


def test_a_missing_config_file(tmp_path: Path) -> None:
    assert_mistake(
        genprm("run", str(tmp_path / "absent.yaml")), "cannot read the config file", "absent.yaml"
    )


def test_a_cluster_that_is_not_there_and_an_address_without_one(tmp_path: Path) -> None:
    run = ["run", config(tmp_path, "problems: {source: arithmetic, limit: 1}\n"), "--until", "chats"]
    run += ["--run-dir", str(tmp_path / "run"), "--address", "127.0.0.1:1"]
    assert_mistake(genprm(*run), "--address is of a Ray cluster", "Add --executor ray")
    assert_mistake(
        genprm(*run, "--executor", "ray"),
        "no Ray cluster can be reached at 127.0.0.1:1",
        "ray start --head",
    )
    assert_mistake(genprm(*run, "--executor", "slurm"), "executor.kind", "local")
    assert not (tmp_path / "run").exists()


def test_an_unknown_stage(tmp_path: Path) -> None:
    assert_mistake(
        genprm("run", config(tmp_path, ""), "--until", "lable"), "there is no stage 'lable'", "label"
    )


def test_a_missing_column(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"q": "1 + 1?", "answer": "2"}) + "\n")
    done = genprm(
        "run", config(tmp_path, f"problems: {{source: {rows}, preset: gsm8k}}\n"),
        "-o", str(tmp_path / "r"), "--until", "chats",
    )  # fmt: skip
    assert_mistake(done, f"{rows}:1", "question")


def test_a_broken_jsonl_line(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"problem": "1 + 1?", "answer": "2"}) + "\n{broken\n")
    text = f"problems: {{source: {rows}}}\n"
    done = genprm("run", config(tmp_path, text), "-o", str(tmp_path / "r"), "--until", "chats")
    assert_mistake(done, f"{rows}:2")


def test_an_unreachable_server(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    done = genprm("verify", "--url", url, "--problem", "1 + 1?", "--solution", "Step 1: 2.")
    assert_mistake(done, url)


def test_a_missing_extra(tmp_path: Path) -> None:
    hide = (
        "import sys\n"
        "class Hide:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in ('torch', 'transformers'):\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Hide())\n"
        "from genprm.cli.main import main; main()"
    )
    done = genprm(
        "verify", "--model", str(tmp_path), "--problem", "1 + 1?", "--solution", "Step 1: 2.",
        command=[sys.executable, "-c", hide],
    )  # fmt: skip
    assert_mistake(done, "pip install 'genprm[local]'")


@pytest.mark.parametrize(
    ("arguments", "needle"),
    [
        (["verify", "--model", "m"], "either a file, or both"),
        (["verify", "--model", "m", "--problem", "p"], "either a file, or both"),
        (["verify", "--problem", "p", "--solution", "s"], "no verifier is named"),
        (["eval", "procesbench", "x.json", "--model", "m"], "no benchmark 'procesbench'"),
        (["verify", "/nowhere/x.json", "--model", "m"], "/nowhere/x.json"),
        (["verify", "--demo", "--json", "--show-work"], "--json holds what --show-work prints"),
        (["refine", "arithmetic", "--alone", "--model", "m"], "nothing to do with --model"),
        (["refine", "arithmetic", "--alone", "--url", "http://u"], "nothing to do with --url"),
        (["refine", "arithmetic", "--alone", "--votes", "2"], "nothing to do with --votes"),
        (["doctor", "--model", "m"], "--url"),
        (["export", "run", "--dropped"], "--dropped is about printing the rows of a stage"),
        (["export", "run", "chats", "--partial", "--layout", "messages", "-o", "c.jsonl"], "--partial is"),
    ],
)
def test_missing_or_contradicting_flags(arguments: list[str], needle: str) -> None:
    assert_mistake(genprm(*arguments), needle)


def test_standard_input_with_empty_steps() -> None:
    row = json.dumps({"problem": "1 + 1?", "steps": []})
    assert_mistake(genprm("verify", "-", "--model", "m", stdin=row + "\n"), "steps")


def test_a_run_directory_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    text = "problems: {source: arithmetic}\n"
    done = genprm("run", config(tmp_path, text), "-o", str(tmp_path / "file"), "--until", "chats")
    assert_mistake(done, "cannot create", str(tmp_path / "file"))


def test_a_directory_with_other_things_is_left_alone(tmp_path: Path) -> None:
    written = config(tmp_path, "problems: {source: arithmetic}  # mine\n")
    done = genprm("run", written, "-o", str(tmp_path), "--until", "chats")
    assert_mistake(done, "is not empty and is not a run directory")
    assert Path(written).read_text().endswith("# mine\n")


def test_an_empty_config_names_what_is_missing(tmp_path: Path) -> None:
    """The first thing first: problems, and then what is made of them."""
    for until in (["--until", "chats"], [], ["--dry-run"]):
        done = genprm("run", config(tmp_path, ""), *until, "-o", str(tmp_path / "r"))
        assert_mistake(done, "no problems are named", "problems.source")
    named = config(tmp_path, "problems: {source: arithmetic}\n")
    assert_mistake(genprm("run", named), "no model to train is named", "train.model")


def test_all_mistakes_of_a_file_are_told_at_once(tmp_path: Path) -> None:
    text = "seed: x\nlabel: {ration: 1}\nverify: {votes: 0}\n"
    done = genprm("run", config(tmp_path, text))
    assert_mistake(done, "3 mistakes", "'seed'", "label.ration", "verify.votes")
    beside = [line for line in done.stderr.splitlines() if "label.ration" in line]
    assert beside == ["  unknown key 'label.ration' (Did you mean 'ratio'?)"]


def test_a_dry_run_checks_engines_and_options(tmp_path: Path) -> None:
    text = "problems: {source: arithmetic, limit: 5}\nroles: {policy: {kind: htpp}}\n"
    assert_mistake(genprm("run", config(tmp_path, text), "--dry-run", "--until", "chats"), "htpp", "http")
    done = genprm(
        "run", config(tmp_path, text), "roles.policy={kind: http, options: {base_url: x}}", "--dry-run",
        "--until", "chats",
    )  # fmt: skip
    assert_mistake(done, "base_url", "base_urls")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux")
def test_a_full_disk_behind_standard_output() -> None:
    command = ["sh", "-c", f"{sys.executable} -m genprm verify --demo --url http://127.0.0.1:9 > /dev/full"]
    assert_mistake(genprm(command=command), "no space is left")


def test_closed_standard_streams() -> None:
    """Services may start programs without any: that is an empty input, and an output that nobody reads."""
    closed_in = ["sh", "-c", f"{sys.executable} -m genprm verify - --url http://127.0.0.1:9 <&-"]
    assert_mistake(genprm(command=closed_in), "no rows")
    closed_out = ["sh", "-c", f"{sys.executable} -m genprm verify --demo --url http://127.0.0.1:9 >&-"]
    assert_mistake(genprm(command=closed_out), "cannot reach")
