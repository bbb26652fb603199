"""No key of the section `serve` without a reader."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import aiohttp

import genprm
from genprm import AsyncRewardClient, ScriptedEngine, ScriptedReward
from genprm.config import RunConfig
from genprm.domains import load_domain
from genprm.serve.app import create_app
from genprm.serve.chat.search import Searcher
from genprm.serve.run import check_serving, make_service, open_history, serve
from read_keys import watched


async def test_every_key_of_the_server_has_a_reader(tmp_path: Path) -> None:
    options = {
        "port": 0,
        "busy_voting": "exact",
        "openrlhf_unknown": 0.5,
        "limits": {"*": {}},
        "strategies": {"best": {"kind": "best_of_n", "n": 1}, "critic": {"kind": "refine"}},
        "history": str(tmp_path / "history.sqlite"),
    }
    config = RunConfig.model_validate({"problems": {"source": "arithmetic"}, "serve": options})
    reward = ScriptedReward(lambda problem, steps, index: 0.875)
    policy = ScriptedEngine(lambda request: " 1 + 1 = 2. The answer is \\boxed{2}.")
    listening: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    with watched(config) as reads:
        check_serving(config.serve, config.verify)
        history = open_history(config.serve)
        service = make_service(config.serve, reward, reward, history)
        domain = load_domain("math")
        searcher = Searcher(policy, service, domain, config)
        app = create_app(service, config.serve, searcher=searcher, history=history)
        server = asyncio.create_task(serve(app, config.serve, listening.set_result))
        async with AsyncRewardClient(await listening) as client:
            items = [genprm.VerifyItem(id="a", problem="1 + 1?", steps=("1 + 1 = 2.",))]
            assert [one.rewards for one in await client.verify_many(items)] == [(0.875,)]
        async with aiohttp.ClientSession() as http:
            for solution, rewarded in (("1 + 1 = 2.", 0.875), ("", 0.5)):
                asked = {"query": [f"1 + 1?{solution}"], "prompts": ["1 + 1?"], "labels": ["2"]}
                async with http.post(f"{await listening}/openrlhf", json=asked) as reply:
                    assert (await reply.json())["rewards"] == [rewarded]
            for model in ("best", "critic"):
                chat = {"model": model, "messages": [{"role": "user", "content": "1 + 1?"}]}
                async with http.post(f"{await listening}/v1/chat/completions", json=chat) as reply:
                    assert reply.status == 200
        os.kill(os.getpid(), signal.SIGHUP)
        async with asyncio.timeout(20):
            while not app.state.keys.reloads["taken"]:
                await asyncio.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)
        await server
        await domain.aclose()
        if history is not None:
            history.close()
    assert {key for key in reads.missing() if key.startswith("serve.")} == set()
