"""Real outputs of the released 7B checkpoint, as its authors' demo printed them, are read and written again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from genprm.records import CodeStatus
from genprm.text.prompts import VerifierProfile, load_profile
from genprm.text.transcript import parse_step, render_turn

PATH = Path(__file__).resolve().parents[4] / "shared/data/genprm_outputs/genprm7b_parsed.jsonl"
SHAPES = {
    "a complete turn": (
        "<analyze>\nLet's analyze the Paragraph 1 step by step: 1. The sum of 1 to 3 is 6.\n</analyze>\n"
        "<verify>\nLet's use python code to find any potential error:\n```python\nprint(sum(range(4)))  # 6\n```\n"
        "[Code Output]\n\n```\n6\n```\nThe code agrees.\n</verify>\n"
        "<output>\n**Judgement**: $\\boxed{Yes}$\n</output>\n"
    ),
    "two blanks after the lead": (
        "<analyze>\nLet's analyze the Paragraph 1 step by step:  The sum is 6.\n</analyze>\n"
        "<verify>\nLet's use python code to find any potential error:\n```python\nprint(6)\n```\n"
        "[Code Output]\n\n```\n6\n```\n</verify>\n<output>\n**Judgement**: $\\boxed{No}$\n</output>\n"
    ),
}


@pytest.mark.parametrize("text", SHAPES.values(), ids=SHAPES)
def test_a_turn_of_the_checkpoints_shape_is_written_again_byte_for_byte(text: str) -> None:
    step = parse_step(text)
    assert step.judgement is not None and len(step.rounds) == 1
    assert render_turn(step, load_profile("genprm", VerifierProfile), index=0) == text


def test_prose_in_the_opened_fence_is_no_code_and_the_judgement_counts() -> None:
    text = (
        "<analyze>\nLet's analyze the Paragraph 1 step by step: Right.\n</analyze>\n<verify>\n"
        "Let's use python code to find any potential error:\n```python\nThe code confirms it. Correct.\n"
        "</verify>\n<output>\n**Judgement**: $\\boxed{Yes}$\n</output>\n"
    )
    step = parse_step(text)
    assert (step.judgement, step.rounds) == (True, ())


@pytest.mark.skipif(not PATH.exists(), reason="the recorded outputs are not here")
def test_recorded_outputs_are_read_and_written_again() -> None:
    rows = [json.loads(line) for line in PATH.read_text(encoding="utf-8").splitlines()]
    profile = load_profile("genprm", VerifierProfile)
    assert len(rows) == 22
    for row in rows:
        step = parse_step(row["text"])
        assert step.analysis.startswith("Let's analyze the Paragraph 1 step by step:")
        assert profile.verify_open in row["text"]
        complete = row["kind"] == "complete_output"
        assert step.judgement is (True if complete else None)
        if "[Code Output]" in row["text"]:
            (run,) = step.rounds
            assert run.output is not None and run.output.endswith("5050") and run.status is CodeStatus.OK
        if complete and step.rounds:
            assert render_turn(step, profile, index=0) == row["text"]
        if not complete:
            _, _, asked = row["text"].partition("<｜User｜>")
            assert asked.startswith("Question: ")
            assert "5050\\).<analyze>\nLet's analyze" in asked, "continued without the assistant's header"
