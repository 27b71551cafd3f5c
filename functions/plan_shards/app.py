"""Plan Shards: infer the preprocessing spec and cut a dataset version into work items."""

from __future__ import annotations

from typing import Any

from shoal_core.aws.handler import RunEvent, artifacts, catalog, stage, uploads
from shoal_core.data.planning import plan_dataset


@stage("Plan Shards", RunEvent)
def handler(event: RunEvent) -> dict[str, Any]:
    """Return the items for the Map of Write Shard."""
    plan = plan_dataset(uploads(), artifacts(), event.dataset, event.version)
    catalog().shards_planned(event.run_id, len(plan.items))
    return {"items": [{"item": index} for index in range(len(plan.items))]}
