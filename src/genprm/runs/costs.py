"""What a run cost, from what its shards recorded."""

from __future__ import annotations

from collections.abc import Iterable

from genprm.records import CostSection
from genprm.store import StageSummary


def stage_costs(summaries: Iterable[StageSummary]) -> CostSection:
    """Tokens, engine, code and wall seconds of each stage."""
    stages = [row for row in summaries if row.row_type not in ("Problem", "")]
    return CostSection(
        tokens={row.stage: row.usage.completion_tokens for row in stages},
        uncounted={row.stage: row.usage.uncounted for row in stages if row.usage.uncounted},
        engine_seconds={row.stage: round(row.usage.engine_seconds, 3) for row in stages},
        code_seconds={row.stage: round(row.usage.code_seconds, 3) for row in stages},
        wall_seconds={row.stage: round(row.seconds, 3) for row in stages},
    )
