"""Examples of what was dropped: the first ones of each reason, bounded in number and in length."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from genprm.generate.examples import EXAMPLE_CHARS, examples_of, with_few_examples
from genprm.records import Dropped, Example

rows = st.lists(
    st.builds(
        Dropped,
        item_id=st.just("p"),
        problem_id=st.just("p"),
        stage=st.just("s"),
        reason=st.sampled_from(["a", "b"]),
        examples=st.lists(
            st.builds(Example, id=st.text(max_size=3), text=st.text(max_size=3)), max_size=4
        ).map(tuple),
    ),
    max_size=6,
)


@given(rows=rows, keep=st.integers(0, 5))
def test_the_first_examples_of_each_reason_stay(rows: list[Dropped], keep: int) -> None:
    found = with_few_examples(rows, keep)
    assert [row.model_copy(update={"examples": ()}) for row in found] == [
        row.model_copy(update={"examples": ()}) for row in rows
    ]
    for reason in ("a", "b"):
        given = [one for row in rows if row.reason == reason for one in row.examples]
        assert [one for row in found if row.reason == reason for one in row.examples] == given[:keep]


def test_empty_texts_are_no_examples_and_long_ones_lose_their_middle() -> None:
    long = "begin" + "x" * 10_000 + "end"
    first, second = examples_of([("a", ""), ("b", long), ("c", "short"), ("d", "too many")], 2)
    assert (first.id, second) == ("b", Example(id="c", text="short"))
    assert first.text.startswith("begin") and first.text.endswith("end") and "cut" in first.text
    assert len(first.text) < EXAMPLE_CHARS + 100
