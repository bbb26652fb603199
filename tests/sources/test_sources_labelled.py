"""Step labels and chats from elsewhere: every layout, what is left out and why, and the way back."""

from __future__ import annotations

import gc
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genprm.config import ProblemsConfig
from genprm.errors import ConfigError, DataError
from genprm.identity import content_key
from genprm.records import LabelledSolution, Problem, TrainingSample
from genprm.sources import iterate_chats, iterate_labelled, iterate_rows, load_problems, write_layout

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data"

STEPWISE = {"prompt": "2 + 3?", "completions": ["2 + 3 = 5", "So 6."], "labels": [True, False]}
PRM800K = {
    "question": "2 + 3?",
    "process": "Step: 1: 2 + 3 = 5 ки\nStep: 2: So 6. ки",
    "labels": [1, -1],
}
SHEPHERD = {
    "input": "2 + 3? Step 1: 2 + 3 = 5 ки\nStep 2: So 6. ки",
    "label": "2 + 3? Step 1: 2 + 3 = 5 +\nStep 2: So 6. -",
    "task": "GSM8K",
}
BENCH = {"id": "b-1", "problem": "2 + 3?", "steps": ["a", "b", "c"], "label": 1, "generator": "m"}

OWN = {"schema_version": 1, "id": "o", "problem": "2 + 3?", "steps": ["a", "b"], "labels": [True, None]}


def write(folder: Path, *rows: Any) -> Path:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return path


@pytest.mark.parametrize(
    ("row", "steps", "labels"),
    [
        (STEPWISE, ("2 + 3 = 5", "So 6."), (True, False)),
        ({**STEPWISE, "labels": [1, None]}, ("2 + 3 = 5", "So 6."), (True, None)),
        (PRM800K, ("Step 1: 2 + 3 = 5", "Step 2: So 6."), (True, False)),
        (SHEPHERD, ("Step 1: 2 + 3 = 5", "Step 2: So 6."), (True, False)),
        (BENCH, ("a", "b", "c"), (True, False, None)),
        ({**BENCH, "label": -1}, ("a", "b", "c"), (True, True, True)),
    ],
)
def test_every_layout_becomes_a_labelled_solution(
    row: dict[str, Any], steps: tuple[str, ...], labels: tuple[bool | None, ...], tmp_path: Path
) -> None:
    path = write(tmp_path, row)
    (found,) = iterate_labelled(path)
    assert (found.problem, found.steps, found.labels, found.source) == ("2 + 3?", steps, labels, str(path))
    assert found.id == row.get("id", found.id) and found.id


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"text": "x"}, "unknown_layout"),
        ({**STEPWISE, "prompt": " "}, "no_problem"),
        ({**STEPWISE, "completions": []}, "no_steps"),
        ({**STEPWISE, "completions": "2 + 3 = 5"}, "no_steps"),
        ({**STEPWISE, "completions": ["a", " "]}, "blank_step"),
        ({**STEPWISE, "labels": [True]}, "labels_do_not_match"),
        ({**STEPWISE, "labels": [True, 2]}, "strange_label"),
        ({**STEPWISE, "labels": [True, 0.5]}, "strange_label"),
        ({**STEPWISE, "labels": [True, [1]]}, "strange_label"),
        ({**PRM800K, "process": "Step 1: a ки Step 2: b"}, "step_without_mark"),
        ({**PRM800K, "process": 5}, "no_steps"),
        ({**SHEPHERD, "input": "Step 1: a ки"}, "no_problem"),
        ({**SHEPHERD, "label": "2 + 3? Step 1: 2 + 3 = 5 +\nStep 2: So 7. -"}, "labels_do_not_match"),
        ({**SHEPHERD, "label": "2 + 3? Step 1: 2 + 3 = 5 "}, "labels_do_not_match"),
        ({**BENCH, "label": 3}, "labels_do_not_match"),
        ({**BENCH, "label": True}, "no_labels"),
        ({**BENCH, "id": [1]}, "broken_field"),
        ({"schema_version": 1, "problem": "p", "steps": ["a"], "labels": []}, "no_record"),
        ({**OWN, "problem": " "}, "no_problem"),
        ({**OWN, "steps": ["a", " "]}, "blank_step"),
    ],
)
def test_a_row_that_cannot_be_used_is_left_out_and_counted(
    row: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    path = write(tmp_path, STEPWISE, row)
    rows = iterate_labelled(path)
    assert len(list(rows)) == rows.kept == 1
    assert {name: one.count for name, one in rows.rejected.items()} == {reason: 1}
    assert f"{path}:2" in rows.summary() and reason in rows.summary()
    with pytest.raises(DataError, match=f"none of 1 row can be used, most often: {reason}"):
        list(iterate_labelled(write(tmp_path, row)))


def test_a_layout_that_is_named_is_insisted_on(tmp_path: Path) -> None:
    path = write(tmp_path, STEPWISE, PRM800K)
    rows = iterate_labelled(path, layout="stepwise")
    assert len(list(rows)) == 1 and list(rows.rejected) == ["missing_field"]
    for call in (iterate_labelled, iterate_rows):
        with pytest.raises(ConfigError, match="no layout 'prm'"):
            call(path, layout="prm")


def test_a_file_without_rows_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no rows") as caught:
        list(iterate_labelled(write(tmp_path)))
    assert "it is empty" in caught.value.hint


TEXT = st.text(st.characters(codec="utf-8"), min_size=1).filter(str.strip)
LABELS = st.lists(st.sampled_from([True, False, None]), min_size=1, max_size=6)


@st.composite
def solutions(draw: st.DrawFn) -> LabelledSolution:
    labels = draw(LABELS)
    steps = draw(st.lists(TEXT, min_size=len(labels), max_size=len(labels)))
    return LabelledSolution(id=draw(TEXT), problem=draw(TEXT), steps=tuple(steps), labels=tuple(labels))


def different_solutions() -> st.SearchStrategy[list[LabelledSolution]]:
    """Repeats of problem, steps and labels would be left out."""
    return st.lists(
        solutions(), min_size=1, max_size=4, unique_by=lambda row: (row.problem, row.steps, row.labels)
    )


@settings(max_examples=40, deadline=None)
@given(rows=different_solutions(), suffix=st.sampled_from(["jsonl", "parquet"]))
def test_own_rows_come_back_as_they_were(
    tmp_path_factory: pytest.TempPathFactory, rows: list[LabelledSolution], suffix: str
) -> None:
    path = tmp_path_factory.mktemp("rows") / f"rows.{suffix}"
    assert write_layout(rows, path).rows == len(rows)
    assert list(iterate_labelled(path)) == rows


@settings(max_examples=40, deadline=None)
@given(row=solutions(), suffix=st.sampled_from(["jsonl", "parquet"]))
def test_stepwise_rows_hold_the_labels_up_to_the_first_unknown_one(
    tmp_path_factory: pytest.TempPathFactory, row: LabelledSolution, suffix: str
) -> None:
    path = tmp_path_factory.mktemp("rows") / f"rows.{suffix}"
    known = row.labels.index(None) if None in row.labels else len(row.labels)
    if not known:
        with pytest.raises(DataError, match="1 row left out"):
            write_layout([row], path, "stepwise")
        assert not list(path.parent.iterdir())
        return
    written = write_layout([row], path, "stepwise")
    assert (written.rows, written.left_out) == (1, 0)
    assert written.shortened == (known < len(row.labels))
    (back,) = iterate_labelled(path)
    assert (back.problem, back.steps, back.labels) == (
        row.problem.strip(),
        row.steps[:known],
        row.labels[:known],
    )


def test_a_parquet_file_may_begin_with_problems_without_an_answer(tmp_path: Path) -> None:
    problems = [
        Problem(id=str(number), text="p", answer="4" if number == 1500 else None) for number in range(2000)
    ]
    file = tmp_path / "rows.parquet"
    write_layout(problems, file)
    found = load_problems(ProblemsConfig(source=str(file)))
    assert [(row.id, row.answer) for row in found] == [(row.id, row.answer) for row in problems]


@pytest.mark.filterwarnings("error")
def test_rows_that_end_with_an_error_leave_no_file_and_no_open_writer(tmp_path: Path) -> None:
    def rows() -> Iterator[Problem]:
        yield from (Problem(id=str(number), text="p") for number in range(1030))
        raise DataError("no more")

    with pytest.raises(DataError, match="no more"):
        write_layout(rows(), tmp_path / "rows.parquet")
    gc.collect()
    assert not list(tmp_path.iterdir())


def test_a_parquet_file_may_begin_with_unknown_labels(tmp_path: Path) -> None:
    rows = [
        LabelledSolution(id=str(n), problem=f"p{n}", steps=("a",), labels=(True if n == 1500 else None,))
        for n in range(1501)
    ]
    write_layout(rows, tmp_path / "rows.parquet")
    assert list(iterate_labelled(tmp_path / "rows.parquet")) == rows


# ---------------------------------------------------------------- chats

ANALYSIS = "<analyze>\nLet's analyze the Paragraph 1 step by step: fine.\n</analyze>\n"
CODE = "<verify>\nLet's use python code:\n```python\nprint(2 + 3)\n```\n"
RAN = "[Code Output]\n\n```\n5\n```\n"
YES = "<output>\n**Judgement**: $\\boxed{Yes}$\n</output>\n"


def chat(*answers: str, system: bool = True, column: str = "conversations") -> dict[str, Any]:
    turns = [{"role": "system", "content": "Check."}] if system else []
    for number, answer in enumerate(answers):
        turns += [
            {"role": "user", "content": f"paragraph {number}"},
            {"role": "assistant", "content": answer},
        ]
    return {column: turns}


def own(*roles: str, components: str = "direct", text: str = "x") -> dict[str, Any]:
    """A row of the library's own layout, with turns in any order."""
    turns = [{"role": role, "content": YES if role == "assistant" else text} for role in roles]
    names = {"schema_version": 1, "id": "a", "solution_id": "a", "problem_id": "a"}
    return {**names, "conversations": turns, "form": "direct", "components": components}


@pytest.mark.parametrize(
    ("answer", "form", "components"),
    [
        (ANALYSIS + CODE + RAN + "</verify>\n" + YES, "rationale", "cot+code+execution"),
        (ANALYSIS + CODE + "</verify>\n" + YES, "rationale", "cot+code"),
        (CODE + RAN + "</verify>\n" + YES, "rationale", "code+execution"),
        (ANALYSIS + YES, "rationale", "cot"),
        (YES, "direct", "direct"),
    ],
)
@pytest.mark.parametrize("column", ["conversations", "messages"])
def test_chats_become_training_samples(
    answer: str, form: str, components: str, column: str, tmp_path: Path
) -> None:
    (found,) = iterate_chats(write(tmp_path, chat(answer, answer, column=column)))
    assert (found.form, found.components) == (form, components)
    assert [message.content for message in found.conversations if message.role == "assistant"] == [
        answer
    ] * 2


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"text": "x"}, "no_chat"),
        ({"messages": "x"}, "no_chat"),
        ({"messages": []}, "no_chat"),
        ({"messages": ["x"]}, "no_chat"),
        ({"conversations": [{"from": "human", "value": "x"}]}, "unknown_role"),
        ({"conversations": [{"role": "user", "content": None}]}, "blank_message"),
        ({"conversations": [{"role": "system", "content": "x"}]}, "order_of_roles"),
        ({"conversations": chat(YES)["conversations"][:-1]}, "order_of_roles"),
        ({"conversations": chat(YES)["conversations"] * 2}, "order_of_roles"),
        (chat(YES, "All is well."), "no_judgement"),
        ({"schema_version": 1, "id": "x"}, "no_record"),
        (own("system", "user", "assistant", "system"), "order_of_roles"),
        (own("system", "user", "user", "assistant"), "order_of_roles"),
        (own("system", "user", "assistant", "user"), "order_of_roles"),
        (own("system", "user", "assistant", "assistant"), "order_of_roles"),
        (own("system", "user"), "no_chat"),
        (own("user", "assistant", components="bogus"), "unknown_components"),
        (own("user", "assistant", text=" "), "blank_message"),
    ],
)
def test_a_chat_that_cannot_be_used_is_left_out_and_counted(
    row: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    rows = iterate_chats(write(tmp_path, chat(YES), row))
    assert len(list(rows)) == 1
    assert {name: one.count for name, one in rows.rejected.items()} == {reason: 1}


@pytest.mark.parametrize("layout", ["genprm", "conversations", "messages"])
@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_chats_come_back_from_every_layout(layout: str, suffix: str, tmp_path: Path) -> None:
    rows = list(iterate_chats(write(tmp_path, chat(ANALYSIS + YES), chat(YES, YES, system=False))))
    path = tmp_path / f"chats.{suffix}"
    write_layout(rows, path, layout)
    assert list(iterate_chats(path)) == rows


def test_one_file_holds_one_kind_of_rows(tmp_path: Path) -> None:
    rows = iterate_rows(write(tmp_path, STEPWISE, chat(YES), {**STEPWISE, "prompt": "Another?"}))
    assert [type(row) for row in rows] == [LabelledSolution] * 2
    assert list(rows.rejected) == ["another_kind"]
    (one,) = iterate_rows(write(tmp_path, chat(YES)))
    assert isinstance(one, TrainingSample)


@pytest.mark.parametrize(
    ("path", "layout", "says"),
    [
        ("rows.csv", "stepwise", "unknown kind of file"),
        ("rows.jsonl", "trl", "no layout 'trl'"),
        ("rows.jsonl", "messages", "is for chats"),
    ],
)
def test_what_cannot_be_written_is_one_error(path: str, layout: str, says: str, tmp_path: Path) -> None:
    row = LabelledSolution(id="a", problem="p", steps=("s",), labels=(True,))
    with pytest.raises(ConfigError, match=says):
        write_layout([row], tmp_path / path, layout)
    sample = next(iter(iterate_chats(write(tmp_path, chat(YES)))))
    with pytest.raises(ConfigError, match="is for labelled solutions"):
        write_layout([sample], tmp_path / "x.jsonl", "stepwise")
    assert [one.name for one in tmp_path.iterdir()] == ["rows.jsonl"]


# ---------------------------------------------------------------- real files


@pytest.mark.parametrize(
    ("name", "count", "repeated"),
    [
        ("prm800k/openr_multi-step.json", 310, 14),
        ("math_shepherd/openr_samples.jsonl", 7, 0),
        ("processbench/gsm8k.json", 400, 0),
    ],
)
def test_real_files_are_read_whole(name: str, count: int, repeated: int) -> None:
    path = SHARED / name
    if not path.is_file():
        pytest.skip(f"{path} is not here")
    rows = iterate_labelled(path)
    assert len(list(rows)) == count - repeated
    assert {reason: one.count for reason, one in rows.rejected.items()} == (
        {"repeated": repeated} if repeated else {}
    )


def test_exact_repeats_are_left_out_and_counted(tmp_path: Path) -> None:
    """Other steps or other labels of one problem are no repeats, and neither is a chat that comes twice."""
    row = {"prompt": "P?", "completions": ["a", "b"], "labels": [True, False]}
    rows = [
        row,
        {**row, "id": "again"},
        {**row, "labels": [True, True]},
        {**row, "completions": ["a", "c"]},
        row,
    ]
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(one) + "\n" for one in rows))
    for read in (iterate_labelled(file), iterate_rows(file)):
        found = list(read)
        assert [one.steps[1] for one in found] == ["b", "b", "c"]  # type: ignore[union-attr]
        assert len({one.id for one in found}) == 3
        assert read.rejected["repeated"].count == 2
        assert read.rejected["repeated"].first.startswith(f"{file}:2: ")
    chat: dict[str, object] = {
        "messages": [{"role": "user", "content": "P?"}, {"role": "assistant", "content": YES}]
    }
    file.write_text((json.dumps(chat) + "\n") * 2)
    assert len(list(iterate_rows(file))) == 2


def test_what_import_writes_can_be_run(tmp_path: Path) -> None:
    """An id that several rows have stays with the first of them, and so does that of steps with two sets of labels."""
    one = {"prompt": "P?", "completions": ["a", "b"], "labels": [True, False]}
    rows = [
        {**one, "id": "p1"},
        {**one, "id": "p1", "completions": ["a", "c"]},
        {**one, "id": "p1", "completions": ["a", "c"], "labels": [True, True]},
        {**one, "prompt": " Q? "},
        {**one, "prompt": "Q?", "labels": [False, False]},
    ]
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = list(iterate_labelled(file))
    ids = [row.id for row in found]
    assert len(set(ids)) == len(rows) and ids[0] == "p1"
    assert ids[1] == content_key("P?", ["a", "c"]) and ids[3] == content_key("Q?", ["a", "b"])
    assert [row.id for row in iterate_labelled(file)] == ids
