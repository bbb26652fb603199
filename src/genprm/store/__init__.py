"""Run directories: sharded, keyed by content, atomic, resumable."""

from genprm.store.files import content_key, read_json, write_atomic, write_json
from genprm.store.run import RunStore, ShardMeta, StageStore, StageSummary

__all__ = [
    "RunStore",
    "ShardMeta",
    "StageStore",
    "StageSummary",
    "content_key",
    "read_json",
    "write_atomic",
    "write_json",
]
