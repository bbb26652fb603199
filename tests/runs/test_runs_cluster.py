"""A Ray cluster of three nodes on one machine: the same files as local ones, whatever dies on the way."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import sums
from faulty_chain import Notes, Recorder, chain, execute, local, problems, rows_of
from ray_nodes import Nodes
from test_runs_soak import truth_of

from genprm.config import RunConfig, load_config
from genprm.errors import ClusterError, EngineUnavailable, RunIncomplete
from genprm.runs import run_pipeline

pytestmark = pytest.mark.slow
COUNT = 10
SECONDS = 120.0


# ---------------------------------------------------------------- the whole pipeline, a node and an engine


class Policy:
    """A policy behind HTTP that can be stopped and started again on its port.

    Attributes:
        pause: seconds before every answer.
        held: the first number of a problem that gets no answer before the policy is stopped.
    """

    def __init__(self) -> None:
        self.pause = 0.0
        self.held: int | None = None
        self.port = 0
        self.start()

    def start(self) -> None:
        outer = self
        stopped = self._stopped = threading.Event()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self._say({"data": [{"id": "tiny", "owned_by": "vllm"}]})

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                first, second = _numbers(body)
                if first == outer.held:
                    stopped.wait()
                    self.close_connection = True
                    return
                time.sleep(outer.pause)
                content = _continued(first + second + body["seed"] % 2)
                message = {"role": "assistant", "content": content}
                choice = {"message": message, "finish_reason": "stop"}
                self._say({"choices": [choice], "usage": {"prompt_tokens": 9, "completion_tokens": 5}})

            def _say(self, value: object) -> None:
                data = json.dumps(value).encode()
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(data)))
                self.send_header("connection", "close")
                self.end_headers()
                self.wfile.write(data)
                self.close_connection = True

            def log_message(self, *_: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._stopped.set()


def _numbers(body: dict[str, Any]) -> tuple[int, int]:
    match = sums._SUM.search(json.dumps(body["messages"]))
    assert match is not None
    return int(match[1]), int(match[2])


def _continued(total: int) -> str:
    return f" We add the numbers.\n\nStep 2: The answer is \\boxed{{{total}}}."


@pytest.fixture
def policy() -> Iterator[Policy]:
    server = Policy()
    yield server
    server.stop()


@pytest.fixture(autouse=True)
def engines() -> None:
    sums.register()


def config(source: Path, policy: Policy, nodes: Nodes | None, **executor: Any) -> RunConfig:
    base = sums.config(source)
    url = f"http://127.0.0.1:{policy.port}"
    base["roles"]["policy"] = {"kind": "http", "options": {"base_urls": url, "retries": 0}}
    base["solutions"]["max_samples"] = 64
    if nodes is not None:
        environment = {**nodes.environment, "worker_process_setup_hook": "sums.register"}
        base["executor"] = {
            "kind": "ray",
            "address": nodes.address,
            "actors": 3,
            "cpus_per_actor": 0.5,
            "runtime_env": environment,
            **executor,
        }
    return load_config(None, model=RunConfig, base=base)


def timeless(value: Any) -> Any:
    """JSON without times, and without checksums of files that have times in them."""
    if isinstance(value, dict):
        dropped = ("seconds", "_checksum", "seal")
        return {key: timeless(part) for key, part in value.items() if not key.endswith(dropped)}
    return [timeless(part) for part in value] if isinstance(value, list) else value


def files_of(folder: Path) -> dict[str, Any]:
    """Every file of the stages by its name, without times."""
    found = {}
    for path in sorted((folder / "stages").rglob("*.json*")):
        text = path.read_text()
        parts = text.splitlines() if path.suffix == ".jsonl" else [text]
        found[str(path.relative_to(folder))] = [timeless(json.loads(part)) for part in parts]
    return found


async def test_the_files_are_those_of_a_local_run(tmp_path: Path, policy: Policy, nodes: Nodes) -> None:
    source = sums.write_problems(tmp_path / "problems.jsonl", 9)
    told = Recorder()
    here = await run_pipeline(config(source, policy, None), tmp_path / "local", until="verifications")
    there = await run_pipeline(
        config(source, policy, nodes), tmp_path / "ray", until="verifications", progress=told
    )
    files = files_of(tmp_path / "ray")
    assert len(files) > 100
    assert files == files_of(tmp_path / "local")
    assert {name: row.reasons for name, row in there.summaries.items()} == {
        name: row.reasons for name, row in here.summaries.items()
    }
    assert set(told.done.values()) == {9}, "progress counts every problem of every stage once"
    assert not [note for note in told.notes if "waiting for the cluster" not in note]
    assert list((tmp_path / "ray" / "leases").iterdir()) == []


async def test_a_node_is_killed_and_an_engine_restarted(
    tmp_path: Path, policy: Policy, nodes: Nodes
) -> None:
    """Nothing is lost, nothing is doubled, and nothing that was finished is made again."""
    source = sums.write_problems(tmp_path / "problems.jsonl", 30)
    await run_pipeline(config(source, policy, None), tmp_path / "local", until="chats")
    run, told = tmp_path / "ray", Recorder()
    policy.pause, policy.held = 0.3, 29
    running = asyncio.create_task(
        run_pipeline(config(source, policy, nodes), run, until="chats", progress=told)
    )
    await _until(lambda: len(_metas(run, "solutions")) >= 3, running)
    nodes.kill()
    await _until(lambda: any("died, and others take its shards" in note for note in told.notes), running)
    nodes.add_other()
    await _until(lambda: len(_metas(run, "solutions")) >= 8, running)
    policy.stop()
    with pytest.raises((EngineUnavailable, RunIncomplete)) as caught:
        await running
    assert "kept" in caught.value.hint
    settled = {
        name: meta
        for name, meta in _metas(run, "solutions").items()
        if not meta["pending"] and not meta["waiting"]
    }
    assert settled, "what the engine answered before is kept"
    assert len(settled) < len(_metas(tmp_path / "local", "solutions")), "the stopped engine left work"
    policy.pause, policy.held = 0.0, None
    policy.start()
    result = await run_pipeline(config(source, policy, nodes), run, until="chats")
    after = _metas(run, "solutions")
    assert {name: after[name] for name in settled} == settled
    assert truth_of(run) == truth_of(tmp_path / "local")
    assert all(summary.complete and not summary.pending for summary in result.summaries.values())
    assert result.repairs == []


def _metas(run: Path, stage: str) -> dict[str, Any]:
    found = {}
    for path in (run / "stages" / stage).glob("0*-*.json"):
        found[path.name] = json.loads(path.read_text())
    return found


async def _until(true: Any, running: asyncio.Task[Any]) -> None:
    async with asyncio.timeout(SECONDS):
        while not true():
            assert not running.done(), running.exception() or "the run was over too soon"
            await asyncio.sleep(0.05)


# ---------------------------------------------------------------- a driver that dies

DRIVER = Path(__file__).parent / "ray_driver.py"
KILLS = int(os.environ.get("GENPRM_RAY_KILLS", "4"))
"""Ten for a release."""


def drive(nodes: Nodes, run: Path, notes: Notes) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(DRIVER), nodes.address, str(run), str(notes.folder), str(COUNT)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **nodes.environment["env_vars"]},
    )


async def test_a_driver_that_is_killed_again_and_again_ends_with_the_same_rows(
    tmp_path: Path, nodes: Nodes
) -> None:
    """kill -9 at moments spread over all stages. Its actors may outlive it for a moment: they write no more."""
    await execute(local, tmp_path / "local", chain(Notes.make(tmp_path / "a")), problems(COUNT))
    run, notes = tmp_path / "run", Notes.make(tmp_path / "notes", pause=0.05)
    for kill in range(KILLS):
        wanted = 4 * COUNT * kill // KILLS + 1
        with drive(nodes, run, notes) as process:
            while sum(notes.calls().values()) < wanted and process.poll() is None:
                await asyncio.sleep(0.01)
            process.send_signal(signal.SIGKILL)
    with drive(nodes, run, notes) as process:
        said, _ = process.communicate(timeout=SECONDS)
        assert process.returncode == 0, said
    assert rows_of(run) == rows_of(tmp_path / "local")
    assert not list(run.rglob("*.tmp"))
    assert list((run / "leases").iterdir()) == []


# ---------------------------------------------------------------- clusters that cannot be used


async def _fails(tmp_path: Path, policy: Policy, nodes: Nodes, **executor: Any) -> ClusterError:
    source = sums.write_problems(tmp_path / "problems.jsonl", 2)
    with pytest.raises(ClusterError) as caught:
        await run_pipeline(config(source, policy, nodes, **executor), tmp_path / "run", until="solutions")
    return caught.value


async def test_resources_that_no_node_has(tmp_path: Path, policy: Policy, nodes: Nodes) -> None:
    error = await _fails(tmp_path, policy, nodes, gpus_per_actor=1, wait_seconds=2)
    assert "no place for an actor" in error.message
    assert "1 GPUs" in error.message
    assert "executor.gpus_per_actor" in error.hint


async def test_a_node_that_has_no_genprm(tmp_path: Path, policy: Policy, nodes: Nodes) -> None:
    (tmp_path / "genprm").mkdir()
    (tmp_path / "genprm" / "__init__.py").write_text("")
    empty = {"env_vars": {"PYTHONPATH": str(tmp_path)}}
    error = await _fails(tmp_path, policy, nodes, runtime_env=empty)
    assert "cannot import" in error.message
    assert "genprm" in error.message
    assert "on all nodes" in error.hint
