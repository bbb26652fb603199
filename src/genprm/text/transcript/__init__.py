"""What a verifier or a teacher says about steps: reading it, writing it, showing executed output."""

from genprm.text.transcript.output import (
    FENCE_STOP,
    MAX_OUTPUT_CHARS,
    format_output,
    neutralise,
    output_block,
    truncate,
)
from genprm.text.transcript.review import TeacherReview, parse_review
from genprm.text.transcript.turns import (
    FENCE_OPEN,
    JUDGEMENTS,
    CodeBlock,
    Judgement,
    Layout,
    Segment,
    Turn,
    build_turn,
    cut_analysis,
    find_code,
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
    "CodeBlock",
    "Judgement",
    "Layout",
    "Segment",
    "TeacherReview",
    "Turn",
    "build_turn",
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
