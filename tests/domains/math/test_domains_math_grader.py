"""The grader: math-verify's verdicts, in killable processes, with a fast path that changes none of them."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator
from fractions import Fraction

import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from genprm.domains.math import Graded, Grader, compare_plain, tidy
from genprm.domains.math.worker import compare
from genprm.errors import GraderError

# Summing it up takes minutes; nothing in its spelling says so.
PATHOLOGICAL = r"\sum_{n=1}^{99999} \frac{1}{n^2+\sqrt{n}}"
OTHER = "3"


@pytest.fixture
async def grader() -> AsyncIterator[Grader]:
    async with Grader(workers=1, seconds=20) as found:
        yield found


async def test_equal_expressions(grader: Grader) -> None:
    pairs = [
        (r"\sqrt{8}", r"2\sqrt{2}"),
        ("x^2 - 1", "(x-1)(x+1)"),
        ("2, 1", "1, 2"),
        ("x=5", "5"),
        (r"\pi/2", r"\frac{\pi}{2}"),
        ("0.333333", "1/3"),
        (r"\{1, 2\}", r"\{2, 1\}"),
        ("50%", "0.5"),
        (r"\begin{pmatrix} 1/2 \\ 3 \end{pmatrix}", r"\begin{pmatrix}\frac{1}{2}\\3\end{pmatrix}"),
        (r"\left(-\infty, -8\right) \cup (4, \infty)", r"(-\infty,-8)\cup(4,\infty)"),
        ("1161_{10}", "1161_{10}"),
        (r"\text{(C)}", "C"),
        (r"3\sqrt{5} \text{ cm}", r"\sqrt{45}"),
        ("(1,2)", r"\left( 1, 2 \right)"),
        ("pi/2", r"\dfrac{\pi}{2}"),
        ("-1 + exp(16)", "e^{16}-1"),
        ("sqrt(2)/2", r"\frac{\sqrt{2}}{2}"),
        ("2√3", r"2\sqrt{3}"),
        ("2*x**2 + x^(1/2)", r"2x^2 + \sqrt{x}"),
        ("x²", "x^2"),
        ("(-∞, 3]", r"(-\infty, 3]"),
        (r"[3, \infty)", r"x \ge 3"),
        (r"x \ge 3", r"[3, \infty)"),
        (r"1 \pm \sqrt{19}", r"1 + \sqrt{19}, 1 - \sqrt{19}"),
        (r"\sqrt{9}, 2 and 1", "1, 2, 3"),
        (r"\frac{\pi}{2} \text{ inches}", "pi/2"),
        ("864", r"864 \mbox{ inches}^2"),
    ]
    assert [graded.equal for graded in await grader.equal_many(pairs)] == [True] * len(pairs)


async def test_different_expressions(grader: Grader) -> None:
    pairs = [
        (r"\sqrt{8}", "3"),
        ("x+1", "x+2"),
        ("(1,2)", "(2,1)"),
        ("12, 34", "1234"),
        ("Monday", "Tuesday"),
        (r"\frac{1}{2006!}", r"\frac{1}{2004!}"),
        (r"\infty", r"-\infty"),
        (r"(1, \sqrt{2})", r"(1, \sqrt{3})"),
        (r"\sqrt{1}, 2, 2", r"\sqrt{1}, 1, 2"),
        ("2 root 3", "2"),
        ("3x", "3"),
        ("-x", "x"),
        ("p-q", "pq"),
        ("y'", "y"),
        (r"\{\begin{pmatrix} 1, 2 \end{pmatrix}, 3\}", r"\{\begin{pmatrix} 1, 4 \end{pmatrix}, 3\}"),
    ]
    assert [graded.equal for graded in await grader.equal_many(pairs)] == [False] * len(pairs)


async def test_what_is_not_known_is_none_with_a_reason(grader: Grader) -> None:
    assert await grader.equal("5", None) == Graded(None, "no_reference")
    assert await grader.equal("5", "  ") == Graded(None, "no_reference")
    assert await grader.equal(None, "5") == Graded(False, "no_answer")
    assert await grader.equal("1+" * 3000, "5") == Graded(None, "too_long")
    for tower in ("10^{10^{10^{10}}}", "9^9^9^9", "2^{12345678}", "12345678!"):
        assert await grader.equal(tower, "5") == Graded(None, "too_large")
        assert await grader.equal(f"({tower}, 1)", "(1, 1)") == Graded(None, "too_large")
    assert (await grader.equal("(10^{10^{10}}, 1)", "(1, 2)")).equal is False


SOLUTION = "Janet sells 16 - 3 - 4 = <<16-3-4=9>>9 eggs, daily.\nShe makes 9 * 2 = $18, or so.\n#### 18"


@pytest.mark.parametrize(
    "gold", [SOLUTION, "all real numbers", r"\text{no real solution}", "5, or any larger number"]
)
async def test_whether_an_answer_says_what_a_sentence_says_is_not_known(grader: Grader, gold: str) -> None:
    for pred in ("18", "all of them", "1, 2", r"\sqrt{2}"):
        assert await grader.equal(pred, gold) == Graded(None, "prose_reference")
    assert (await grader.equal(gold, gold)).equal is True
    assert await grader.equal(None, gold) == Graded(False, "no_answer")
    assert (await grader.equal(gold, "18")).equal is False, "an answer that is no number is not 18"


async def test_names_and_units_are_no_sentences(grader: Grader) -> None:
    for pred, gold, equal in (
        ("Monday", "Tuesday", False),
        ("Tuesday, Monday", "Monday and Tuesday", True),
        ("Alice", "Bob or Carol", False),
        ("9", "9 square meters", True),
    ):
        assert (await grader.equal(pred, gold)).equal is equal, (pred, gold)


async def test_time_out_kills_the_worker_and_the_next_question_is_answered() -> None:
    async with Grader(workers=1, seconds=1.5) as grader:
        assert (await grader.equal(r"\sqrt{4}", "2")).equal is True
        (killed,) = grader._all
        assert await grader.equal(PATHOLOGICAL, OTHER) == Graded(None, "timeout")
        assert killed._process.returncode is not None
        # The verdict is remembered: the same question starts no worker again.
        assert (await grader.equal(PATHOLOGICAL, OTHER)).equal is None
        assert not grader._all
        assert (await grader.equal(r"\sqrt{9}", "3")).equal is True


async def test_a_worker_that_dies_is_replaced() -> None:
    async with Grader(workers=1, seconds=20) as grader:
        await grader.equal(r"\sqrt{4}", "2")
        worker = next(iter(grader._all))
        worker._process.send_signal(signal.SIGKILL)
        await worker._process.wait()
        assert await grader.equal(r"\sqrt{16}", "4") == Graded(None, "worker_died")
        assert (await grader.equal(r"\sqrt{25}", "5")).equal is True


async def test_no_process_for_plain_numbers_and_none_left_at_the_end() -> None:
    before = set(psutil.Process().children())
    async with Grader(workers=2) as grader:
        assert (await grader.equal("$1,000", "1000.0")).equal is True
        assert (await grader.equal("7", "8")).equal is False
        assert not grader._all
        verdicts = await grader.equal_many([(f"\\sqrt{{{n}}}", "3") for n in range(8, 11)] * 4)
        assert [graded.equal for graded in verdicts] == [False, True, False] * 4
        assert len(grader._all) <= 2
    assert set(psutil.Process().children()) <= before


async def test_a_cancelled_caller_does_not_take_the_verdict_from_the_others(grader: Grader) -> None:
    first = asyncio.ensure_future(grader.equal(r"\sqrt{49}", "7"))
    second = asyncio.ensure_future(grader.equal(r"\sqrt{49}", "7"))
    await asyncio.sleep(0.01)
    first.cancel()
    assert (await second).equal is True


@pytest.mark.parametrize("program", ["/bin/false", "/nowhere/python"])
async def test_workers_that_cannot_start_are_an_error_not_a_verdict(
    monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    monkeypatch.setattr(sys, "executable", program)
    async with Grader(workers=1) as grader:
        with pytest.raises(GraderError):
            await grader.equal(r"\sqrt{4}", "2")
        assert (await grader.equal("4", "4")).equal is True


def test_works_outside_the_main_thread() -> None:
    """Signals cannot be set in other threads; the grader never needs to."""
    found: list[Graded] = []

    async def ask() -> None:
        async with Grader(workers=1, seconds=20) as grader:
            found.append(await grader.equal(r"\sqrt{4}", "2"))

    thread = threading.Thread(target=lambda: asyncio.run(ask()))
    thread.start()
    thread.join()
    assert found == [Graded(True)]


def test_a_killed_parent_leaves_no_worker() -> None:
    """Even one that is busy: its own timer, with the default action, ends it."""
    code = (
        "import asyncio\nfrom genprm.domains.math import Grader\n"
        "async def main():\n"
        "    grader = Grader(workers=1, seconds=1)\n"
        "    await grader.equal(r'\\sqrt{4}', '2')\n"
        "    print(next(iter(grader._all))._process.pid, flush=True)\n"
        f"    await grader.equal({PATHOLOGICAL!r}, {OTHER!r})\n"
        "asyncio.run(main())\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    worker = int(parent.stdout.readline())
    time.sleep(0.3)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and psutil.pid_exists(worker):
        if psutil.Process(worker).status() == psutil.STATUS_ZOMBIE:
            break
        time.sleep(0.1)
    else:
        assert not psutil.pid_exists(worker)


def test_the_workers_pipe_holds_verdicts_alone() -> None:
    question = json.dumps({"pred": r"\sqrt{4}", "gold": "2"}) + "\n"
    done = subprocess.run(
        [sys.executable, "-m", "genprm.domains.math.worker", "20", "60", "2048"],
        input=question,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env={**os.environ},
    )
    assert [json.loads(line) for line in done.stdout.splitlines()] == [
        {"ready": True},
        {"equal": True, "reason": ""},
    ]


async def test_memory_is_bounded() -> None:
    """Algebra that wants gigabytes does not get them, and the next question is answered."""
    async with Grader(workers=1, seconds=20, memory_mb=700) as grader:
        assert (
            await grader.equal(r"10^{99999 \cdot 99999}", r"10^{99999 \cdot 99999} + 1")
        ).equal is not True
        assert (await grader.equal(r"\sqrt{9}", "3")).equal is True
        worker = psutil.Process(next(iter(grader._all))._process.pid)
        assert worker.rlimit(psutil.RLIMIT_AS) == (700 << 20, 700 << 20)


async def test_a_busy_machine_does_not_change_verdicts() -> None:
    """The bound is CPU time: a worker that is not scheduled for a while is not cut."""
    async with Grader(workers=1, seconds=1.0) as grader:
        await grader.equal(r"\sqrt{4}", "2")
        process = psutil.Process(next(iter(grader._all))._process.pid)
        process.suspend()
        asked = asyncio.ensure_future(grader.equal(r"\sqrt{9}", "3"))
        await asyncio.sleep(1.5)
        process.resume()
        assert (await asked).equal is True


integers = st.integers(-(10**12), 10**12).map(str)
decimals = st.decimals(-(10**6), 10**6, allow_nan=False, allow_infinity=False, places=3).map(str)
small = st.integers(-30, 30)
fractions = st.builds(
    lambda a, b, form: form % (a, b),
    small,
    st.integers(1, 12),
    st.sampled_from(["%d/%d", r"\frac{%d}{%d}"]),
)
few = st.sampled_from(
    [
        "1",
        "1.0",
        "1.000",
        "0.5",
        "1/2",
        r"\frac{1}{2}",
        "-1",
        "1.5",
        "3/2",
        "0",
        "0.0",
        "$1",
        "1,000",
        "1000",
    ]
)
plain = st.one_of(integers, decimals, fractions, few)


@given(left=plain, right=plain)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_the_fast_path_gives_math_verifys_verdict(left: str, right: str) -> None:
    pred, gold = tidy(left), tidy(right)
    fast = compare_plain(pred, gold)
    if fast is not None:
        assert compare(pred, gold)[0] is fast


@given(
    value=st.fractions(min_value=-1000, max_value=1000, max_denominator=8),
    form=st.sampled_from(["decimal", "frac"]),
)
@settings(max_examples=60, deadline=None)
def test_equal_numbers_are_equal_to_math_verify_too(value: Fraction, form: str) -> None:
    left = f"{value.numerator}/{value.denominator}"
    right = f"\\frac{{{2 * value.numerator}}}{{{2 * value.denominator}}}"
    if form == "decimal" and value.denominator in (1, 2, 4, 5, 8):
        right = str(float(value))
    assert compare_plain(tidy(left), tidy(right)) is True
    assert compare(tidy(left), tidy(right))[0] is True
