"""Where the verifier's code runs: in the caller's sandbox, or in one of its own; and what its faults become."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from genprm.config import SandboxConfig, VerifyConfig
from genprm.domains.math import MathDomain
from genprm.engines.base import Request
from genprm.engines.scripted import Scripted, ScriptedEngine
from genprm.errors import ConfigError, SandboxDied, SandboxError, SandboxUnavailable
from genprm.records import CodeRound, Verification, VerifyItem, VoteStatus
from genprm.rewards import Verifier, judge_all, lost_entirely
from genprm.rewards.genprm.verifier import TIER
from genprm.sandbox import (
    ExecResult,
    IsolatedSandbox,
    IsolationReport,
    Limits,
    Sandbox,
    Session,
    make_sandbox,
)
from genprm.sandbox.base import Status
from genprm.sandbox.worker import BoxFailed, Worker

ITEM = VerifyItem(id="one", problem="Count.", steps=("Step 1: 1 + 1 = 2", "Step 2: 2 + 2 = 4"))
SMALL = SandboxConfig(tier="plain", workers=1)


def runs_code(code: str) -> ScriptedEngine:
    """A model that runs the same code on every step and is then sure."""

    def respond(request: Request) -> str | Scripted:
        if request.prefix.endswith("<analyze>\n"):
            return "So.\n</analyze>\n"
        if "[Code Output]" in request.prefix:
            return Scripted("</verify>\n<output>\n**Judgement**: $\\boxed{Yes}$\n</output>", (0.9,))
        return f"{code}\n```\n"

    return ScriptedEngine(respond)


def config(votes: int = 1, **options: object) -> VerifyConfig:
    return VerifyConfig.model_validate({"profile": "compact", "votes": votes, **options})


def rounds(row: Verification) -> list[CodeRound]:
    votes = [vote for verdict in row.verdicts for vote in verdict.votes]
    return [done for vote in votes if vote.rationale is not None for done in vote.rationale.rounds]


async def test_without_a_sandbox_the_verifier_makes_its_own_and_ends_it() -> None:
    async with Verifier(runs_code("print(6 * 7)"), None, config(2), sandbox_options=SMALL) as verifier:
        (row,) = await judge_all(verifier, [ITEM])
        assert [done.output for done in rounds(row)] == ["42"] * 4
    await verifier.aclose()
    (late,) = await judge_all(verifier, [ITEM])
    assert [verdict.status for verdict in late.verdicts] == ["failed", "failed"]
    assert lost_entirely(late) == ("SandboxDied", "the sandbox is closed", False)


async def test_its_own_sandbox_has_the_domains_packages_and_the_limits_asked_for() -> None:
    assert MathDomain().sandbox_tier == TIER
    slow = SandboxConfig(tier="plain", workers=1, soft_seconds=0.25, hard_seconds=3)
    limit = "import signal; print(signal.getitimer(signal.ITIMER_REAL)[0] <= 0.25)"
    async with Verifier(runs_code(limit), None, config(), sandbox_options=slow) as verifier:
        (row,) = await judge_all(verifier, [ITEM])
    assert rounds(row)[0].output == "True"
    with pytest.raises(ConfigError, match="tier"):
        make_sandbox(SandboxConfig(), "fortran")
    assert make_sandbox(SandboxConfig(), "sympy").tier == "sympy"
    made = make_sandbox(SandboxConfig(tier="plain", hard_seconds=9, memory_mb=99), "sympy")
    assert made.tier == "plain"
    assert made.limits == Limits(hard_seconds=9, cpu_seconds=9, memory_mb=99)


async def test_a_sandbox_that_is_not_needed_is_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*args: object) -> IsolatedSandbox:
        raise AssertionError("made")

    monkeypatch.setattr("genprm.rewards.genprm.verifier.make_sandbox", never)
    for components in ("direct", "cot", "code", "cot+code"):
        async with Verifier(runs_code("print(1)"), None, config(components=components)) as verifier:
            await judge_all(verifier, [ITEM])


async def test_the_callers_sandbox_stays_the_callers() -> None:
    async with IsolatedSandbox(tier="plain", workers=1) as sandbox:
        for _ in range(2):
            async with Verifier(runs_code("print(1)"), sandbox, config()) as verifier:
                (row,) = await judge_all(verifier, [ITEM])
            assert [verdict.status for verdict in row.verdicts] == ["ok", "ok"]


async def test_everything_at_once_starts_one_sandbox(monkeypatch: pytest.MonkeyPatch) -> None:
    boxes = []
    start = Worker.start

    async def counted(**options: Any) -> Worker:
        boxes.append(await start(**options))
        return boxes[-1]

    monkeypatch.setattr(Worker, "start", counted)
    async with Verifier(runs_code("print(1)"), None, config(3), sandbox_options=SMALL) as verifier:
        items = [ITEM.model_copy(update={"id": str(n), "problem": f"Count {n}."}) for n in range(5)]
        rows = await judge_all(verifier, items)
    assert all(verdict.status == "ok" for row in rows for verdict in row.verdicts)
    assert len(boxes) == 1 and not boxes[0].alive


class Broken:
    """A sandbox, and its only session, that raise the errors they were given, in order, and then work."""

    def __init__(self, opening: Sequence[SandboxError] = (), running: Sequence[SandboxError] = ()) -> None:
        self._opening, self._running = list(opening), list(running)

    async def open(self) -> Session:
        if self._opening:
            raise self._opening.pop(0)
        return self

    async def run(self, code: str, limits: Limits | None = None) -> ExecResult:
        if self._running:
            raise self._running.pop(0)
        return ExecResult(Status.OK, stdout="fine\n")

    def fork(self) -> Session:
        raise SandboxDied("no forks here")

    @property
    def report(self) -> IsolationReport:
        return IsolationReport(level=0)

    async def aclose(self) -> None: ...

    async def __aenter__(self) -> Sandbox:
        return self

    async def __aexit__(self, *exc: object) -> None: ...


@pytest.mark.parametrize(
    ("sandbox", "fault", "retryable"),
    [
        (Broken([SandboxUnavailable("no namespaces")] * 9), "SandboxUnavailable: no namespaces", False),
        (Broken([], [SandboxDied("lost")] * 9), "SandboxDied: lost", True),
    ],
)
async def test_a_fault_of_the_sandbox_is_a_reason_and_never_a_number(
    sandbox: Broken, fault: str, retryable: bool
) -> None:
    (row,) = await judge_all(Verifier(runs_code("print(1)"), sandbox, config()), [ITEM])
    assert [verdict.status for verdict in row.verdicts] == ["failed", "failed"]
    first, second = (verdict.votes[0] for verdict in row.verdicts)
    assert (first.status, first.reason, first.retryable) == (VoteStatus.SANDBOX_FAILED, fault, retryable)
    assert (second.status, second.retryable) == (VoteStatus.NOT_REACHED, retryable)
    assert row.first_error is None
    assert lost_entirely(row) == (*fault.split(": "), retryable)


class Forgetful:
    """A sandbox whose first session is lost at its second snippet, and in which the first then ends otherwise."""

    def __init__(self, replayed: ExecResult) -> None:
        self._replayed = replayed
        self._sessions = 0

    async def open(self) -> Session:
        self._sessions += 1
        return ForgetfulSession(self._replayed if self._sessions > 1 else None)

    @property
    def report(self) -> IsolationReport:
        return IsolationReport(level=0)

    async def aclose(self) -> None: ...

    async def __aenter__(self) -> Sandbox:
        return self

    async def __aexit__(self, *exc: object) -> None: ...


class ForgetfulSession:
    def __init__(self, replayed: ExecResult | None) -> None:
        self._replayed = replayed
        self._runs = 0

    async def run(self, code: str, limits: Limits | None = None) -> ExecResult:
        self._runs += 1
        if self._replayed is not None:
            return self._replayed
        if self._runs > 1:
            raise SandboxDied("lost")
        return ExecResult(Status.OK, stdout="fine\n")

    def fork(self) -> Session:
        raise SandboxDied("no forks here")

    async def aclose(self) -> None: ...


@pytest.mark.parametrize(
    "replayed",
    [
        *(
            ExecResult(status)
            for status in (Status.TIMEOUT, Status.KILLED, Status.DIED, Status.OUTPUT_LIMIT)
        ),
        ExecResult(Status.ERROR, error_type="MemoryError", error_message=""),
    ],
    ids=lambda result: result.status.value,
)
async def test_a_replay_that_ends_otherwise_is_a_fault_of_the_sandbox_and_shown_to_no_model(
    replayed: ExecResult,
) -> None:
    """Else the model would see a NameError in code that was right, and judge by it."""
    (row,) = await judge_all(Verifier(runs_code("print(1)"), Forgetful(replayed), config()), [ITEM])
    first, second = (verdict.votes[0] for verdict in row.verdicts)
    assert first.status is VoteStatus.OK
    assert (second.status, second.retryable, second.reward) == (VoteStatus.SANDBOX_FAILED, True, None)
    assert second.reason is not None and "replayed" in second.reason
    assert row.first_error is None


async def test_a_state_that_cannot_be_forked_is_rebuilt() -> None:
    """Shared histories and forks of lines need no help from the sandbox."""
    verifier = Verifier(runs_code("print(1)"), Broken(), config(2, history="shared"))
    (row,) = await judge_all(verifier, [ITEM])
    line = verifier.open(ITEM.problem, id=ITEM.id)
    await line.judge(ITEM.steps[0])
    twin = await line.fork()
    await twin.judge(ITEM.steps[1])
    for verdicts in (row.verdicts, twin.verdicts):
        assert [verdict.status for verdict in verdicts] == ["ok", "ok"]
        assert [vote.status for verdict in verdicts for vote in verdict.votes] == [VoteStatus.OK] * 4


async def test_what_keeps_a_sandbox_from_starting_is_found_out_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tries = []

    async def fail(**options: Any) -> Worker:
        tries.append(1)
        raise BoxFailed("nothing works here")

    monkeypatch.setattr(Worker, "start", fail)
    async with Verifier(runs_code("print(1)"), None, config(3), sandbox_options=SMALL) as verifier:
        (row,) = await judge_all(verifier, [ITEM])
    assert lost_entirely(row) is not None
    assert all(vote.reason and "nothing works here" in vote.reason for vote in row.verdicts[0].votes)
    assert len(tries) == 2, "one for each way of isolating"
