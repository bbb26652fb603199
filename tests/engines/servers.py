"""Servers on loopback whose answers a test decides, and the faults that it can choose from."""

from __future__ import annotations

import http.client
import json
import socket
import struct
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit


class Loopback:
    """A server whose `answer(method, path, body)` returns (status, headers, bytes) or the name of a fault."""

    def __init__(self, answer) -> None:
        outer = self
        self.seen: list[tuple[str, dict[str, Any], dict[str, str]]] = []

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _do(self) -> None:
                size = int(self.headers.get("content-length") or 0)
                body = json.loads(self.rfile.read(size) or b"{}")
                outer.seen.append((self.path, body, dict(self.headers)))
                outer._reply(self, answer(self.command, self.path, body))

            do_GET = do_POST = _do  # noqa: N815

            def log_message(self, *_: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def _reply(self, handler: BaseHTTPRequestHandler, outcome) -> None:
        if outcome == "hang":
            time.sleep(1.5)
            outcome = (200, {}, b"{}")
        if outcome == "reset":
            linger = struct.pack("ii", 1, 0)
            handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            handler.close_connection = True
            handler.connection.close()
            return
        status, headers, data = outcome
        truncated = headers.pop("x-truncate", None)
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.send_header("content-length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data[: len(data) // 2] if truncated else data)
        if truncated:
            handler.wfile.flush()
            handler.close_connection = True

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def ok(value: object):
    return 200, {"content-type": "application/json"}, json.dumps(value).encode()


def forward(url: str, method: str, path: str, body: dict[str, Any] | None):
    """What a real server answers: an exchange on a connection of its own."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=120)
    try:
        data = json.dumps(body) if body else None
        connection.request(method, path, data, {"content-type": "application/json"} if body else {})
        answer = connection.getresponse()
        return answer.status, {"content-type": "application/json"}, answer.read()
    finally:
        connection.close()


FAULTS: dict[str, Any] = {
    "429": (429, {"retry-after": "0.01"}, b'{"error":{"message":"slow down"}}'),
    "503": (503, {}, b"loading"),
    "500": (500, {}, b"oops"),
    "reset": "reset",
    "truncated": (200, {"x-truncate": "1"}, b'{"choices": [{"text": "lost half of it"}]}'),
    "malformed": (200, {}, b"<html>not json</html>"),
    "cut json": (200, {}, b'{"content": "half an ob'),
    "no choices": (200, {}, b'{"choices": [], "object": "text_completion"}'),
}


def fault(name: str):
    """The outcome of a fault; a name that is not in the table is done by the server itself (`hang`)."""
    outcome = FAULTS.get(name, name)
    return outcome if isinstance(outcome, str) else (outcome[0], dict(outcome[1]), outcome[2])
