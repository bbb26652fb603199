"""`genprm doctor --url` against servers that can more and less."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from servers import Loopback, ok


def doctor(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "genprm", "doctor", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def facts(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    return json.loads(done.stdout)["engines"][0]


@pytest.fixture
def serve():
    started: list[Loopback] = []

    def start(owner: str, reply: Any, **entry: Any) -> Loopback:
        def answer(method: str, path: str, body: dict[str, Any]) -> Any:
            if path == "/v1/models":
                models = [
                    {"id": name, "owned_by": owner, **entry} for name in ("first:latest", "second:latest")
                ]
                return ok({"data": models})
            return reply(path, body)

        started.append(Loopback(answer))
        return started[-1]

    yield start
    for server in started:
        server.close()


def able(path: str, body: dict[str, Any]) -> Any:
    """A server that can everything, with a model that counts."""
    text = "1, 2, 3"
    if path == "/v1/completions":
        text = " 4," if body.get("include_stop_str_in_output") else " 4"
    elif body.get("continue_final_message"):
        text = " 5, 6"
    token = {"token": text, "logprob": -0.1, "top_logprobs": [{"token": text, "logprob": -0.1}]}
    logprobs = {"content": [token]} if body.get("logprobs") else None
    choice = {"finish_reason": "stop", "logprobs": logprobs}
    choice |= {"message": {"content": text}} if "messages" in body else {"text": text}
    return ok({"choices": [choice], "usage": {"prompt_tokens": 5, "completion_tokens": 1}})


def test_a_server_that_can_everything(serve):
    server = serve("vllm", able, max_model_len=4096)
    found = facts(doctor("--url", server.url, "--model", "second", "--json"))
    assert found["answers"]
    assert (found["server"], found["model"], found["context"]) == ("vllm", "second:latest", 4096)
    assert found["models"] == ["first:latest", "second:latest"]
    assert found["log_probabilities"] == {"completions": True, "chat": True}
    assert found["extensions"] == {
        "top_k": "taken",
        "add_special_tokens": "taken",
        "include_stop_str_in_output": "yes",
    }
    assert (found["continues_turns"], found["counts_tokens"], found["problems"]) == ("yes", True, {})
    assert found["turns_remedy"] == ""


def test_a_server_that_can_little_is_described_and_is_enough(serve):
    def reply(path: str, body: dict[str, Any]) -> Any:
        if path != "/v1/chat/completions":
            return 404, {}, b""
        return ok({"choices": [{"message": {"content": "1, 2"}, "finish_reason": "stop"}]})

    server = serve("library", reply)
    done = doctor("--url", server.url.removeprefix("http://"))
    assert done.returncode == 0, done.stderr
    for part in (
        "ollama",
        "first:latest",
        "not said",
        "without log-probabilities",
        "continues a begun turn",
        "no: costs are lower bounds",
        "llama-server",
    ):
        assert part in done.stdout, part
    found = facts(doctor("--url", server.url, "--json"))
    assert found["log_probabilities"] == {"completions": None, "chat": False}
    assert (found["context"], found["extensions"], found["continues_turns"]) == (None, {}, "not shown")


def test_refused_extensions_and_endpoints_are_named(serve):
    def reply(path: str, body: dict[str, Any]) -> Any:
        if path == "/v1/chat/completions":
            return 404, {}, b'{"error": {"message": "no chat here"}}'
        if body.keys() & {"top_k", "add_special_tokens", "include_stop_str_in_output"}:
            return 400, {}, b'{"error": {"message": "unknown argument"}}'
        return able(path, body)

    found = facts(doctor("--url", serve("somebody", reply).url, "--json"))
    assert set(found["extensions"].values()) == {"refused"}
    assert found["log_probabilities"] == {"completions": True, "chat": None}
    assert "no chat here" in found["problems"]["/v1/chat/completions"]


def test_a_server_that_answers_nothing_is_a_failure(serve):
    done = doctor("--url", serve("somebody", lambda path, body: (400, {}, b"no")).url)
    assert done.returncode == 1
    assert "no answers" in done.stdout
    gone = doctor("--url", "http://127.0.0.1:9")
    assert gone.returncode == 1
    assert "Is a server running" in " ".join(gone.stdout.split())


def test_a_real_llama_server(llama_url):
    found = facts(doctor("--url", llama_url, "--json"))
    assert (found["server"], found["context"]) == ("llama.cpp", 512)
    assert found["log_probabilities"] == {"completions": True, "chat": True}
    assert found["continues_turns"] in ("yes", "taken")


@pytest.mark.vllm
def test_a_real_vllm(by_heart_vllm: str):
    found = facts(doctor("--url", by_heart_vllm, "--json"))
    assert (found["server"], found["model"]) == ("vllm", "by-heart")
    assert found["context"] > 0 and found["log_probabilities"]["completions"] is True
