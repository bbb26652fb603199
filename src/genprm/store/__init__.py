"""Run directories: shards keyed by content, written atomically, resumable; the only package that writes them."""

from genprm.store.files import checksum, file_checksum, read_json, write_atomic, write_json
from genprm.store.leases import Mandate, check_mandate
from genprm.store.meta import ShardMeta, ShardRows, StageSummary
from genprm.store.mirror import Mirror
from genprm.store.reader import RunReader
from genprm.store.run import RunStore
from genprm.store.shards import StageStore
from genprm.store.tables import Format

__all__ = [
    "Format",
    "Mandate",
    "Mirror",
    "RunReader",
    "RunStore",
    "ShardMeta",
    "ShardRows",
    "StageStore",
    "StageSummary",
    "check_mandate",
    "checksum",
    "file_checksum",
    "read_json",
    "write_atomic",
    "write_json",
]
