"""Write Shard: encode one work item of a dataset version."""

from __future__ import annotations

from typing import Any

from shoal_core.aws.handler import RunEvent, artifacts, catalog, stage, uploads
from shoal_core.data.writing import write_shard


class WriteShardEvent(RunEvent):
    """One item of the plan."""

    item: int


@stage("Write Shard", WriteShardEvent)
def handler(event: WriteShardEvent) -> dict[str, Any]:
    """Write the item's pieces and count it as done."""
    write_shard(uploads(), artifacts(), event.dataset, event.version, event.item)
    catalog().shard_written(event.run_id, event.item)
    return {"item": event.item}
