"""Plan Shards: infer the preprocessing spec and cut a dataset version into work items."""

from __future__ import annotations

from typing import Any

from shoal_core.aws.handler import RunEvent, artifacts, catalog, stage, uploads
from shoal_core.data.map_items import write_map_items
from shoal_core.data.planning import plan_dataset
from shoal_core.keys import DatasetKeys


@stage("Plan Shards", RunEvent)
def handler(event: RunEvent) -> dict[str, Any]:
    """Write the items for the Map of Write Shard and say where they are."""
    plan = plan_dataset(uploads(), artifacts(), event.dataset, event.version, catalog().alias)
    catalog().shards_planned(event.run_id, len(plan.items))
    items = [{"item": index} for index in range(len(plan.items))]
    return write_map_items(artifacts(), DatasetKeys(event.dataset, event.version).work_items, items)
