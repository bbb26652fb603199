"""Measures what the verifier's side costs, and prints one JSON object as its last line.

    python benchmarks/client.py [--items N] [--concurrency N] [--profile FILE]

A server in a process of its own answers every request at once, as vLLM does for a rendered prompt: an analysis of some
200 tokens, code of some 90 and a judgement of some 40, these two with 20 alternatives for every token. The code differs
from request to request, so that every vote executes its own.

`cpu_ms_per_step_vote` is processor time of this process alone, all its threads, for one path's vote on one step:
rendering, HTTP, reading log-probabilities, parsing, the sandbox's client, records. The server and the sandbox's own
processes are not in it. `step_votes_per_second` is by the clock, with all of them on this machine.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import datetime
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from machine import machine

from genprm.config import VerifyConfig
from genprm.engines import HttpEngine
from genprm.records import VerifyItem
from genprm.rewards import Verifier, judge_all
from genprm.sandbox import IsolatedSandbox

VOTES = 8
STEPS = 6
ALTERNATIVES = 20
COMPONENTS = ("cot", "cot+code+execution")
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
ANALYSIS = (
    "We are told that the train covers 180 kilometres in the first 3 hours, so its speed is 180 / 3 = 60 kilometres "
    "per hour. The paragraph then says that it keeps this speed for 2 more hours and concludes that it covers another "
    "120 kilometres, which gives 300 kilometres in total. The first division is right because 3 times 60 is 180. The "
    "second product is right because 2 times 60 is 120. The sum of 180 and 120 is 300, which agrees with what the "
    "paragraph states. Nothing in the problem says that the train stops or changes its speed, so the assumption holds. "
    "The units are consistent: kilometres per hour times hours gives kilometres. "
)
CODE = """# Recompute the paragraph's numbers from the problem
distance = 180
hours = 3
speed = distance / hours
more = 2
total = distance + more * speed + {number} - {number}
claimed = 300
print("speed:", speed)
print("total:", total)
print("agrees:", abs(total - claimed) < 1e-9)
```
"""
VERDICT = (
    "The code prints the same total as the paragraph states, so the paragraph is right.\n</verify>\n"
    "<output>\n**Judgement**: $\\boxed{Yes}$\n</output>\n"
)


# The server


def tokens_of(text: str) -> list[str]:
    """Pieces of about four characters, with the judgement's word as one of them."""
    before, word, after = text.partition("{Yes}")
    if not word:
        return [text[at : at + 4] for at in range(0, len(text), 4)]
    return [*tokens_of(before), "{", "Yes", "}", *tokens_of(after)]


def response(text: str, *, logprobs: bool, stop: str | None) -> bytes:
    """A whole HTTP answer."""
    tokens = tokens_of(text)
    choice: dict[str, Any] = {
        "index": 0,
        "text": text,
        "finish_reason": "stop",
        "stop_reason": stop,
        "logprobs": None,
    }
    if logprobs:
        others = [
            " other",
            "No",
            " the",
            "\n",
            "Maybe",
            *(f" token{number}" for number in range(ALTERNATIVES)),
        ]
        choice["logprobs"] = {
            "text_offset": list(itertools.accumulate(map(len, tokens), initial=0))[:-1],
            "token_logprobs": [-0.1053605 for _ in tokens],
            "tokens": tokens,
            "top_logprobs": [
                {token: -0.1053605}
                | {other: -3.125 - 0.4371 * rank for rank, other in enumerate(others[: ALTERNATIVES - 1])}
                for token in tokens
            ],
        }
    usage = {"prompt_tokens": 1000, "completion_tokens": len(tokens), "total_tokens": 1000 + len(tokens)}
    body = json.dumps(
        {"id": "cmpl-1", "object": "text_completion", "model": "m", "choices": [choice], "usage": usage}
    )
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body.encode()


class Answers:
    """What the server says, made beforehand."""

    def __init__(self) -> None:
        self.analysis = response(ANALYSIS + "</analyze>\n", logprobs=False, stop="</analyze>\n")
        numbers = range(1000, 1512)
        self.code = itertools.cycle(
            [response(CODE.format(number=n), logprobs=True, stop="\n```\n") for n in numbers]
        )
        self.verdict = response(VERDICT, logprobs=True, stop="</output>\n")
        self.forced = response("{Yes}", logprobs=True, stop="}")
        listing = json.dumps({"data": [{"id": "m", "owned_by": "vllm", "max_model_len": 1 << 20}]})
        head = (
            f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(listing)}\r\n\r\n"
        )
        self.models = (head + listing).encode()

    def to(self, method: bytes, body: bytes) -> bytes:
        if method == b"GET":
            return self.models
        prompt = json.loads(body)["prompt"]
        if prompt.endswith("step by step: "):
            return self.analysis
        if prompt.endswith("```python\n"):
            return next(self.code)
        return self.forced if prompt.endswith("\\boxed") else self.verdict


class Connection(asyncio.Protocol):
    def __init__(self, answers: Answers) -> None:
        self._answers = answers
        self._data = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport

    def data_received(self, data: bytes) -> None:
        self._data += data
        end = self._data.find(b"\r\n\r\n")
        if end < 0:
            return
        head = bytes(self._data[:end]).lower()
        at = head.find(b"content-length:")
        size = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
        if len(self._data) >= end + 4 + size:
            body = bytes(self._data[end + 4 : end + 4 + size])
            self._data.clear()
            self._transport.write(self._answers.to(head[:3].upper(), body))


async def serve() -> None:
    answers = Answers()
    server = await asyncio.get_running_loop().create_server(lambda: Connection(answers), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)  # until the parent ends
    server.close()


@contextmanager
def served() -> Iterator[str]:
    """The URL of the server, in a process of its own."""
    process = subprocess.Popen(
        [sys.executable, __file__, "--serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdin is not None
    try:
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.stdin.close()
        process.wait(10)


# The client


def make_items(count: int) -> list[VerifyItem]:
    step = "The train covers 180 km in 3 hours, so its speed is 60 km per hour; in {n} more hours it covers the rest."
    return [
        VerifyItem(
            id=f"item {number}",
            problem=f"Problem {number}: a train covers 180 km in 3 hours. How far does it get in 5 hours?",
            steps=tuple(step.format(n=n) for n in range(STEPS)),
        )
        for number in range(count)
    ]


async def measure(
    url: str, tokenizer: Path, components: str, options: argparse.Namespace
) -> tuple[float, float]:
    """Milliseconds of processor time per step vote, and step votes per second."""
    config = VerifyConfig(votes=VOTES, components=components, logprobs=ALTERNATIVES)  # type: ignore[arg-type]
    engine = HttpEngine(url, tokenizer=tokenizer, max_concurrency=options.concurrency)
    async with IsolatedSandbox(tier="plain", workers=1) as sandbox:
        verifier = Verifier(engine, sandbox, config, concurrency=options.concurrency)
        await judge_all(verifier, make_items(4))
        items = make_items(options.items)
        profile = cProfile.Profile(time.thread_time) if options.profile else None
        if profile is not None:
            profile.enable()
        began, busy = time.perf_counter(), time.process_time()
        rows = await judge_all(verifier, items)
        seconds, busy = time.perf_counter() - began, time.process_time() - busy
        if profile is not None:
            profile.disable()
            profile.dump_stats(f"{options.profile}.{components}")
    await engine.aclose()
    votes = [vote for row in rows for verdict in row.verdicts for vote in verdict.votes]
    lost = [vote for vote in votes if vote.reward is None or not 0.9 < vote.reward < 1]
    if lost or len(votes) != options.items * STEPS * VOTES:
        raise SystemExit(f"{len(lost)} of {len(votes)} votes are not what the server said: {lost[:1]}")
    return 1000 * busy / len(votes), len(votes) / seconds


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--items", type=int, default=50, help="solutions of six steps, each with eight votes"
    )
    parser.add_argument("--concurrency", type=int, default=256, help="requests in flight")
    parser.add_argument("--profile", help="write profiles of the measurement to files that begin so")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        asyncio.run(serve())
        return
    load = os.getloadavg()[0]
    with served() as url, tempfile.TemporaryDirectory(prefix="genprm-bench-") as folder:
        (Path(folder) / "tokenizer_config.json").write_text(json.dumps({"chat_template": TEMPLATE}))
        found = {one: asyncio.run(measure(url, Path(folder), one, options)) for one in COMPONENTS}
    print(
        json.dumps(
            {
                "cpu_ms_per_step_vote": {one: round(cost, 3) for one, (cost, _) in found.items()},
                "step_votes_per_second": {one: round(rate, 1) for one, (_, rate) in found.items()},
                "items": options.items,
                "votes": VOTES,
                "concurrency": options.concurrency,
                "load_before": round(load, 2),
                "machine": machine(),
                "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
            }
        )
    )


if __name__ == "__main__":
    main()
