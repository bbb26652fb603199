"""Wall time is shared among what runs at the same time."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genprm.runs import ledger
from genprm.runs.ledger import SharedClock, Slice

spans = st.lists(st.tuples(st.floats(0, 100), st.floats(0.01, 100)), min_size=1, max_size=6)


@given(spans)
def test_slices_add_up_to_the_wall_time_in_which_anything_ran(spans: list[tuple[float, float]]) -> None:
    now = 0.0
    events = sorted(
        [(start, 1, index) for index, (start, _) in enumerate(spans)]
        + [(start + length, 0, index) for index, (start, length) in enumerate(spans)]
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ledger.time, "perf_counter", lambda: now)
        clock = SharedClock()
        stacks = [ExitStack() for _ in spans]
        slices: dict[int, Slice] = {}
        running: set[int] = set()
        busy = 0.0
        for when, begins, index in events:
            busy += when - now if running else 0.0
            now = when
            if begins:
                slices[index] = stacks[index].enter_context(clock.running())
                running.add(index)
            else:
                stacks[index].close()
                running.discard(index)
    assert sum(piece.seconds for piece in slices.values()) == pytest.approx(busy)
    for index, (_, length) in enumerate(spans):
        assert 0 < slices[index].seconds <= length * (1 + 1e-9)


def test_equal_pieces_get_equal_shares(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 10.0
    monkeypatch.setattr(ledger.time, "perf_counter", lambda: now)
    clock = SharedClock()
    now = 15.0
    with clock.running() as first, clock.running() as second:
        now = 17.0
    assert (first.seconds, second.seconds) == (1.0, 1.0), "idle time before them is nobody's"
