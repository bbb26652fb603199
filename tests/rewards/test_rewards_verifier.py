"""The verifier: one verdict per step whatever the model does, and rewards that nothing but the seed moves."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import pytest

from genprm.aio import derive_seed
from genprm.config import SandboxConfig, VerifyConfig
from genprm.engines.base import Completion, Request, TokenLogprob
from genprm.engines.scripted import Scripted, ScriptedEngine
from genprm.errors import ConfigError, EngineRequestError, EngineTimeout, EngineUnavailable
from genprm.identity import costs_of
from genprm.records import CodeStatus, Usage, Verification, VoteStatus
from genprm.rewards import Verifier, VerifyItem, first_error_of_path, judge_all
from genprm.sandbox import IsolatedSandbox, Sandbox
from genprm.text.prompts import VerifierProfile, load_profile

ITEM = VerifyItem(id="one", problem="What is 2 + 3 + 4?", steps=("Step 1: 2 + 3 = 5", "Step 2: 5 + 4 = 8"))
Respond = Callable[[Request], Any]


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with IsolatedSandbox(tier="plain", workers=1) as box:
        yield box


def claim_of(request: Request) -> str:
    """The equation of the step under review."""
    return request.messages[-1].content.rsplit("\n", 1)[-1].rsplit(": ", 1)[-1]


def reviewer(request: Request) -> str | Scripted:
    """A model that checks the step's equation by code and believes the output."""
    claim, prefix = claim_of(request).replace(" = ", " == "), request.prefix
    last = prefix.rsplit("[Code Output]", 1)[-1] if "[Code Output]" in prefix else ""
    if prefix.endswith("\\boxed{"):
        return "Yes}$"
    if prefix.endswith("\\boxed"):
        return Scripted("{Yes}$", (0.6,))
    if last:
        word, p = ("Yes", 0.9) if "\nTrue\n" in last else ("No", 0.2)
        return Scripted(
            f"Fine.\n</verify>\n<output>\n**Judgement**: $\\boxed{{{word}}}$\n</output>\n", (p,)
        )
    if prefix.endswith("```python\n"):
        return f"print({claim})\n```\n"
    return f"Let us see whether {claim}.\n</analyze>\n"


async def verify(
    respond: Respond, sandbox: Sandbox | None, item: VerifyItem = ITEM, **options: Any
) -> Verification:
    config = VerifyConfig.model_validate({"profile": "compact", **options})
    (result,) = await judge_all(Verifier(ScriptedEngine(respond), sandbox, config), [item])
    return result


async def test_a_solution_is_judged_by_analysis_code_and_output(sandbox: Sandbox) -> None:
    result = await verify(reviewer, sandbox, votes=2)
    assert [v.reward for v in result.verdicts] == pytest.approx([0.9, 0.2])
    assert [v.judgement for v in result.verdicts] == [True, False]
    assert result.first_error == 1
    assert result.score.last == pytest.approx(0.2) and result.score.mean == pytest.approx(0.55)
    assert result.verifier == "scripted:function"
    vote = result.verdicts[1].votes[0]
    assert vote.rationale is not None
    assert vote.rationale.text == (
        "<analyze>\nLet us see whether 5 + 4 == 8.\n</analyze>\n<verify>\n```python\nprint(5 + 4 == 8)\n```\n"
        "[Code Output]\n\n```\nFalse\n```\nFine.\n</verify>\n<output>\n**Judgement**: $\\boxed{No}$\n</output>"
    )
    assert vote.rationale.rounds[0].status is CodeStatus.OK
    assert vote.bound == "exact" and not vote.forced
    assert result.usage.requests == sum(v.usage.requests for s in result.verdicts for v in s.votes) == 12
    assert result.usage.completion_tokens > 0 and result.usage.code_seconds > 0


@pytest.mark.parametrize(
    ("components", "requests", "reward"),
    [("direct", 1, 1.0), ("cot", 2, 1.0), ("cot+code", 3, 0.2), ("cot+code+execution", 3, 0.9)],
)
async def test_components(sandbox: Sandbox, components: str, requests: int, reward: float) -> None:
    def respond(request: Request) -> Any:
        if components == "cot+code" and "```python\nprint" in request.prefix:
            assert "[Code Output]" not in request.prefix
            return Scripted("</verify>\n<output>\n**Judgement**: $\\boxed{No}$\n</output>", (0.2,))
        return reviewer(request)

    item = ITEM.model_copy(update={"steps": ITEM.steps[:1]})
    box = sandbox if components == "cot+code+execution" else None
    result = await verify(respond, box, item, components=components)
    (vote,) = result.verdicts[0].votes
    assert vote.usage.requests == requests
    assert vote.reward == pytest.approx(reward)
    assert not vote.forced
    assert vote.rationale is not None
    assert ("<analyze>" in vote.rationale.text) is (components != "direct")
    assert ("<verify>" in vote.rationale.text) is ("code" in components)
    assert vote.rationale.text.endswith("$\n</output>")


async def test_a_profile_without_header_is_continued_without_a_generation_prompt(sandbox: Sandbox) -> None:
    seen: list[Request] = []

    def respond(request: Request) -> Any:
        seen.append(request)
        return reviewer(request)

    result = await verify(respond, sandbox, profile="genprm-no-header")
    assert [v.judgement for v in result.verdicts] == [True, False]
    assert all(not request.add_generation_prompt for request in seen)
    assert seen[0].prefix == "<analyze>\nLet's analyze the Paragraph 1 step by step: "
    assert seen[0].params.stop == ("</analyze>\n",)
    assert seen[1].prefix.endswith(
        "</analyze>\n<verify>\nLet's use python code to find any potential error:\n```python\n"
    )
    assert seen[1].params.stop == seen[2].params.stop == ("\n```\n", "</output>\n")
    assert seen[2].prefix.endswith("\n```\n[Code Output]\n\n```\nTrue\n```\n")
    second = seen[3].messages
    assert [m.role for m in second] == ["system", "user", "assistant", "user"]
    assert second[2].content.endswith("**Judgement**: $\\boxed{Yes}$\n</output>\n")
    assert second[3].content == ITEM.steps[1].removeprefix("Step 2: ")


async def test_each_path_has_its_own_history_and_interpreter(sandbox: Sandbox) -> None:
    def respond(request: Request) -> Any:
        if request.prefix.endswith("```python\n"):
            return f"try:\n    print(mine)\nexcept NameError:\n    mine = {request.sample}\n    print('new')\n```\n"
        if request.prefix == "<analyze>\n":
            return f"Path {request.sample}.\n</analyze>\n"
        return Scripted("</verify>\n<output>\n$\\boxed{Yes}$\n</output>", (0.8,))

    result = await verify(respond, sandbox, votes=3)
    for path in range(3):
        first, second = (verdict.votes[path].rationale for verdict in result.verdicts)
        assert first is not None and second is not None
        assert first.rounds[0].output == "new"
        assert second.rounds[0].output == str(path)
        assert second.analysis == f"Path {path}."


def noisy(request: Request) -> Scripted | str:
    """A model whose words depend on the request's seed alone."""
    rng = random.Random(derive_seed(request.params.seed or 0, str(request.sample)))
    prefix = request.prefix
    if prefix.endswith("```python\n"):
        return f"print({rng.randint(1, 9)})\n```\n"
    if prefix == "<analyze>\n":
        return f"{rng.random()}\n</analyze>\n"
    if prefix.endswith("\\boxed{"):
        return "No}"
    if rng.random() < 0.3:
        return f"Again\n```python\nprint({rng.randint(1, 9)})\n```\n"
    word = rng.choice(["Yes", "No", "Maybe"])
    return Scripted(f"</verify>\n<output>\n$\\boxed{{{word}}}$\n</output>", (rng.uniform(0.1, 0.9),))


def essence(result: Verification) -> dict[str, Any]:
    """What a verification says, whatever it cost."""
    return result.model_dump(exclude=costs_of(Verification))


async def test_results_do_not_depend_on_concurrency_or_company(sandbox: Sandbox) -> None:
    items = [ITEM.model_copy(update={"id": f"item{i}"}) for i in range(5)]

    async def delayed(request: Request) -> Scripted | str:
        await asyncio.sleep(random.random() * 0.003)
        return noisy(request)

    config = VerifyConfig(profile="compact", votes=3, max_rounds=2)
    runs = []
    for concurrency in (1, 3, 64):
        verifier = Verifier(ScriptedEngine(delayed), sandbox, config, seed=5, concurrency=concurrency)
        runs.append([essence(r) for r in await judge_all(verifier, items)])
    assert runs[0] == runs[1] == runs[2]
    assert [r["item_id"] for r in runs[0]] == [item.id for item in items]
    alone = Verifier(ScriptedEngine(noisy), sandbox, config, seed=5)
    assert essence((await judge_all(alone, items[3:4]))[0]) == runs[0][3]
    other = Verifier(ScriptedEngine(noisy), sandbox, config, seed=6)
    assert essence((await judge_all(other, items[3:4]))[0]) != runs[0][3]
    fewer = Verifier(ScriptedEngine(noisy), sandbox, config.model_copy(update={"votes": 2}), seed=5)
    (two,) = await judge_all(fewer, items[3:4])
    assert essence(two)["verdicts"][0]["votes"] == runs[0][3]["verdicts"][0]["votes"][:2]


async def test_rounds_used_up_degrade_to_a_forced_judgement(sandbox: Sandbox) -> None:
    def respond(request: Request) -> str:
        if request.prefix == "<analyze>\n":
            return "A.\n</analyze>\n"
        return "Yes}$" if request.prefix.endswith("\\boxed{") else "```python\nprint(1)\n```\n"

    result = await verify(respond, sandbox, max_rounds=2)
    (vote,) = result.verdicts[0].votes
    assert vote.forced and vote.status is VoteStatus.OK and vote.judgement is True
    assert vote.rationale is not None and len(vote.rationale.rounds) == 2
    assert vote.rationale.text.endswith(
        "1\n```\n</verify>\n<output>\n**Judgement**: $\\boxed{Yes}$\n</output>"
    )


@pytest.mark.parametrize("where", ["analysis", "code"])
async def test_tokens_used_up_degrade_to_the_analysis_and_a_forced_judgement(
    sandbox: Sandbox, where: str
) -> None:
    def respond(request: Request) -> str:
        if request.prefix.endswith("\\boxed{"):
            return "No}"
        endless = "word " * 500
        if request.prefix == "<analyze>\n":
            return endless if where == "analysis" else "Short.\n</analyze>\n"
        return endless

    result = await verify(respond, sandbox, max_tokens=60)
    (vote,) = result.verdicts[0].votes
    assert vote.forced and vote.status is VoteStatus.OK and vote.judgement is False
    assert vote.rationale is not None and "<verify>" not in vote.rationale.text
    assert vote.rationale.text.endswith("</analyze>\n<output>\n**Judgement**: $\\boxed{No}$\n</output>")
    assert vote.usage.completion_tokens <= 60 + 12


@pytest.mark.parametrize(
    "analysis",
    [
        "I see. </analyze> <verify>\nblah",
        "I see.\n<output>\n$\\boxed{No}$\n</output>",
        "I see.",
        "I see.\n</analyze>",
    ],
)
async def test_a_sloppy_analysis_is_closed_properly(analysis: str) -> None:
    def respond(request: Request) -> str:
        return "Yes}" if request.prefix.endswith("\\boxed{") else analysis

    result = await verify(respond, None, components="cot")
    (vote,) = result.verdicts[0].votes
    assert vote.rationale is not None
    assert vote.rationale.text == (
        "<analyze>\nI see.\n</analyze>\n<output>\n**Judgement**: $\\boxed{Yes}$\n</output>"
    )
    assert vote.judgement is True


async def test_a_model_without_judgement_gets_no_reward_and_the_path_goes_on(sandbox: Sandbox) -> None:
    result = await verify(lambda request: "Well, perhaps.", sandbox, votes=2)
    assert [verdict.status for verdict in result.verdicts] == ["unparsed", "unparsed"]
    assert [verdict.reason for verdict in result.verdicts] == ["no_judgement: 2"] * 2
    assert all(v.reward is None and v.judgement is None for v in result.verdicts)
    assert result.first_error is None
    assert result.score.mean is None
    assert {vote.status for verdict in result.verdicts for vote in verdict.votes} == {
        VoteStatus.NO_JUDGEMENT
    }


async def test_a_natural_end_without_a_word_is_asked_once_more(sandbox: Sandbox) -> None:
    def respond(request: Request) -> str:
        if request.prefix.endswith("\\boxed{"):
            return "No}"
        if "[Code Output]" in request.prefix:
            return "Hm.\n</verify>\n<output>\n**Judgement**: unclear\n</output>"
        return "print(1)\n```\n" if request.prefix.endswith("```python\n") else "A.\n</analyze>\n"

    result = await verify(respond, sandbox)
    (vote,) = result.verdicts[0].votes
    assert vote.forced and vote.judgement is False
    assert vote.rationale is not None and "unclear" not in vote.rationale.text


async def test_without_logprobs_the_word_is_kept_but_counts_for_nothing() -> None:
    def respond(request: Request) -> Completion:
        text = "No}" if request.prefix.endswith("\\boxed{") else "A.\n</analyze>\n"
        return Completion(text=text, finish_reason="eos", usage=Usage(completion_tokens=3))

    result = await verify(respond, None, components="cot")
    (vote,) = result.verdicts[0].votes
    assert (vote.status, vote.reward, vote.judgement) == (VoteStatus.NO_LOGPROBS, None, False)
    assert result.verdicts[0].status == "unparsed"
    assert result.first_error is None


async def test_a_failing_engine_loses_the_path_but_no_verdict(sandbox: Sandbox) -> None:
    def respond(request: Request) -> Any:
        if request.sample == 1 and len(request.messages) > 2:
            raise EngineTimeout("too slow")
        return reviewer(request)

    item = ITEM.model_copy(update={"steps": (*ITEM.steps, "Step 3: 1 + 1 = 2")})
    result = await verify(respond, sandbox, item, votes=2)
    statuses = [[vote.status.value for vote in verdict.votes] for verdict in result.verdicts]
    assert statuses == [["ok", "ok"], ["ok", "engine_failed"], ["ok", "not_reached"]]
    failed, unreached = result.verdicts[1].votes[1], result.verdicts[2].votes[1]
    assert failed.reason == "EngineTimeout: too slow" and failed.retryable
    assert unreached.reason == "the path was lost at step 2: engine_failed" and unreached.retryable
    assert not any(verdict.votes[0].retryable for verdict in result.verdicts)
    assert [verdict.reward for verdict in result.verdicts] == pytest.approx([0.9, 0.2, 0.9])

    def dead(request: Request) -> Any:
        raise EngineUnavailable("no route")

    result = await verify(dead, sandbox, item, votes=2)
    assert [verdict.status for verdict in result.verdicts] == ["failed"] * 3
    assert result.first_error is None

    def refused(request: Request) -> Any:
        raise EngineRequestError("no such model")

    result = await verify(refused, sandbox, item)
    assert not any(vote.retryable for verdict in result.verdicts for vote in verdict.votes)


async def test_stop_at_first_error_skips_the_rest(sandbox: Sandbox) -> None:
    item = ITEM.model_copy(update={"steps": (*ITEM.steps, "Step 3: 1 + 1 = 2", "Step 4: 2 + 1 = 3")})
    full = await verify(reviewer, sandbox, item, votes=2)
    short = await verify(reviewer, sandbox, item, votes=2, stop_at_first_error=True)
    assert [v.status for v in short.verdicts] == ["ok", "ok", "skipped", "skipped"]
    assert short.first_error == full.first_error == 1
    assert [v.reward for v in short.verdicts[:2]] == [v.reward for v in full.verdicts[:2]]
    assert short.usage.requests == full.usage.requests / 2
    assert short.score.mean is None
    right = item.model_copy(update={"steps": item.steps[2:]})
    assert (await verify(reviewer, sandbox, right, stop_at_first_error=True)).first_error == -1


async def test_stopping_once_every_path_has_its_error_loses_no_first_error() -> None:
    def respond(request: Request) -> Scripted:
        chance = random.Random(f"{request.params.seed} {len(request.messages)}").random()
        return Scripted("Yes}$" if chance >= 0.4 else "No}$", (chance,))

    items = [VerifyItem(id=str(i), problem="p", steps=("a", "b", "c", "d", "e")) for i in range(60)]
    rows = {}
    for stop in (False, True):
        options = {"votes": 3, "stop_at_first_error": stop, "every_path_to_its_error": stop}
        config = VerifyConfig.model_validate({"profile": "compact", "components": "direct", **options})
        rows[stop] = await judge_all(Verifier(ScriptedEngine(respond), None, config), items)
    for full, short in zip(rows[False], rows[True], strict=True):
        assert short.first_error == full.first_error
        for path in range(3):
            assert first_error_of_path(short, path) == first_error_of_path(full, path)
    verdicts = [verdict for row in rows[True] for verdict in row.verdicts]
    assert any(verdict.status == "skipped" for verdict in verdicts)


async def test_a_bug_in_an_engine_raises_as_it_is() -> None:
    def respond(request: Request) -> str:
        raise ZeroDivisionError("bug")

    with pytest.raises(ZeroDivisionError):
        await verify(respond, None, components="direct", votes=3)


def test_arguments_must_fit() -> None:
    engine = ScriptedEngine(lambda request: "")
    with pytest.raises(ConfigError, match="verifier profile"):
        Verifier(engine, None, VerifyConfig(profile="teacher", components="cot"))
    with pytest.raises(ConfigError, match="concurrency"):
        Verifier(engine, None, VerifyConfig(profile="compact", components="cot"), concurrency=0)
    with pytest.raises(ConfigError, match="sandbox_options"):
        Verifier(engine, IsolatedSandbox(), VerifyConfig(), sandbox_options=SandboxConfig())
    profile = load_profile("compact", VerifierProfile)
    Verifier(engine, None, VerifyConfig(profile="nonsense", components="cot"), profile=profile)


async def test_the_reward_comes_from_the_probabilities_not_from_the_word() -> None:
    def respond(request: Request) -> Completion:
        tokens = (TokenLogprob("Yes", math.log(0.2), 0, (("No", math.log(0.6)), ("Yes", math.log(0.2)))),)
        return Completion(
            text="Yes}", finish_reason="stop", tokens=tokens, usage=Usage(completion_tokens=2)
        )

    result = await verify(respond, None, components="direct")
    (vote,) = result.verdicts[0].votes
    assert vote.judgement is True and vote.reward == pytest.approx(0.25)
    assert result.verdicts[0].judgement is False


async def test_a_judgement_whose_log_probabilities_were_left_out_is_asked_for_again(
    sandbox: Sandbox,
) -> None:
    """As llama.cpp does for the tokens of a stop string; one more token, and the reward is the model's own."""
    asked: list[Request] = []

    async def respond(request: Request) -> Any:
        if request.params.max_tokens == 1:
            asked.append(request)
            return Completion(
                text="No",
                tokens=(
                    TokenLogprob("No", math.log(0.2), 0, (("Yes", math.log(0.8)), ("No", math.log(0.2)))),
                ),
            )
        (whole,) = await ScriptedEngine(reviewer).generate([request])
        cut = whole.text.find("\\boxed{")
        return replace(whole, tokens=tuple(t for t in whole.tokens if cut < 0 or t.offset < cut))

    result = await verify(respond, sandbox)
    assert [v.reward for v in result.verdicts] == pytest.approx([0.8, 0.8])
    assert [v.votes[0].judgement for v in result.verdicts] == [True, False], (
        "the word stays what was written"
    )
    assert all(request.prefix.endswith("\\boxed{") and not request.params.stop for request in asked)
    assert len(asked) == 2


@pytest.mark.parametrize("components", ["cot", "cot+code+execution", "direct"])
async def test_a_path_asks_with_the_chat_of_its_profile(sandbox: Sandbox, components: Any) -> None:
    asked: list[Request] = []

    def respond(request: Request) -> Any:
        asked.append(request)
        return reviewer(request)

    row = await verify(respond, sandbox, votes=1, components=components)
    profile = load_profile("compact", VerifierProfile)
    texts = [vote.rationale.text for verdict in row.verdicts for vote in verdict.votes if vote.rationale]
    assert len(texts) == len(ITEM.steps)
    chats = [
        profile.messages(ITEM.problem, ITEM.steps, index, texts[:index], components=components)
        for index in range(len(ITEM.steps))
    ]
    assert list(dict.fromkeys(request.messages for request in asked)) == chats
