"""The loop: code runs when its fence closes, the model sees what it printed, and every bound holds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from genprm.config import SamplingConfig
from genprm.engines.base import Completion, Request
from genprm.engines.scripted import ScriptedEngine
from genprm.errors import ConfigError, EngineUnavailable, SandboxDied
from genprm.generate.executions import Runs
from genprm.generate.rollout import Draft, Path, write
from genprm.records import ChatMessage, CodeStatus, Usage
from genprm.sandbox import ExecResult, IsolatedSandbox, IsolationReport, Limits, Sandbox, Session, Status

CHAT = (ChatMessage(role="user", content="Is it right?"),)
DONE = "</output>\n"


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with IsolatedSandbox(tier="plain", workers=1) as box:
        yield box


def make_path(engine: ScriptedEngine, sandbox: Sandbox | None, slots: int = 4, **options: object) -> Path:
    path = Path(
        engine,
        sandbox,
        key=("item", 0),
        seed=1,
        sampling=SamplingConfig(temperature=0.6),
        slots=asyncio.Semaphore(slots),
        **options,  # type: ignore[arg-type]
    )
    path.begin(CHAT)
    return path


async def play(
    respond: Callable[[Request], str],
    sandbox: Sandbox | None,
    *,
    text: str = "",
    max_rounds: int = 3,
    max_tokens: int = 500,
    execute: bool = True,
) -> tuple[Draft, Path]:
    path = make_path(ScriptedEngine(respond), sandbox)
    draft = await write(
        path,
        Draft(text=text),
        finish=(DONE,),
        max_rounds=max_rounds,
        max_tokens=max_tokens,
        execute=execute,
    )
    await path.aclose()
    return draft, path


def code(body: str) -> str:
    return f"```python\n{body}\n```\n"


async def test_the_model_sees_what_its_code_printed(sandbox: Sandbox) -> None:
    def respond(request: Request) -> str:
        if "[Code Output]" not in request.prefix:
            return "First:\n" + code("x = 20\nprint(x + 1)")
        if "\n21\n" in request.prefix and "\n42\n" not in request.prefix:
            return "Again:\n" + code("print(2 * (x + 1))")
        return "Good.\n<output>\n" + DONE

    draft, path = await play(respond, sandbox)
    assert draft.end == "finish"
    assert draft.text == (
        "First:\n```python\nx = 20\nprint(x + 1)\n```\n[Code Output]\n\n```\n21\n```\n"
        "Again:\n```python\nprint(2 * (x + 1))\n```\n[Code Output]\n\n```\n42\n```\nGood.\n<output>\n</output>\n"
    )
    assert [r.output for r in draft.rounds] == ["21", "42"]
    assert path.usage.requests == 3
    assert path.usage.completion_tokens == draft.spent > 0
    assert path.usage.code_seconds > 0


async def test_a_forced_fence_counts_as_opened(sandbox: Sandbox) -> None:
    def respond(request: Request) -> str:
        return "print('a')\n```\n" if request.prefix.endswith("```python\n") else DONE

    draft, _ = await play(respond, sandbox, text="<verify>\n```python\n")
    assert draft.rounds[0].output == "a"


async def test_what_follows_a_block_before_its_output_is_dropped(sandbox: Sandbox) -> None:
    """A closing fence with trailing blanks is no stop string; the model makes up an output."""

    def respond(request: Request) -> str:
        if "[Code Output]" in request.prefix:
            return DONE
        return "```python\nprint(1)\n``` \n[Code Output]\n\n```\n999\n```\n"

    draft, _ = await play(respond, sandbox)
    assert "999" not in draft.text
    assert draft.rounds[0].output == "1"


async def test_a_block_that_ends_with_the_turn_runs(sandbox: Sandbox) -> None:
    def respond(request: Request) -> str:
        return DONE if "[Code Output]" in request.prefix else "```python\nprint(1)\n```"

    draft, _ = await play(respond, sandbox)
    assert "\n```\n[Code Output]\n\n```\n1\n```\n" in draft.text


async def test_failing_code_is_a_result(sandbox: Sandbox) -> None:
    def respond(request: Request) -> str:
        return DONE if "[Code Output]" in request.prefix else code("a = 1\nb = zero")

    draft, _ = await play(respond, sandbox)
    assert draft.rounds[0].status is CodeStatus.ERROR
    assert draft.rounds[0].output == "Code execute Error: NameError: name 'zero' is not defined"


async def test_rounds_are_bounded_and_the_surplus_block_does_not_run(sandbox: Sandbox) -> None:
    draft, _ = await play(lambda request: "More.\n" + code("print(7)"), sandbox, max_rounds=2)
    assert draft.end == "rounds"
    assert len(draft.rounds) == 2
    assert draft.text.endswith("[Code Output]\n\n```\n7\n```\n")
    assert len(draft.text) == draft.safe


async def test_tokens_are_bounded_over_all_requests(sandbox: Sandbox) -> None:
    draft, path = await play(
        lambda request: "word " * 30 + "\n" + code("print(1)"), sandbox, max_tokens=150
    )
    assert draft.end == "tokens"
    assert path.usage.completion_tokens <= 150


async def test_plain_fences_do_not_loop_forever() -> None:
    draft, path = await play(lambda request: "```\nx\n```\n", None)
    assert draft.end == "rounds"
    assert path.usage.requests <= 10
    draft, path = await play(lambda request: "", None)
    assert draft.end == "eos"


async def test_without_execution_code_is_left_alone() -> None:
    def respond(request: Request) -> str:
        return (
            DONE
            if "print(2)" in request.prefix
            else code("print(2)" if "print(1)" in request.prefix else "print(1)")
        )

    draft, _ = await play(respond, None, execute=False)
    assert draft.text == code("print(1)") + code("print(2)") + DONE
    assert [r.status for r in draft.rounds] == [CodeStatus.NOT_RUN] * 2


async def test_execution_without_a_sandbox_says_so() -> None:
    with pytest.raises(ConfigError, match="no sandbox"):
        await play(lambda request: code("print(1)"), None)


async def test_an_engines_error_is_raised_and_its_cost_counted() -> None:
    def respond(request: Request) -> str:
        raise EngineUnavailable("gone")

    path = make_path(ScriptedEngine(respond), None)
    with pytest.raises(EngineUnavailable):
        await path.generate("", stop=(), max_tokens=5)
    assert path.usage.requests == 1


async def test_a_completion_that_a_cache_kept_costs_nothing() -> None:
    path = make_path(ScriptedEngine(lambda request: Completion("kept", made=7)), None)
    await path.generate("", stop=(), max_tokens=50)
    assert (path.usage, path.tokens) == (Usage(), 7)


class FragileSession:
    """Loses its box once, at the second snippet."""

    def __init__(self, box: FragileSandbox) -> None:
        self.box = box
        self.lines: list[str] = []

    async def run(self, code: str, limits: Limits | None = None) -> ExecResult:
        self.box.calls += 1
        if self.box.calls in self.box.deaths:
            raise SandboxDied("lost")
        self.lines.append(code)
        return ExecResult(Status.OK, stdout=" ".join(self.lines))

    def fork(self) -> Session:
        return self

    async def aclose(self) -> None:
        self.box.closed += 1


class FragileSandbox:
    report = IsolationReport(0)

    def __init__(self, *deaths: int) -> None:
        self.deaths = deaths
        self.calls = self.opened = self.closed = 0

    async def open(self) -> Session:
        self.opened += 1
        return FragileSession(self)

    async def aclose(self) -> None: ...

    async def __aenter__(self) -> FragileSandbox:
        return self

    async def __aexit__(self, *exc: object) -> None: ...


async def test_a_lost_session_is_replaced_once_by_replaying_the_prefix() -> None:
    box = FragileSandbox(2)
    path = make_path(ScriptedEngine(lambda request: ""), box)
    assert (await path.execute("a")).output == "a"
    assert (await path.execute("b")).output == "a b"
    await path.aclose()
    assert (box.opened, box.closed) == (2, 2)
    twice = make_path(ScriptedEngine(lambda request: ""), FragileSandbox(2, 4))
    await twice.execute("a")
    with pytest.raises(SandboxDied):
        await twice.execute("b")


async def test_requests_carry_seeds_that_depend_on_their_place_alone() -> None:
    seen: list[Request] = []

    def respond(request: Request) -> str:
        seen.append(request)
        return "x"

    path = make_path(ScriptedEngine(respond), None, sample=3)
    for step in (0, 1, 0):
        path.begin(CHAT, step)
        await path.generate("", stop=(), max_tokens=5)
        await path.generate("", stop=(), max_tokens=5)
    seeds = [request.params.seed for request in seen]
    assert seeds[:2] == seeds[4:] and len(set(seeds)) == 4
    assert {request.sample for request in seen} == {3}
    fixed = make_path(ScriptedEngine(respond), None, fixed_seed=True)
    await fixed.generate("", stop=(), max_tokens=5)
    await fixed.generate("", stop=(), max_tokens=5)
    assert seen[-1].params.seed == seen[-2].params.seed


async def test_requests_in_flight_are_bounded_across_paths() -> None:
    running = peak = 0

    async def respond(request: Request) -> Completion:
        nonlocal running, peak
        running += 1
        peak = max(peak, running)
        await asyncio.sleep(0.002)
        running -= 1
        return Completion(text=DONE, finish_reason="stop", stop=DONE, usage=Usage(completion_tokens=1))

    engine, slots = ScriptedEngine(respond), asyncio.Semaphore(3)
    paths = [
        Path(engine, None, key=(i,), seed=0, sampling=SamplingConfig(), slots=slots) for i in range(12)
    ]
    await asyncio.gather(*(write(p, Draft(), finish=(DONE,), max_rounds=1, max_tokens=9) for p in paths))
    assert peak == 3
    assert all(path.usage.requests == 1 and path.usage.engine_seconds > 0 for path in paths)


class Counting:
    """A sandbox that counts executions and gives each session its own list of what it ran."""

    def __init__(self, status: Status = Status.OK) -> None:
        self.executions: list[str] = []
        self.status = status
        self.failing = 0

    async def open(self) -> Session:
        return CountingSession(self, [])


class CountingSession:
    def __init__(self, box: Counting, ran: list[str]) -> None:
        self.box, self.ran = box, ran
        self.dead = False

    async def run(self, code: str, limits: Limits | None = None) -> ExecResult:
        await asyncio.sleep(0.01)
        if self.dead:
            raise SandboxDied("gone")
        if self.box.failing:
            self.box.failing -= 1
            raise SandboxDied("gone")
        self.box.executions.append(code)
        if self.box.status is Status.OK:
            self.ran.append(code)
        return ExecResult(self.box.status, stdout=" ".join(self.ran))

    def fork(self) -> Session:
        branch = CountingSession(self.box, list(self.ran))
        branch.dead = self.dead
        return branch

    async def aclose(self) -> None: ...


def sharing(box: Counting, count: int) -> list[Path]:
    runs = Runs()
    return [make_path(ScriptedEngine(lambda _: ""), box, runs=runs) for _ in range(count)]  # type: ignore[arg-type]


async def test_equal_code_after_equal_code_is_executed_once() -> None:
    box = Counting()
    paths = sharing(box, 4)
    first = await asyncio.gather(*(path.execute("a") for path in paths))
    assert [one.output for one in first] == ["a"] * 4 and box.executions == ["a"]
    second = await asyncio.gather(
        *(path.execute("b" if index else "c") for index, path in enumerate(paths))
    )
    assert [one.output for one in second] == ["a c", "a b", "a b", "a b"]
    third = await asyncio.gather(*(path.execute("d") for path in paths))
    assert [one.output for one in third] == ["a c d", "a b d", "a b d", "a b d"]


async def test_a_path_that_only_took_results_catches_up_when_it_leaves_the_others() -> None:
    box = Counting()
    ahead, behind = sharing(box, 2)
    for code in ("a", "b", "c"):
        await ahead.execute(code)
    for code in ("a", "b"):
        assert (await behind.execute(code)).output == {"a": "a", "b": "a b"}[code]
    assert box.executions == ["a", "b", "c"]
    assert (await behind.execute("z")).output == "a b z"
    assert behind.usage.code_seconds == 0.0 and (await behind.execute("c")).output == "a b z c"


async def test_an_interpreter_that_stands_further_is_branched_instead_of_replayed() -> None:
    box = Counting()
    ahead, behind = sharing(box, 2)
    for code in ("a", "b"):
        await ahead.execute(code)
        await behind.execute(code)
    assert (await behind.execute("z")).output == "a b z"
    assert box.executions == ["a", "b", "z"]
    assert (await ahead.execute("y")).output == "a b y"


@pytest.mark.parametrize("status", [Status.TIMEOUT, Status.KILLED, Status.DIED, Status.OUTPUT_LIMIT])
async def test_what_a_limit_ended_is_not_shared(status: Status) -> None:
    box = Counting(status)
    done = await asyncio.gather(*(path.execute("slow") for path in sharing(box, 3)))
    assert [one.status.value for one in done] == [status.value] * 3
    assert box.executions == ["slow"] * 3


async def test_a_path_whose_neighbour_lost_its_box_replays_on_a_fresh_one() -> None:
    box = Counting()
    ahead, behind = sharing(box, 2)
    await ahead.execute("a")
    await behind.execute("a")
    session, _ = ahead.standing
    assert isinstance(session, CountingSession)
    session.dead = True
    assert (await behind.execute("z")).output == "a z"
    assert box.executions == ["a", "a", "z"]


async def test_a_lost_box_fails_one_path_and_the_others_execute_themselves() -> None:
    box = Counting()
    box.failing = 2
    done = await asyncio.gather(*(path.execute("a") for path in sharing(box, 3)), return_exceptions=True)
    assert [type(one).__name__ for one in done].count("SandboxDied") <= 1
    assert all(one.output == "a" for one in done if not isinstance(one, BaseException))


class Changing(Counting):
    """Code that ends in another way when it is executed for the second time."""

    def __init__(self, then: ExecResult) -> None:
        super().__init__()
        self.then = then

    async def open(self) -> Session:
        return ChangingSession(self, [])


class ChangingSession(CountingSession):
    box: Changing

    async def run(self, code: str, limits: Limits | None = None) -> ExecResult:
        again = code in self.box.executions
        result = await super().run(code, limits)
        return self.box.then if again else result

    def fork(self) -> Session:
        raise SandboxDied("no forks here")


@pytest.mark.parametrize(
    "then",
    [
        *(
            ExecResult(status)
            for status in (Status.TIMEOUT, Status.KILLED, Status.DIED, Status.OUTPUT_LIMIT)
        ),
        ExecResult(Status.ERROR, error_type="MemoryError", error_message=""),
    ],
    ids=lambda result: result.status.value,
)
async def test_a_path_that_cannot_catch_up_is_the_sandboxs_fault(then: ExecResult) -> None:
    """A path took another's result; when it leaves that one, its own interpreter must come to the same state."""
    ahead, behind = sharing(Changing(then), 2)
    await ahead.execute("a")
    assert (await behind.execute("a")).output == "a"
    for _ in range(2):
        with pytest.raises(SandboxDied, match="replayed"):
            await behind.execute("z")
    assert (await ahead.execute("y")).output == "a y"


async def test_code_that_failed_may_fail_in_the_same_way_when_replayed() -> None:
    failed = ExecResult(Status.ERROR, error_type="ValueError", error_message="at 1")
    box = Changing(ExecResult(Status.ERROR, error_type="ValueError", error_message="at 2"))

    class Failing(ChangingSession):
        async def run(self, code: str, limits: Limits | None = None) -> ExecResult:
            again = code in box.executions
            result = await super().run(code, limits)
            return result if code != "a" or again else failed

    async def open_failing() -> Session:
        return Failing(box, [])

    box.open = open_failing  # type: ignore[method-assign]
    ahead, behind = sharing(box, 2)
    for path in (ahead, behind):
        assert (await path.execute("a")).status is CodeStatus.ERROR
    assert (await behind.execute("z")).status is CodeStatus.OK


async def test_a_cancelled_execution_leaves_its_path_to_be_replayed(sandbox: Sandbox) -> None:
    path = make_path(ScriptedEngine(lambda _: ""), sandbox)
    await path.execute("x = 1")
    task = asyncio.ensure_future(path.execute("x += 1\nwhile True: pass"))
    await asyncio.sleep(0.2)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert (await path.execute("print(x)")).output == "1"
    await path.aclose()
