"""What a run cost, from what its shards recorded."""

from __future__ import annotations

from genprm.records import CostSection
from genprm.store import RunReader


def stage_costs(reader: RunReader) -> CostSection:
    """Tokens, engine, code and wall seconds of each stage."""
    stages = [row for row in reader.stages() if row.row_type not in ("Problem", "")]
    return CostSection(
        tokens={row.stage: row.usage.completion_tokens for row in stages},
        engine_seconds={row.stage: round(row.usage.engine_seconds, 3) for row in stages},
        code_seconds={row.stage: round(row.usage.code_seconds, 3) for row in stages},
        wall_seconds={row.stage: round(row.seconds, 3) for row in stages},
    )
