"""With a mirror: from an actor's folder to the driver's run directory, by way of the mirror."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from genprm.store import Mirror, ShardMeta, StageStore


async def take_over(
    mirror: Mirror | None, stores: Mapping[str, StageStore[Any]], metas: Mapping[str, ShardMeta]
) -> bool:
    """Copy what an actor made or found of a shard to the run directory.

    Args:
        mirror: None: the actor works in the run directory itself.
        stores: the run directory's, by stage.
        metas: what the actor reported, by stage.

    Returns:
        False if the mirror says something else: an actor that was taken for dead was still at work, and wrote last. Then
        the shard has to be led again, by what is there.

    Raises:
        StoreError: the mirror cannot be read.
    """
    if mirror is None:
        return True
    for stage, meta in metas.items():
        store = stores[stage]
        if not _is_there(store, meta):
            await mirror.fetch(store, meta.number, meta.key)
            if not _is_there(store, meta):
                return False
        store.keep_only(meta.number, meta.key)
    return True


def _is_there(store: StageStore[Any], meta: ShardMeta) -> bool:
    found = store.find(meta.number, meta.key)
    return found is not None and found.seal == meta.seal
