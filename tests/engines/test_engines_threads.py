"""One http engine used from several threads and event loops."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from servers import Loopback, fault, ok

from genprm.aio import run_sync
from genprm.engines import HttpEngine, Request


class Watched:
    """A loopback server that answers with the prompt, and counts how many exchanges it has at once."""

    def __init__(self, faults: int = 0) -> None:
        self._lock = threading.Lock()
        self._now = 0
        self.most = 0
        self._faults = faults
        self.server = Loopback(self.answer)

    def answer(self, method: str, path: str, body: dict):
        if path == "/v1/models":
            return ok({"data": [{"id": "m", "owned_by": "vllm"}]})
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
            self._faults -= 1
            broken = self._faults >= 0
        time.sleep(0.002)
        with self._lock:
            self._now -= 1
        if broken:
            return fault("503")
        return ok({"choices": [{"text": f"<{body['prompt']}>", "finish_reason": "stop"}]})


@pytest.fixture
def watched():
    made: list[Watched] = []

    def start(faults: int = 0) -> Watched:
        made.append(Watched(faults))
        return made[-1]

    yield start
    for one in made:
        one.server.close()


@pytest.mark.parametrize("servers", [1, 3])
def test_six_threads_with_loops_of_their_own_share_an_engine(watched, servers):
    """Every call is answered with its own answer, and the bound on requests in flight holds over all of them."""
    pool = [watched(faults=3) for _ in range(servers)]
    engine = HttpEngine([one.server.url for one in pool], max_concurrency=4, retries=6, retry_seconds=0.01)

    def work(thread: int) -> list[str]:
        texts = []
        for call in range(5):
            requests = [Request(prompt=f"{thread}.{call}.{number}") for number in range(4)]
            found = asyncio.run(engine.generate(requests))
            texts += [one.text for one in found]
            assert all(one.ok for one in found), [one.error for one in found]
        return texts

    with ThreadPoolExecutor(6) as threads:
        found = list(threads.map(work, range(6)))
    engine.close()
    for thread, texts in enumerate(found):
        assert texts == [f"<{thread}.{call}.{number}>" for call in range(5) for number in range(4)]
    assert sum(one.most for one in pool) <= 4 * servers
    assert servers > 1 or pool[0].most <= 4


def test_a_second_event_loop_continues_with_the_same_engine(watched):
    url = watched().server.url
    engine = HttpEngine(url)
    for number in range(3):
        (found,) = asyncio.run(engine.generate([Request(prompt=str(number))]))
        assert found.text == f"<{number}>"
    (found,) = run_sync(engine.generate([Request(prompt="bridge")]))
    assert found.text == "<bridge>"

    async def within() -> None:
        (one,) = await engine.generate([Request(prompt="again")])
        (other,) = run_sync(engine.generate([Request(prompt="nested")]))
        assert (one.text, other.text) == ("<again>", "<nested>")
        await engine.aclose()

    asyncio.run(within())


def test_calls_that_wait_for_a_slot_may_be_on_different_loops(watched):
    engine = HttpEngine(watched().server.url, max_concurrency=1)
    with ThreadPoolExecutor(4) as threads:
        calls = [
            threads.submit(asyncio.run, engine.generate([Request(prompt=f"{n}.{k}") for k in range(5)]))
            for n in range(4)
        ]
        texts = {one.text for call in calls for one in call.result(60)}
    engine.close()
    assert texts == {f"<{n}.{k}>" for n in range(4) for k in range(5)}


@pytest.mark.parametrize("ending", ["asyncio.run(use())", "run_sync(use())", "use_in_threads()"])
def test_an_engine_that_nobody_closed_ends_with_its_process_in_silence(watched, ending):
    code = f"""
        import asyncio, threading
        from genprm.aio import run_sync
        from genprm.engines import HttpEngine, Request

        engine = HttpEngine({watched().server.url!r})

        async def use():
            assert (await engine.generate([Request(prompt="x")]))[0].ok

        def use_in_threads():
            threads = [threading.Thread(target=asyncio.run, args=(use(),)) for _ in range(3)]
            for thread in threads: thread.start()
            for thread in threads: thread.join()

        {ending}
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
