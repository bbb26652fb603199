"""How a step of a solution becomes the paragraph that a teacher or a verifier reads.

Step forcing makes a policy write `Step k:` in front of every step. The released checkpoints never saw these markers:
they were removed before the teacher read a solution. Whoever shows paragraphs to a model calls this module, and a
prompt profile says whether the markers go (`strip_markers`).
"""

from __future__ import annotations

import re

_MARKER = re.compile(r"Step \d+:\s*")


def strip_marker(step: str) -> str:
    """The step without the `Step k:` that it opens with.

    Only the plain form is a marker here, as for the released checkpoints: a heading such as `**Step 2**` stays. A step
    that is nothing but its marker stays, too, because an empty paragraph cannot be judged.
    """
    marker = _MARKER.match(step)
    return step if marker is None else step[marker.end() :] or step
