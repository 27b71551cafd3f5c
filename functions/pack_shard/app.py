"""Pack Shard: the final shards of one item of the assignment."""

from __future__ import annotations

from typing import Any

from shoal_core.aws.handler import RunEvent, artifacts, catalog, stage
from shoal_core.data.packing import pack_shard


class PackShardEvent(RunEvent):
    """Shards first..last (exclusive)."""

    first: int
    last: int


@stage("Pack Shard", PackShardEvent)
def handler(event: PackShardEvent) -> dict[str, Any]:
    """Pack the item's shards and count each as done."""
    for shard in range(event.first, event.last):
        pack_shard(artifacts(), event.dataset, event.version, shard)
        catalog().shard_packed(event.run_id, shard)
    return {"first": event.first, "last": event.last}
