"""The example of `genprm verify --demo`: a solution that goes wrong in its second step."""

from __future__ import annotations

from genprm.records import VerifyItem

PROBLEM = (
    "In the club, Oda owns 21 pens. Ned had as many pens as Oda and bought 27. Cid has 34 more pens than Ned. "
    "Each of the pens costs 5 coins. How many coins do the pens of Cid cost?"
)
STEPS = (
    "Step 1: Ned had as many as Oda = 21 and bought 27: 21 + 27 = 48, so Ned = 48.",
    "Step 2: Cid has 34 more than Ned = 48: 48 + 34 = 92, so Cid = 92.",
    "Step 3: The pens of Cid = 92 cost 92 * 5 = 460 coins. The answer is \\boxed{460}.",
)


def demo_item() -> VerifyItem:
    """The example."""
    return VerifyItem(id="demo", problem=PROBLEM, steps=STEPS)
