"""What a verifier or a teacher says about steps: reading it, writing it, showing executed output."""

from genprm.text.transcript.fences import FENCE_OPEN, CodeBlock, find_code
from genprm.text.transcript.output import (
    FENCE_STOP,
    MAX_OUTPUT_CHARS,
    NOTHING_PRINTED,
    format_output,
    neutralise,
    output_block,
    truncate,
)
from genprm.text.transcript.review import THINK_END, TeacherReview, Thinking, parse_review
from genprm.text.transcript.turns import (
    JUDGEMENTS,
    Judgement,
    Layout,
    Segment,
    Turn,
    build_turn,
    count_judgements,
    cut_analysis,
    find_judgement,
    output_spans,
    parse_step,
    parse_turn,
    render_turn,
)

__all__ = [
    "FENCE_OPEN",
    "FENCE_STOP",
    "JUDGEMENTS",
    "MAX_OUTPUT_CHARS",
    "NOTHING_PRINTED",
    "THINK_END",
    "CodeBlock",
    "Judgement",
    "Layout",
    "Segment",
    "TeacherReview",
    "Thinking",
    "Turn",
    "build_turn",
    "count_judgements",
    "cut_analysis",
    "find_code",
    "find_judgement",
    "format_output",
    "neutralise",
    "output_block",
    "output_spans",
    "parse_review",
    "parse_step",
    "parse_turn",
    "render_turn",
    "truncate",
]
