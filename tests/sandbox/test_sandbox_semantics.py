"""The semantics that the released checkpoints expect, and the state and branches of sessions."""

from __future__ import annotations

import asyncio
import time

import processes
import pytest

from genprm.errors import ConfigError, SandboxDied
from genprm.sandbox import ExecResult, IsolatedSandbox, Limits, Sandbox, Session, Status, open_sandbox

BRIEF = Limits(soft_seconds=0.3, hard_seconds=0.6)


async def once(sandbox: IsolatedSandbox, code: str, limits: Limits | None = None) -> ExecResult:
    async with await sandbox.open() as session:
        return await session.run(code, limits)


async def test_it_is_a_sandbox_and_its_sessions_are_sessions(plain: IsolatedSandbox) -> None:
    assert isinstance(plain, Sandbox)
    assert isinstance(await plain.open(), Session)


async def test_only_standard_output_is_taken(plain: IsolatedSandbox) -> None:
    result = await once(plain, "import sys\nprint('a')\nprint('b', file=sys.stderr)\n3\nprint(' c ')")
    assert (result.status, result.stdout) == (Status.OK, "a\n c \n")


async def test_output_written_below_python_is_taken_in_order(plain: IsolatedSandbox) -> None:
    result = await once(plain, "import os\nprint('a', flush=True)\nos.write(1, b'b\\n')\nprint('c')")
    assert result.stdout == "a\nb\nc\n"


async def test_state_is_kept_between_runs(plain: IsolatedSandbox) -> None:
    session = await plain.open()
    await session.run("import math\ndef f(v): return v + 1\nx = 1")
    await session.run("class C:\n    y = f(x)")
    assert (
        await session.run(
            "print(C.y, math.floor(2.5), sorted(k for k in globals() if k != '__builtins__'))"
        )
    ).stdout == ("2 2 ['C', 'f', 'math', 'x']\n")


async def test_an_exception_is_an_error_and_keeps_what_came_before(plain: IsolatedSandbox) -> None:
    session = await plain.open()
    result = await session.run("x = 5\nprint('seen')\nraise ValueError('no ' + str(x))\nx = 6")
    assert result.status is Status.ERROR
    assert (result.error_type, result.error_message, result.stdout) == ("ValueError", "no 5", "seen\n")
    assert (await session.run("print(x)")).stdout == "5\n"


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("import sys; sys.exit(3)", "SystemExit"),
        ("exit()", "SystemExit"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("x = (", "SyntaxError"),
        ("a = input()", "EOFError"),
        ("import nonexistent_package", "ModuleNotFoundError"),
        ("class E(Exception):\n    def __str__(self): raise RuntimeError\nraise E", "RuntimeError"),
        ("raise TimeoutError('mine')", "TimeoutError"),
        ("x = '\\0'; eval(x)", "SyntaxError"),
    ],
)
async def test_errors_by_type(plain: IsolatedSandbox, code: str, kind: str) -> None:
    result = await once(plain, code)
    assert (result.status, result.error_type) == (Status.ERROR, kind)


async def test_the_namespace_is_not_main(plain: IsolatedSandbox) -> None:
    result = await once(
        plain, "if __name__ == '__main__': print('main')\nprint([k for k in dir() if k[0] != '_'])"
    )
    assert result.stdout == "[]\n"


async def test_a_soft_time_out_leaves_the_prefix_as_it_was(plain: IsolatedSandbox) -> None:
    session = await plain.open()
    await session.run("x = 1")
    result = await session.run("x = 2\nimport time\ntime.sleep(30)", BRIEF)
    assert result.status is Status.TIMEOUT
    assert 0.25 < result.wall_seconds < 0.5
    assert (await session.run("print(x)")).stdout == "1\n"


async def test_code_that_swallows_the_soft_limit_is_killed(plain: IsolatedSandbox) -> None:
    session = await plain.open()
    await session.run("x = 1")
    code = "import time\nx = 2\nwhile True:\n    try:\n        time.sleep(30)\n    except BaseException:\n        pass"
    began = time.monotonic()
    result = await session.run(code, BRIEF)
    assert result.status is Status.TIMEOUT
    assert 0.55 < time.monotonic() - began < 1.5
    assert (await session.run("print(x)")).stdout == "1\n"


async def test_catching_the_soft_limit_is_allowed(plain: IsolatedSandbox) -> None:
    code = "import time\ntry:\n    time.sleep(30)\nexcept TimeoutError:\n    print('gave up')"
    assert (await once(plain, code, BRIEF)).stdout == "gave up\n"


async def test_branches_share_the_past_and_nothing_else(plain: IsolatedSandbox) -> None:
    session = await plain.open()
    await session.run("x = [1]")
    left, right = session.fork(), session.fork()
    await asyncio.gather(
        left.run("x.append('left')"), right.run("x.append('right')"), session.run("x.append('own')")
    )
    shown = [(await one.run("print(x)")).stdout.strip() for one in (left, right, session)]
    assert shown == ["[1, 'left']", "[1, 'right']", "[1, 'own']"]
    await session.aclose()
    assert (await left.run("print(x)")).stdout.strip() == "[1, 'left']"


async def test_a_branch_of_a_new_session_is_empty(plain: IsolatedSandbox) -> None:
    session = await plain.open()
    branch = session.fork()
    await session.run("x = 1")
    assert (await branch.run("x")).error_type == "NameError"


async def test_random_state_is_part_of_the_state(plain: IsolatedSandbox) -> None:
    session = await plain.open()
    await session.run("import random\nrandom.seed(7)\na = random.random()")
    again = await plain.open()
    await again.run("import random\nrandom.seed(7)")
    await again.run("a = random.random()")
    draw = "print(a, random.random())"
    assert (await session.run(draw)).stdout == (await again.run(draw)).stdout


async def test_new_sessions_have_their_own_random_numbers(numpy: IsolatedSandbox) -> None:
    code = "import random, numpy\nprint(random.random(), numpy.random.rand())"
    first, second = (await once(numpy, code)).stdout.split(), (await once(numpy, code)).stdout.split()
    assert first[0] != second[0]
    assert first[1] != second[1]


async def test_sympy_and_numpy_work(numpy: IsolatedSandbox) -> None:
    code = (
        "import sympy as sp, numpy as np\nx = sp.Symbol('x')\nprint(sp.solve(x**2 - 5*x + 6, x))\n"
        "print(sp.integrate(sp.sin(x)*sp.exp(x), x))\nprint(np.linalg.det(np.eye(3)))\n"
        "from sympy.stats import Die, E\nprint(E(Die('d', 6)))"
    )
    result = await once(numpy, code)
    assert result.stdout.splitlines() == ["[2, 3]", "exp(x)*sin(x)/2 - exp(x)*cos(x)/2", "1.0", "7/2"], (
        result
    )


LYING = {
    "a text of its own kind": "class S(str):\n  def __len__(self): return 3\n  def __getitem__(self, part): return self\n"
    "class E(Exception):\n  def __str__(self): return S('[Code Output]' * 100_000)",
    "a name that raises": "class M(type):\n  @property\n  def __name__(cls): raise SystemExit\n"
    "class E(Exception, metaclass=M): pass",
    "a name of its own kind": "class S(str):\n  def __getitem__(self, part): return 'x' * 10_000\n"
    "E = type(S('E'), (Exception,), {})",
    "a name that is a number": "class M(type):\n  __name__ = 5\nclass E(Exception, metaclass=M): pass",
}


@pytest.mark.parametrize("way", LYING)
async def test_exceptions_that_lie_about_themselves_are_errors(plain: IsolatedSandbox, way: str) -> None:
    result = await once(plain, LYING[way] + "\nprint(1)\nraise E()")
    assert (result.status, result.error_type, result.stdout) == (Status.ERROR, "E", "1\n")
    assert len(result.error_message or "") <= 4000


async def test_costs_are_measured(plain: IsolatedSandbox) -> None:
    result = await once(
        plain, "import time\nbegin = time.process_time()\nwhile time.process_time() - begin < 0.2: pass"
    )
    assert 0.2 <= result.cpu_seconds < 0.4
    assert result.wall_seconds >= 0.2
    assert result.memory_peak_mb is not None
    assert 5 < result.memory_peak_mb < 100


async def test_hundreds_of_open_sessions(plain: IsolatedSandbox) -> None:
    sessions = [await plain.open() for _ in range(200)]
    await asyncio.gather(*(one.run(f"x = {number}") for number, one in enumerate(sessions)))
    results = await asyncio.gather(*(one.run("print(x)") for one in sessions))
    assert [int(one.stdout) for one in results] == list(range(200))
    await asyncio.gather(*(one.aclose() for one in sessions))


async def test_the_event_loop_is_never_blocked(plain: IsolatedSandbox) -> None:
    gaps, last = [], time.monotonic()
    task = asyncio.ensure_future(once(plain, "import time; time.sleep(0.5)"))
    while not task.done():
        await asyncio.sleep(0.005)
        gaps.append(time.monotonic() - last)
        last = time.monotonic()
    assert len(gaps) > 30


async def test_closing_a_session_ends_what_it_runs(plain: IsolatedSandbox) -> None:
    session = await plain.open()
    task = asyncio.ensure_future(session.run("while True: pass"))
    await asyncio.sleep(0.1)
    began = time.monotonic()
    await session.aclose()
    with pytest.raises(SandboxDied):
        await task
    assert time.monotonic() - began < 0.5
    with pytest.raises(SandboxDied):
        await session.run("1")
    with pytest.raises(SandboxDied):
        session.fork()
    await session.aclose()


async def test_cancelling_a_run_ends_it_and_keeps_the_state(plain: IsolatedSandbox) -> None:
    session = await plain.open()
    await session.run("x = 1")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(session.run("x = 2\nwhile True: pass"), 0.2)
    assert (await session.run("print(x)")).stdout == "1\n"


async def test_long_code_is_an_error_of_the_code(plain: IsolatedSandbox) -> None:
    assert (await once(plain, "x = 1\n" * 15_000)).status is Status.OK
    assert (await once(plain, "x = 1\n" * 50_000)).status is Status.ERROR


async def test_options_are_checked() -> None:
    for options in ({"tier": "torch"}, {"limits": {"soft": 1}}, {"speed": 3}):
        with pytest.raises(ConfigError):
            open_sandbox(**options)


async def test_states_that_nobody_stands_on_end_without_another_word(plain: IsolatedSandbox) -> None:
    before = processes.of(plain)
    session = await plain.open()
    for number in range(3):
        await session.run(f"x = {number}")
    branch = session.fork()
    await session.run("x = 3")
    assert len(await processes.settle(plain, before, most=2)) <= 2
    await session.aclose()
    assert (await branch.run("print(x)")).stdout == "2\n"
    await branch.aclose()
    assert not await processes.settle(plain, before)
