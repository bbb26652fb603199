"""The local engine: token ids, determinism, shared and reused prefixes, sampling, stop strings, faults."""

from __future__ import annotations

import asyncio
import builtins
import random
from typing import Any

import pytest

from genprm.aio import run_sync
from genprm.engines import Completion, Request, SamplingParams
from genprm.errors import (
    ContextOverflow,
    EngineError,
    EngineRequestError,
    EngineUnavailable,
    MissingExtraError,
)
from genprm.records import ChatMessage

torch = pytest.importorskip("torch")
np = pytest.importorskip("numpy")

CHAT = (ChatMessage(role="system", content="Judge."), ChatMessage(role="user", content="3 + 4 = 7"))


def local(folder, **options):
    from genprm.engines import LocalEngine

    return LocalEngine(folder, **{"threads": 1, "batch_size": 32, **options})


@pytest.fixture(scope="module")
def engine(tiny_model):
    made = local(tiny_model)
    yield made
    run_sync(made.aclose())


def mixed_requests(count: int) -> list[Request]:
    """Prompts of many lengths, several samples each, all kinds of parameters."""
    rng = random.Random(3)
    requests = []
    for number in range(count):
        text = "Step 1: 3 + 4 = 7. " * (1 + number % 7)
        params = SamplingParams(
            temperature=rng.choice([0.0, 0.7, 1.3]),
            top_p=rng.choice([1.0, 0.9]),
            top_k=rng.choice([0, 5]),
            max_tokens=rng.randint(1, 40),
            stop=rng.choice([(), ("7",), ("er", "```\n")]),
            seed=11,
            logprobs=rng.choice([0, 2]),
        )
        requests.append(Request(prompt=text + str(number % 5), params=params, sample=number))
    return requests


def outcome(completion: Completion):
    """All that must not depend on what else ran."""
    return completion.text, completion.finish_reason, completion.stop, completion.tokens


async def test_prompt_ids_are_those_of_the_whole_text(engine, tiny_model):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    request = Request(messages=CHAT, prefix="<analyze>\nLet's analyze")
    rendered = engine.render(request)
    assert rendered == "<s>[system] Judge.\n[user] 3 + 4 = 7\n[assistant] <analyze>\nLet's analyze"
    ids = engine.prompt_ids(rendered)
    assert ids == tokenizer(rendered, add_special_tokens=False)["input_ids"]
    assert ids.count(tokenizer.bos_token_id) == 1
    assert tokenizer.decode(ids) == rendered
    bare = engine.render(Request(messages=CHAT, prefix="<verify>", add_generation_prompt=False))
    assert bare == "<s>[system] Judge.\n[user] 3 + 4 = 7\n<verify>"


async def test_the_http_engines_template_renders_the_same(engine, tiny_model):
    from genprm.engines._http.templates import ChatTemplate

    template = ChatTemplate(tiny_model)
    for opens in (True, False):
        request = Request(messages=CHAT, add_generation_prompt=opens)
        assert template.render(CHAT, opens) == engine.render(request)


@pytest.mark.parametrize(("kv_heads", "together"), [(1, False), (2, False), (4, False), (2, True)])
async def test_greedy_decoding_equals_transformers_generate(tmp_path, make_model, kv_heads, together):
    """Ragged batches, shared prefixes and slots change nothing: the reference decodes rows one by one.

    `together` is how a GPU computes them: prompts padded to the longest, and all rows read as one group.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = make_model(tmp_path, kv_heads=kv_heads)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    prompts = ["Step 1", "<s>3 + 4 = 7 " * 9, "<analyze>\n" * 3, "Step 1", *["<s>The answer is 7"] * 9]
    params = SamplingParams(temperature=0.0, max_tokens=24, logprobs=1)
    engine = local(folder)
    engine._scheduler._runner._together = together
    completions = await engine.generate([Request(prompt=prompt, params=params) for prompt in prompts])
    await engine.aclose()
    for prompt, completion in zip(prompts, completions, strict=True):
        ids = tokenizer(prompt, add_special_tokens=False, return_tensors="pt")["input_ids"]
        with torch.inference_mode():
            whole = model.generate(
                ids, attention_mask=torch.ones_like(ids), max_new_tokens=24, do_sample=False, pad_token_id=0
            )
            expected = whole[0, ids.shape[1] :]
            logits = model(torch.cat([ids[0], expected])[None]).logits[0].log_softmax(-1)
        assert completion.text == tokenizer.decode(expected, skip_special_tokens=True)
        for at, token in enumerate(completion.tokens):
            reference = logits[ids.shape[1] - 1 + at, expected[at]].item()
            assert token.logprob == pytest.approx(reference, abs=1e-3)


@pytest.mark.parametrize("threads", [1, pytest.param(2, marks=pytest.mark.slow)])
async def test_deterministic_results_do_not_depend_on_company_or_order(tiny_model, threads):
    requests = mixed_requests(40)
    engine = local(tiny_model, deterministic=True, threads=threads)
    together = [outcome(completion) for completion in await engine.generate(requests)]
    order = list(range(len(requests)))
    random.Random(5).shuffle(order)
    apart: dict[int, object] = {}
    gate = asyncio.Semaphore(5)

    async def one(index: int) -> None:
        async with gate:
            apart[index] = outcome((await engine.generate([requests[index]]))[0])

    await asyncio.gather(*(one(index) for index in order))
    alone = outcome((await engine.generate([requests[17]]))[0])
    await engine.aclose()
    assert [apart[index] for index in range(len(requests))] == together
    assert alone == together[17]


async def test_deterministic_results_do_not_depend_on_what_is_remembered(tiny_model):
    """A continued request reuses states where rounding allows it, and gives what it gives without."""
    params = SamplingParams(temperature=1.0, max_tokens=40, seed=4, stop=("7",), logprobs=3)
    prompts = [f"Step {n}: {n} + 4 = {n + 4}. So the answer is " * (1 + n % 3) for n in range(12)]
    outcomes = []
    for megabytes in (256, 0):
        engine = local(tiny_model, deterministic=True, prefix_cache_mb=megabytes)
        first = await engine.generate([Request(prompt=text, params=params) for text in prompts])
        longer = [text + one.text + " and then " for text, one in zip(prompts, first, strict=True)]
        if not megabytes:
            random.Random(1).shuffle(longer)
        again = await engine.generate([Request(prompt=text, params=params) for text in longer])
        outcomes.append({text: outcome(one) for text, one in zip(longer, again, strict=True)})
        reused = sum(one.usage.cached_tokens for one in again)
        assert reused == 0 or megabytes
        await engine.aclose()
    assert outcomes[0] == outcomes[1]


async def test_the_fast_mode_gives_the_same_texts(tiny_model, engine):
    """Shared and reused prefixes are exact up to rounding: the same draws give the same texts."""
    requests = mixed_requests(40)
    requests += [Request(prompt=requests[3].prompt, params=requests[3].params, sample=n) for n in range(40)]
    exact = local(tiny_model, deterministic=True)
    expected = await exact.generate(requests)
    await exact.aclose()
    for _ in range(2):
        found = await engine.generate(requests)
        assert [one.text for one in found] == [one.text for one in expected]
        for one, other in zip(found, expected, strict=True):
            for token, reference in zip(one.tokens, other.tokens, strict=True):
                assert token.logprob == pytest.approx(reference.logprob, abs=1e-3)


async def test_samples_of_one_prompt_and_continuations_reuse_states(tiny_model):
    engine = local(tiny_model)
    prompt = "Step 1: 3 + 4 = 7. The answer is 7, so " * 3
    size = len(engine.prompt_ids(prompt))
    params = SamplingParams(temperature=1.0, max_tokens=12, seed=2)
    samples = await engine.generate([Request(prompt=prompt, params=params, sample=n) for n in range(20)])
    cached = sorted(completion.usage.cached_tokens for completion in samples)
    assert cached == [0] + [size - 1] * 19
    whole = next(one for one in samples if one.finish_reason == "length")
    longer = prompt + whole.text + "[Code Output]\n\n```\nTrue\n```\n"
    again = (await engine.generate([Request(prompt=longer, params=params)]))[0]
    assert again.usage.cached_tokens >= size - 1
    assert again.usage.prompt_tokens > size
    await engine.aclose()


async def test_more_requests_than_slots_and_a_growing_context(tiny_model):
    """Rows leave and enter at different times, capacity grows, rows are moved: texts stay those of a lone run."""
    requests = mixed_requests(30)
    small = local(tiny_model, batch_size=3)
    found = await small.generate(requests)
    await small.aclose()
    large = local(tiny_model, batch_size=64)
    expected = await large.generate(requests)
    await large.aclose()
    assert [one.text for one in found] == [one.text for one in expected]


async def test_a_stop_string_may_end_inside_a_token(engine):
    plain = SamplingParams(temperature=0.0, max_tokens=20, logprobs=1)
    whole = (await engine.generate([Request(messages=CHAT, params=plain)]))[0]
    token = next(one for one in whole.tokens if len(one.text) >= 2 and "\ufffd" not in one.text)
    stop = whole.text[: token.offset][-2:] + token.text[0]
    expected = whole.text[: whole.text.index(stop) + len(stop)]
    params = SamplingParams(temperature=0.0, max_tokens=20, logprobs=1, stop=(stop,))
    cut = (await engine.generate([Request(messages=CHAT, params=params)]))[0]
    assert (cut.text, cut.finish_reason, cut.stop) == (expected, "stop", stop)
    assert cut.tokens[-1].offset < len(cut.text)
    assert cut.tokens == whole.tokens[: len(cut.tokens)]


async def test_broken_requests_fail_alone_with_a_hint(engine):
    params = SamplingParams(max_tokens=4)
    long = Request(prompt="3 + 4 " * 400, params=params)
    budget = Request(prompt="3 + 4", params=SamplingParams(max_tokens=600))
    empty = Request(prompt="", params=params)
    none = Request(prompt="3", params=SamplingParams(max_tokens=0))
    fine = Request(prompt="3 + 4", params=params)
    found = await engine.generate([long, budget, empty, none, fine])
    assert [type(one.error) for one in found[:4]] == [
        ContextOverflow,
        ContextOverflow,
        EngineRequestError,
        EngineRequestError,
    ]
    assert all(one.error is not None and one.error.hint for one in found[:4])
    assert found[4].ok


async def test_a_cancelled_call_frees_its_rows(engine):
    params = SamplingParams(temperature=1.0, max_tokens=450, seed=1)
    task = asyncio.create_task(
        engine.generate([Request(prompt="3", params=params, sample=n) for n in range(64)])
    )
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    done = await asyncio.wait_for(
        engine.generate([Request(prompt="4", params=SamplingParams(max_tokens=3))]), 30
    )
    assert done[0].ok


async def test_a_failing_model_fails_its_requests_and_not_the_engine(tiny_model, monkeypatch):
    engine = local(tiny_model)
    request = Request(prompt="3 + 4", params=SamplingParams(max_tokens=3))
    runner = engine._scheduler._runner
    left = [2]
    decode = runner.decode

    def explode(*given: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise RuntimeError("out of memory")
        return decode(*given)

    with monkeypatch.context() as patch:
        patch.setattr(runner, "decode", explode)
        broken = (await engine.generate([request]))[0]
    assert isinstance(broken.error, EngineError)
    assert "out of memory" in broken.error.message
    assert (broken.usage.requests, broken.usage.completion_tokens) == (1, 2), "what it wrote until then"
    assert broken.usage.prompt_tokens > 0
    assert (await engine.generate([request]))[0].ok
    await engine.aclose()
    with pytest.raises(EngineUnavailable):
        await engine.generate([request])


async def test_requests_on_their_way_into_the_batch_fail_too_and_wait_for_nothing(tiny_model, monkeypatch):
    engine = local(tiny_model)
    requests = [Request(prompt=f"{n} + 4", params=SamplingParams(max_tokens=3)) for n in range(3)]

    def explode(*_: object) -> None:
        raise MemoryError("no room for a row")

    with monkeypatch.context() as patch:
        patch.setattr(engine._scheduler._rows, "occupy", explode)
        broken = await asyncio.wait_for(engine.generate(requests), 30)
    assert all(one.error is not None and "no room" in one.error.message for one in broken)
    assert all(one.ok for one in await engine.generate(requests))
    await engine.aclose()


def test_a_missing_model_is_named_and_nothing_is_downloaded(tmp_path):
    for model in (str(tmp_path / "nowhere"), "someone/no-such-model-here"):
        with pytest.raises(EngineError) as caught:
            local(model)
        assert model in caught.value.message
        assert caught.value.hint
    with pytest.raises(EngineError, match=r"no file model\.gguf"):
        local(tmp_path, gguf_file="model.gguf")


def test_a_missing_extra_is_named(tiny_model, monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "transformers":
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtraError) as caught:
        local(tiny_model)
    assert caught.value.hint == "pip install 'genprm[local]'"


def test_uniforms_are_uniform_and_depend_on_key_position_and_attempt():
    from genprm.engines._local.sampling import row_key, uniforms

    keys = np.array([row_key([1, 2], 0, n) for n in range(20_000)], np.uint64)
    found = uniforms(keys, np.zeros(20_000, np.int64), 0)
    assert found.min() >= 0
    assert found.max() < 1
    assert abs(found.mean() - 0.5) < 0.01
    assert abs(np.corrcoef(found, uniforms(keys, np.ones(20_000, np.int64), 0))[0, 1]) < 0.03
    assert abs(np.corrcoef(found, uniforms(keys, np.zeros(20_000, np.int64), 1))[0, 1]) < 0.03
    assert row_key([1, 2], 0, 0) != row_key([1, 3], 0, 0)


@pytest.mark.parametrize(("top_k", "top_p"), [(0, 1.0), (3, 1.0), (0, 0.6), (4, 0.5), (2, 0.05), (1, 1.0)])
def test_sampling_follows_the_truncated_distribution(top_k, top_p):
    """Frequencies of 40,000 draws against the distribution that top-k, then top-p leave."""
    from genprm.engines._local.sampling import RowParams, sample

    rows = 40_000
    logits = torch.log(torch.tensor([0.05, 0.3, 0.02, 0.25, 0.18, 0.1, 0.1])) * 0.8
    probs = (logits / 0.8).softmax(-1)
    order = probs.argsort(descending=True, stable=True)
    kept = probs[order].clone()
    if top_k:
        kept[top_k:] = 0
    kept[(kept.cumsum(0) - kept) >= top_p * kept.sum()] = 0
    expected = torch.zeros(7)
    expected[order] = kept / kept.sum()
    params = RowParams(
        np.full(rows, 0.8, np.float32),
        np.full(rows, top_k, np.int64),
        np.full(rows, top_p, np.float32),
        np.random.default_rng(1).integers(0, 2**63, rows).astype(np.uint64),
        np.zeros(rows, np.int64),
    )
    drawn = sample(logits.expand(rows, 7).contiguous(), params)
    found = torch.bincount(drawn, minlength=7) / rows
    assert torch.allclose(found, expected, atol=0.012)
    assert set(found.nonzero().flatten().tolist()) <= set(expected.nonzero().flatten().tolist())


@pytest.mark.parametrize(("threads", "used"), [(None, 1), (2, 2)])
def test_a_tiny_model_runs_in_one_thread_unless_told_otherwise(
    tiny_model: str, threads: int | None, used: int
) -> None:
    with local(tiny_model, device="cpu", threads=threads) as engine:
        assert engine.describe()["threads"] == used


async def test_new_weights_are_those_of_a_model_that_was_saved_with_them(tiny_model, tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
    model.save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(tmp_path)
    # The second continues the first, so that states are kept that must not outlive the weights.
    params = SamplingParams(max_tokens=12, temperature=0.0, logprobs=2)
    requests = [Request(prompt="Step 1: 3 + 4 = 7. " * count, params=params) for count in (3, 4)]
    changed, fresh = local(tiny_model, deterministic=True), local(tmp_path, deterministic=True)
    try:
        before = [outcome(one) for request in requests for one in await changed.generate([request])]
        weights = dict(model.named_parameters())
        changed.take_weights(weights)
        after = [outcome(one) for request in requests for one in await changed.generate([request])]
        expected = [outcome(one) for request in requests for one in await fresh.generate([request])]
        assert after == expected != before
        name = next(iter(weights))
        with pytest.raises(EngineRequestError, match="do not fit the model"):
            changed.take_weights({**weights, name: weights[name][:1]})
        busy = asyncio.create_task(
            changed.generate([Request(prompt="3", params=SamplingParams(max_tokens=200))])
        )
        await asyncio.sleep(0)  # the request is queued
        with pytest.raises(EngineRequestError, match="in flight"):
            changed.take_weights(weights)
        await busy
    finally:
        await changed.aclose()
        await fresh.aclose()
