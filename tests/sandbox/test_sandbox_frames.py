"""Frames and outcomes: what is written is read, and arbitrary bytes are refused without harm."""

from __future__ import annotations

import json
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genprm.sandbox.box import frames
from genprm.sandbox.box.frames import Decoder, Frame, FrameError, Outcome

QUIET = settings(deadline=None, max_examples=80)
HEADERS = st.dictionaries(
    st.text(max_size=8),
    st.one_of(st.integers(-(2**53), 2**53), st.text(max_size=20), st.none()),
    max_size=5,
)
OUTCOMES = st.builds(
    Outcome,
    st.sampled_from(["ok", "timeout"]),
    st.none(),
    st.none(),
    st.one_of(st.none(), st.integers(0, 2**39)),
) | st.builds(Outcome, st.just("error"), st.text(max_size=300), st.text(max_size=9000), st.none())


@QUIET
@given(st.lists(st.tuples(HEADERS, st.binary(max_size=50)), max_size=5), st.data())
def test_frames_survive_any_cutting_of_the_stream(
    sent: list[tuple[dict, bytes]], data: st.DataObject
) -> None:
    stream = b"".join(frames.encode(header, body) for header, body in sent)
    decoder, received = Decoder(), []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        received += decoder.feed(stream[:size])
        stream = stream[size:]
    assert received == [Frame(header, body) for header, body in sent]


@QUIET
@given(st.binary(max_size=400))
def test_arbitrary_bytes_give_frames_or_a_frame_error(data: bytes) -> None:
    decoder = Decoder()
    try:
        for frame in decoder.feed(data):
            assert isinstance(frame.header, dict)
    except FrameError:
        pass


@QUIET
@given(st.binary(max_size=60), st.binary(max_size=60))
def test_arbitrary_bytes_behind_true_lengths(head: bytes, body: bytes) -> None:
    try:
        (frame,) = Decoder().feed(struct.pack(">II", len(head), len(body)) + head + body)
        assert frame.body == body
        assert frame.header == json.loads(head)
    except FrameError:
        pass


@pytest.mark.parametrize(
    "lengths", [(frames.MAX_HEADER + 1, 0), (2, frames.MAX_BODY + 1), (2**32 - 1, 2**32 - 1)]
)
def test_a_length_over_its_cap_is_refused_before_it_is_waited_for(lengths: tuple[int, int]) -> None:
    with pytest.raises(FrameError):
        Decoder().feed(struct.pack(">II", *lengths))


def test_what_the_other_side_would_refuse_is_not_sent() -> None:
    with pytest.raises(FrameError):
        frames.encode({"x": "y" * frames.MAX_HEADER})


@QUIET
@given(st.binary(max_size=400))
def test_arbitrary_bytes_are_an_outcome_or_a_frame_error(data: bytes) -> None:
    try:
        outcome = frames.decode_outcome(data)
    except FrameError:
        return
    assert outcome.status in ("ok", "error", "timeout")


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["ok", "error", "timeout"]),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@QUIET
@given(
    st.one_of(
        JSON, st.tuples(st.sampled_from(["ok", "error", "timeout", "died"]), JSON, JSON, JSON).map(list)
    )
)
def test_arbitrary_json_is_an_outcome_of_the_right_types_or_a_frame_error(value: object) -> None:
    try:
        outcome = frames.decode_outcome(json.dumps(value).encode())
    except FrameError:
        return
    assert outcome.status in ("ok", "error", "timeout")
    assert (outcome.error_type is not None) == (outcome.status == "error")
    assert outcome.error_message is None or len(outcome.error_message) <= frames.MAX_MESSAGE
    assert outcome.peak_kb is None or 0 <= outcome.peak_kb < 1 << 40
    frames.encode({"type": outcome.error_type, "message": outcome.error_message})


@QUIET
@given(OUTCOMES)
def test_every_outcome_fits_and_can_be_read(outcome: Outcome) -> None:
    data = frames.encode_outcome(outcome)
    assert len(data) <= frames.MAX_OUTCOME
    again = frames.decode_outcome(data)
    assert (again.status, again.peak_kb) == (outcome.status, outcome.peak_kb)
    if outcome.error_message is not None:
        assert again.error_message is not None
        shown = outcome.error_message.encode("utf-8", "replace").decode()
        assert shown.startswith(again.error_message)


@pytest.mark.parametrize(
    "data",
    [b"[" * 100_000, b"[" * 16_000, b"9" * 16_000, b'["ok",null,null,1e9]', b'["ok",null,null,true]'],
)
def test_hostile_outcomes(data: bytes) -> None:
    with pytest.raises(FrameError):
        frames.decode_outcome(data)
