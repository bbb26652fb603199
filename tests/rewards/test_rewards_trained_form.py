"""What verifiers are trained to write is exactly what they are asked to write, in every profile and form."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import get_args

import pytest

from genprm.config import Components, VerifyConfig
from genprm.engines.base import Request
from genprm.engines.scripted import ScriptedEngine
from genprm.rewards import Verifier, VerifyItem, judge_all
from genprm.sandbox import IsolatedSandbox, Sandbox
from genprm.text.prompts import VerifierProfile, load_profile
from genprm.text.transcript import Segment, Turn, render_turn

ONE_ROUND = Turn(
    "It adds up.",
    (Segment("code", "print(2 + 3 == 5)"), Segment("output", "True"), Segment("prose", "The code agrees.")),
    True,
)
TWO_ROUNDS = Turn(
    "It is 5 - 4.\n\nOr is it?",
    (
        Segment("prose", "Let me check."),
        Segment("code", "x = 5 + 4\nprint(y)"),
        Segment("output", "Code execute Error: NameError: name 'y' is not defined"),
        Segment("prose", "The code was wrong, so again."),
        Segment("code", "print(x == 8)"),
        Segment("output", "False"),
    ),
    False,
)
SILENT = Turn("Nothing to print.", (Segment("code", "pass"), Segment("output", "")), True)
TURNS = (ONE_ROUND, TWO_ROUNDS, SILENT)


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with IsolatedSandbox(tier="plain", workers=1) as box:
        yield box


@pytest.mark.parametrize("name", ["compact", "genprm", "genprm-eval-no-header"])
@pytest.mark.parametrize("components", get_args(Components))
async def test_a_model_that_learnt_its_samples_by_heart_reproduces_them(
    sandbox: Sandbox, name: str, components: Components
) -> None:
    profile = load_profile(name, VerifierProfile)
    item = VerifyItem(id="i", problem="p", steps=("a", "b", "c"))
    targets = [render_turn(turn, profile, index=t, components=components) for t, turn in enumerate(TURNS)]

    def respond(request: Request) -> str:
        step = sum(m.role == "assistant" for m in request.messages)
        assert [m.content for m in request.messages if m.role == "assistant"] == targets[:step]
        assert targets[step].startswith(request.prefix)
        return targets[step][len(request.prefix) :]

    config = VerifyConfig(profile=name, components=components)
    (result,) = await judge_all(Verifier(ScriptedEngine(respond), sandbox, config), [item])
    votes = [verdict.votes[0] for verdict in result.verdicts]
    assert [vote.rationale.text if vote.rationale else None for vote in votes] == targets
    assert [vote.judgement for vote in votes] == [True, False, True]
    assert not any(vote.forced for vote in votes)
    assert all(vote.status.value == "ok" for vote in votes)
