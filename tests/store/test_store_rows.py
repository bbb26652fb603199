"""Rows read back as they were written, in either format."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from genprm.records import (
    CodeRound,
    CodeStatus,
    Problem,
    Rationale,
    RefinementTrace,
    RefinementTurn,
    Selection,
    Solution,
    SolutionScores,
    StepRationale,
    StepScore,
    StepVerdict,
    Usage,
    Verification,
    Vote,
)
from genprm.records.selection import Choice
from genprm.store.tables import decode_rows, encode_rows

texts = st.text(max_size=12)
ids = st.text(min_size=1, max_size=12)
shares = st.floats(0, 1)
seconds = st.floats(0, 1e6)
counts = st.integers(0, 2**40)
usages = st.builds(Usage, requests=counts, completion_tokens=counts, engine_seconds=seconds)
values = st.none() | st.integers() | texts | st.lists(st.booleans(), max_size=2)
rounds = st.builds(
    CodeRound, code=texts, output=st.none() | texts, status=st.sampled_from(CodeStatus), seconds=seconds
)
rationales = st.builds(
    StepRationale,
    text=texts,
    rounds=st.lists(rounds, max_size=2).map(tuple),
    judgement=st.none() | st.booleans(),
)
votes = st.builds(
    Vote, path=counts, reward=st.none() | shares, rationale=st.none() | rationales, usage=usages
)
verdicts = st.builds(
    StepVerdict, step=counts, reward=st.none() | shares, votes=st.lists(votes, max_size=2).map(tuple)
)
solutions = st.builds(
    Solution,
    id=ids,
    problem_id=ids,
    steps=st.lists(texts, min_size=1, max_size=3).map(tuple),
    answer=st.none() | texts,
    correct=st.none() | st.booleans(),
    usage=usages,
)
verifications = st.builds(
    Verification,
    item_id=ids,
    problem=texts,
    steps=st.lists(texts, max_size=2).map(tuple),
    verdicts=st.lists(verdicts, max_size=2).map(tuple),
    first_error=st.none() | st.integers(-1, 5),
    seconds=seconds,
)
scores = st.builds(StepScore, correct=counts, total=counts)
ROWS: dict[type[BaseModel], st.SearchStrategy[Any]] = {
    Problem: st.builds(
        Problem,
        id=ids,
        text=ids,
        answer=st.none() | texts,
        metadata=st.dictionaries(texts, values, max_size=3),
    ),
    Solution: solutions,
    SolutionScores: st.builds(
        SolutionScores,
        solution_id=ids,
        problem_id=ids,
        start=scores,
        steps=st.lists(scores, max_size=3).map(tuple),
        usage=usages,
    ),
    Rationale: st.builds(
        Rationale, solution_id=ids, problem_id=ids, steps=st.lists(rationales, max_size=2).map(tuple)
    ),
    Verification: verifications,
    Selection: st.builds(
        Selection,
        problem_id=ids,
        candidates=st.lists(ids, max_size=3).map(tuple),
        choices=st.dictionaries(
            st.sampled_from(["first", "majority", "min"]),
            st.builds(Choice, solution_id=st.none() | ids, correct=st.none() | st.booleans()),
        ),
    ),
    RefinementTrace: st.builds(
        RefinementTrace,
        problem_id=ids,
        solution_id=ids,
        turns=st.lists(
            st.builds(
                RefinementTurn, turn=counts, solution=solutions, verification=st.none() | verifications
            ),
            min_size=1,
            max_size=2,
        ).map(tuple),
    ),
}


@pytest.mark.parametrize("format", ["jsonl", "parquet"])
@pytest.mark.parametrize("row_type", ROWS, ids=lambda row_type: row_type.__name__)
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_rows_read_back_as_written(row_type: type[BaseModel], format: Any, data: st.DataObject) -> None:
    rows = data.draw(st.lists(ROWS[row_type], max_size=3))
    assert decode_rows(encode_rows(rows, format), row_type, format) == rows
