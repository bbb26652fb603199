"""`genprm verify` against a server on loopback: rows are printed while later steps are still being judged."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

COMMAND = [sys.executable, "-c", "from genprm.cli.main import main; main()", "verify"]
SOLUTION = "Step 1: 2 + 3 = 5.\n\nStep 2: 5 + 4 = 8."


class Judge:
    """Plays a vLLM chat endpoint that says Yes to the first step, and No to the second once it may."""

    def __init__(self) -> None:
        self.may_finish = threading.Event()
        self.asked = 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self._send({"data": [{"id": "judge", "owned_by": "vllm"}]})

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                if not self.path.endswith("/chat/completions"):
                    self._send({"error": {"message": "not here"}}, 404)
                    return
                outer.asked += 1
                second = "Step 2" in body["messages"][-2]["content"]
                if second:
                    outer.may_finish.wait(60)
                self._send(outer.answer("No" if second else "Yes", 0.1 if second else 0.9))

            def _send(self, value: dict[str, Any], status: int = 200) -> None:
                data = json.dumps(value).encode()
                self.send_response(status)
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    @staticmethod
    def answer(word: str, p_yes: float) -> dict[str, Any]:
        top = [
            {"token": "Yes", "logprob": math.log(p_yes)},
            {"token": "No", "logprob": math.log(1 - p_yes)},
        ]
        own = next(entry for entry in top if entry["token"] == word)
        logprobs = {"content": [{**own, "top_logprobs": top}]}
        message = {"role": "assistant", "content": f"{word}}}"}
        choice = {"message": message, "finish_reason": "stop", "stop_reason": "}", "logprobs": logprobs}
        return {"choices": [choice], "usage": {"prompt_tokens": 9, "completion_tokens": 2}}

    def close(self) -> None:
        self.may_finish.set()
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def judge():
    made = Judge()
    yield made
    made.close()


def test_a_row_is_printed_while_the_next_step_is_judged(judge: Judge) -> None:
    flags = [
        "--url",
        judge.url,
        "--profile",
        "compact",
        "--votes",
        "2",
        "--set",
        "verify.components=direct",
    ]
    process = subprocess.Popen(
        [*COMMAND, "--problem", "What is 2 + 3 + 4?", "--solution", SOLUTION, *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    early = [process.stdout.readline(), process.stdout.readline()]
    assert process.poll() is None, "the second step cannot have been judged yet"
    assert not judge.may_finish.is_set()
    assert early[1].split()[:4] == ["1", "right", "0.900", "2/2"]
    judge.may_finish.set()
    rest, said = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert rest.splitlines()[0].split()[:4] == ["2", "wrong", "0.100", "2/2"]
    assert "first error: step 2" in rest


def test_json_holds_votes_and_costs(judge: Judge) -> None:
    judge.may_finish.set()
    flags = ["--url", judge.url, "--profile", "compact", "--set", "verify.components=direct", "--json"]
    done = subprocess.run(
        [*COMMAND, "--problem", "What is 2 + 3 + 4?", "--solution", SOLUTION, *flags],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    row = json.loads(done.stdout)
    assert [verdict["reward"] for verdict in row["verdicts"]] == pytest.approx([0.9, 0.1])
    assert row["first_error"] == 1
    assert (row["usage"]["requests"], row["usage"]["completion_tokens"]) == (2, 4)
    assert row["usage"]["engine_seconds"] > 0 and row["seconds"] > 0


def test_kept_results_are_not_asked_for_again(judge: Judge, tmp_path: Path) -> None:
    judge.may_finish.set()
    file = tmp_path / "solutions.csv"
    file.write_text(
        'id,problem,solution\nb,What is 2 + 3 + 4?,"Step 1: 2 + 3 = 5.\n\nStep 2: 5 + 4 = 8."\na,Why?,Step 1: So.\n'
    )
    flags = [str(file), "--profile", "compact", "--set", "verify.components=direct", "--json"]
    kept = ["--run-dir", str(tmp_path / "run")]

    def run(url: str) -> subprocess.CompletedProcess[str]:
        command = [*COMMAND, *flags, "--url", url, *kept]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    first = run(judge.url)
    assert first.returncode == 0, first.stderr
    rows = [json.loads(line) for line in first.stdout.splitlines()]
    assert [(row["item_id"], row["first_error"]) for row in rows] == [("b", 1), ("a", -1)]
    asked = judge.asked
    again = run(judge.url)
    assert (again.returncode, again.stdout, judge.asked) == (0, first.stdout, asked)


def test_a_file_of_many_shows_its_progress_if_nobody_sees_the_rows(judge: Judge, tmp_path: Path) -> None:
    judge.may_finish.set()
    file = tmp_path / "solutions.jsonl"
    file.write_text("".join(json.dumps({"problem": f"p{i}", "steps": ["one"]}) + "\n" for i in range(3)))
    flags = [
        str(file),
        "--url",
        judge.url,
        "--profile",
        "compact",
        "--set",
        "verify.components=direct",
        "--json",
    ]
    done = subprocess.run([*COMMAND, *flags], capture_output=True, text=True, timeout=60, check=False)
    assert len(done.stdout.splitlines()) == 3
    assert done.stderr == "verify: 3 solutions\n"


def test_a_kill_loses_only_what_was_in_work(judge: Judge, tmp_path: Path) -> None:
    """Eight finished solutions are one shard; the ninth, which is being judged, alone is asked for again."""
    rows = [{"id": f"r{i}", "problem": f"p{i}", "steps": ["one"]} for i in range(8)]
    rows.append({"id": "last", "problem": "What is 2 + 3 + 4?", "solution": SOLUTION})
    file, run = tmp_path / "solutions.jsonl", tmp_path / "run"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    flags = ["--url", judge.url, "--profile", "compact", "--set", "verify.components=direct", "--json"]
    command = [*COMMAND, str(file), *flags, "--run-dir", str(run)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while judge.asked < 10 or not list(run.glob("stages/verify-verifications/000000-*.json")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    process.kill()
    process.communicate()
    assert judge.asked == 10
    judge.may_finish.set()
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["item_id"] for row in found] == [row["id"] for row in rows]
    assert [row["first_error"] for row in found] == [-1] * 8 + [1]
    assert judge.asked == 12
