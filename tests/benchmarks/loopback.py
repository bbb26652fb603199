"""A server that answers a verifier's chats at once, as vLLM would: an analysis, a check by code, a judgement."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MODELS = {"data": [{"id": "reviewer", "owned_by": "vllm", "max_model_len": 1 << 16}]}


def reply(prefix: str) -> str:
    """What follows the beginning of an assistant's turn."""
    if prefix.endswith("```python\n"):
        return "print(1 + 1 == 2)\n```\n"
    if prefix.endswith(("\\boxed{", "\\boxed")):
        return "Yes}" if prefix.endswith("{") else "{Yes}"
    if "[Code Output]" in prefix:
        return "It is right.\n</verify>\n<output>\n**Judgement**: $\\boxed{Yes}$\n</output>\n"
    return "It says what follows.\n</analyze>\n"


def answer(body: dict[str, Any]) -> dict[str, Any]:
    last = body.get("messages", [{"role": "user"}])[-1]
    text = reply(last["content"] if last["role"] == "assistant" else "")
    before, word, after = text.partition("Yes")
    likely = [{"token": word, "logprob": -0.1} for word in ("Yes", "No")]
    tokens = [
        {"token": token, "logprob": -0.1, "top_logprobs": likely}
        for token in (before, word, after)
        if token
    ]
    choice = {
        "text": text,
        "message": {"role": "assistant", "content": text},
        "finish_reason": "stop",
        "logprobs": {"content": tokens},
    }
    return {"choices": [choice], "usage": {"prompt_tokens": 9, "completion_tokens": len(tokens)}}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        self._send(200 if self.path == "/v1/models" else 404, MODELS)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self._send(200 if self.path.endswith("/completions") else 404, answer(body))

    def _send(self, status: int, value: Any) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def serving() -> Iterator[str]:
    """The server's URL."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
