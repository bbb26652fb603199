"""The released GenPRM checkpoints are asked byte for byte as they were trained, and shown outputs as they saw them."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from genprm.config import RunConfig, SandboxConfig, VerifyConfig
from genprm.engines._http.templates import ChatTemplate
from genprm.engines.base import Request
from genprm.engines.scripted import Scripted, ScriptedEngine
from genprm.records import Verification
from genprm.rewards import Verifier, VerifyItem, judge_all
from genprm.runs.resources import Resources
from genprm.sandbox import IsolatedSandbox, Limits, Sandbox
from genprm.text.prompts import VerifierProfile, load_profile

# The shape of the checkpoints' own template: the system turn stands bare, an answer ends with one mark.
TEMPLATE = ChatTemplate.from_text(
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'system' %}{{ m['content'] }}"
    "{% elif m['role'] == 'user' %}<｜User｜>{{ m['content'] }}"
    "{% else %}<｜Assistant｜>{{ m['content'] }}<｜end▁of▁sentence｜>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<｜Assistant｜>{% endif %}",
    {"bos_token": "<｜begin▁of▁sentence｜>"},
)
ITEM = VerifyItem(
    id="one",
    problem="What is 2 + 3 + 4?",
    steps=("Step 1: 2 + 3 = 5", "Step 2: 5 + 4 = 9", "Step 3: So the answer is 9."),
)
SYSTEM = (
    "You are a math teacher. Your task is to review and critique the paragraphs in solution step by step."
)
LEAD = "<analyze>\nLet's analyze the Paragraph {} step by step: "
CHECK = "<verify>\nLet's use python code to find any potential error:\n```python\n"

# What the model writes, request by request, for each step.
WRITTEN = (
    (
        " The sum is right.\n\n</analyze>\n",
        "total = 2 + 3\nprint(total)\n```\n",
        "The code agrees.\n</verify>\n<output>\n**Judgement**: $\\boxed{Yes}$\n</output>\n",
    ),
    (
        "5 + 4 is 9.\n</analyze>\n",
        "assert total + 4 == 8\n```\n",
        "The check was wrong.\n```python\nassert total + 4 == 9\n```\n",
        "It holds.\n</verify>\n<output>\n**Judgement**: $\\boxed{Yes}$\n</output>\n",
    ),
    (
        "It states what was found.\n</analyze>\n",
        "There is nothing to compute.\n</verify>\n<output>\n**Judgement**: $\\boxed{No}$\n</output>\n",
    ),
)
TURNS = (
    f"{LEAD.format(1)} The sum is right.\n\n</analyze>\n{CHECK}"
    "total = 2 + 3\nprint(total)\n```\n[Code Output]\n\n```\n5\n```\n"
    "The code agrees.\n</verify>\n<output>\n**Judgement**: $\\boxed{Yes}$\n</output>\n",
    f"{LEAD.format(2)}5 + 4 is 9.\n</analyze>\n{CHECK}"
    "assert total + 4 == 8\n```\n[Code Output]\n\n```\nCode execute Error: AssertionError: \n```\n"
    "The check was wrong.\n```python\nassert total + 4 == 9\n```\n[Code Output]\n\n```\n\n```\n"
    "It holds.\n</verify>\n<output>\n**Judgement**: $\\boxed{Yes}$\n</output>\n",
    f"{LEAD.format(3)}It states what was found.\n</analyze>\n{CHECK}"
    "There is nothing to compute.\n</verify>\n<output>\n**Judgement**: $\\boxed{No}$\n</output>\n",
)
FORMS = {
    "genprm": ("Question: What is 2 + 3 + 4?\n\n2 + 3 = 5", "<｜Assistant｜>"),
    "genprm-no-header": ("Question: What is 2 + 3 + 4?\n\n2 + 3 = 5", ""),
    "genprm-eval": ("What is 2 + 3 + 4?\n2 + 3 = 5", "<｜Assistant｜>"),
    "genprm-eval-no-header": ("What is 2 + 3 + 4?\n2 + 3 = 5", ""),
}


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with IsolatedSandbox(tier="plain", workers=1) as box:
        yield box


def prompts_of(requests: list[Request]) -> list[str]:
    return [
        TEMPLATE.render(request.messages, request.add_generation_prompt) + request.prefix
        for request in requests
    ]


@pytest.mark.parametrize("name", FORMS)
async def test_three_steps_with_code_an_error_two_rounds_and_no_code(sandbox: Sandbox, name: str) -> None:
    requests: list[Request] = []

    def respond(request: Request) -> Scripted:
        step = sum(message.role == "assistant" for message in request.messages)
        place = sum(done.messages == request.messages for done in requests)
        requests.append(request)
        text = WRITTEN[step][place]
        return Scripted(text, (0.9,) if "boxed" in text else ())

    config = VerifyConfig(profile=name)
    (row,) = await judge_all(Verifier(ScriptedEngine(respond), sandbox, config), [ITEM])

    first, header = FORMS[name]
    end = "<｜end▁of▁sentence｜>"
    opened = f"<｜begin▁of▁sentence｜>{SYSTEM}<｜User｜>{first}"
    second = f"{opened}<｜Assistant｜>{TURNS[0]}{end}<｜User｜>5 + 4 = 9"
    third = f"{second}<｜Assistant｜>{TURNS[1]}{end}<｜User｜>So the answer is 9."
    shown = prompts_of(requests)
    assert shown[0] == f"{opened}{header}{LEAD.format(1)}"
    assert shown[2] == opened + header + TURNS[0][: TURNS[0].index("The code agrees.")]
    assert shown[3] == f"{second}{header}{LEAD.format(2)}"
    assert shown[5] == second + header + TURNS[1][: TURNS[1].index("The check was wrong.")]
    assert shown[6] == second + header + TURNS[1][: TURNS[1].index("It holds.")]
    assert shown[7] == f"{third}{header}{LEAD.format(3)}"
    assert shown[8] == third + header + TURNS[2][: TURNS[2].index("There is nothing")]
    assert len(shown) == 9
    stops = [request.params.stop for request in requests]
    assert stops[0] == ("</analyze>\n",)
    assert set(stops[1]) == {"\n```\n", "</output>\n"}

    votes = [verdict.votes[0] for verdict in row.verdicts]
    assert [vote.rationale.text if vote.rationale else None for vote in votes] == list(TURNS)
    assert [vote.judgement for vote in votes] == [True, True, False]
    analyses = [vote.rationale.analysis if vote.rationale else None for vote in votes]
    assert analyses == ["The sum is right.", "5 + 4 is 9.", "It states what was found."], "without the lead"
    assert not any(vote.forced for vote in votes), "a judgement that was written without code counts"


async def verify(respond: ScriptedEngine, sandbox: Sandbox, **options: object) -> Verification:
    config = VerifyConfig.model_validate({"profile": "genprm", **options})
    item = ITEM.model_copy(update={"steps": ITEM.steps[:1]})
    (row,) = await judge_all(
        Verifier(respond, sandbox, config, limits=Limits(soft_seconds=0.5, hard_seconds=2.0)), [item]
    )
    return row


@pytest.mark.parametrize(
    ("code", "output"),
    [
        (
            "print('open)",
            "Code execute Error: SyntaxError: unterminated string literal (detected at line 1) (<string>, line 1)",
        ),
        ("assert 1 == 2", "Code execute Error: AssertionError: "),
        ("raise ValueError('  no  ')", "Code execute Error: ValueError:   no  "),
        ("x", "Code execute Error: NameError: name 'x' is not defined"),
        ("print('seen')\n1 / 0", "Code execute Error: ZeroDivisionError: division by zero"),
        ("while True: pass", "Code execute time out: Code execution timed out"),
        ("print('  two lines\\n\\n')", "two lines"),
        ("6 * 7", ""),
        ("input()", "Code execute Error: EOFError: EOF when reading a line"),
    ],
)
async def test_outputs_are_shown_in_the_words_that_the_checkpoints_saw(
    sandbox: Sandbox, code: str, output: str
) -> None:
    seen: list[str] = []

    def respond(request: Request) -> Scripted:
        if request.prefix.endswith("step by step: "):
            return Scripted("So.\n</analyze>\n")
        if request.prefix.endswith("```python\n"):
            return Scripted(f"{code}\n```\n")
        seen.append(request.prefix)
        return Scripted("</verify>\n<output>\n**Judgement**: $\\boxed{No}$\n</output>\n", (0.1,))

    await verify(ScriptedEngine(respond), sandbox)
    assert seen[0].endswith(f"{code}\n```\n[Code Output]\n\n```\n{output}\n```\n")


async def test_an_opened_fence_without_code_and_a_judgement_is_taken_as_it_is(sandbox: Sandbox) -> None:
    """Seen in the released 7B checkpoint: prose in the fence that it was given, and no closing fence."""

    def respond(request: Request) -> Scripted:
        if request.prefix.endswith("step by step: "):
            return Scripted("Fine.\n</analyze>\n")
        return Scripted(
            "The code confirms it.\n</verify>\n<output>\n**Judgement**: $\\boxed{Yes}$\n</output>\n", (0.8,)
        )

    row = await verify(ScriptedEngine(respond), sandbox)
    (vote,) = row.verdicts[0].votes
    assert (vote.judgement, vote.reward, vote.forced) == (True, pytest.approx(0.8), False)
    assert vote.rationale is not None and vote.rationale.rounds == ()
    assert vote.rationale.text == (
        f"{LEAD.format(1)}Fine.\n</analyze>\n{CHECK}The code confirms it.\n</verify>\n"
        "<output>\n**Judgement**: $\\boxed{Yes}$\n</output>\n"
    )


async def test_a_judgement_quoted_in_code_that_was_cut_does_not_count(sandbox: Sandbox) -> None:
    def respond(request: Request) -> Scripted:
        if request.prefix.endswith("step by step: "):
            return Scripted("Fine.\n</analyze>\n")
        if request.prefix.endswith("$\\boxed"):
            return Scripted("{No}$\n</output>\n", (0.3,))
        return Scripted("print('<output> \\boxed{Yes}') " + "x " * 400, (0.9,))

    row = await verify(ScriptedEngine(respond), sandbox, max_tokens=100)
    (vote,) = row.verdicts[0].votes
    assert (vote.judgement, vote.reward, vote.forced) == (False, pytest.approx(0.3), True)


async def test_the_direct_form_has_its_own_system_turn() -> None:
    requests: list[Request] = []

    def respond(request: Request) -> Scripted:
        requests.append(request)
        return Scripted("{Yes}$\n</output>\n", (0.7,))

    config = VerifyConfig(profile="genprm", components="direct")
    await judge_all(Verifier(ScriptedEngine(respond), None, config), [ITEM])
    system = (
        "You are a math teacher. Your task is to review and critique the paragraphs in solution directly. Output your "
        "judgement in the format of `\\boxed{Yes}` if the paragraph is correct, or `\\boxed{No}` if the paragraph is "
        "incorrect."
    )
    assert {request.messages[0].content for request in requests} == {system}
    assert prompts_of(requests)[1] == (
        f"<｜begin▁of▁sentence｜>{system}<｜User｜>Question: What is 2 + 3 + 4?\n\n2 + 3 = 5<｜Assistant｜>"
        "<output>\n**Judgement**: $\\boxed{Yes}$\n</output>\n<｜end▁of▁sentence｜><｜User｜>5 + 4 = 9<｜Assistant｜>"
        "<output>\n**Judgement**: $\\boxed"
    )


async def test_code_without_an_analysis_is_asked_for_at_once(sandbox: Sandbox) -> None:
    requests: list[Request] = []

    def respond(request: Request) -> Scripted:
        requests.append(request)
        if request.prefix == CHECK:
            return Scripted("print(2 + 3 == 5)\n```\n")
        return Scripted("</verify>\n<output>\n**Judgement**: $\\boxed{Yes}$\n</output>\n", (0.9,))

    for components, output in (("code+execution", "[Code Output]\n\n```\nTrue\n```\n"), ("code", "")):
        requests.clear()
        row = await verify(ScriptedEngine(respond), sandbox, components=components)
        assert [request.prefix for request in requests] == [
            CHECK,
            f"{CHECK}print(2 + 3 == 5)\n```\n{output}",
        ]
        (vote,) = row.verdicts[0].votes
        assert (vote.judgement, vote.forced) == (True, False)
        assert vote.rationale is not None and vote.rationale.analysis == ""


async def test_code_for_the_checkpoints_may_import_scipy_unless_the_config_says_otherwise() -> None:
    pytest.importorskip("scipy")
    assert load_profile("genprm", VerifierProfile).sandbox_tier == "scipy"
    async with Verifier(ScriptedEngine(lambda _: ""), None, VerifyConfig(profile="genprm")) as verifier:
        assert verifier._own_sandbox is not None
        assert verifier._own_sandbox.tier == "scipy"  # type: ignore[attr-defined]
    for config, tier in ((RunConfig(), "scipy"), (RunConfig(sandbox=SandboxConfig(tier="plain")), "plain")):
        async with Resources(config) as resources:
            made = await resources.sandbox(load_profile("genprm", VerifierProfile).sandbox_tier)
            assert made.tier == tier  # type: ignore[attr-defined]
            assert await resources.sandbox() is (
                made if tier == "plain" else await resources.sandbox("numpy")
            )
