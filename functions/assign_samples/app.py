"""Assign Samples: which samples each final shard takes."""

from __future__ import annotations

from typing import Any

from shoal_core.aws.handler import RunEvent, artifacts, catalog, stage
from shoal_core.data.assigning import assign_samples, pack_items
from shoal_core.data.map_items import write_map_items
from shoal_core.keys import DatasetKeys


@stage("Assign Samples", RunEvent)
def handler(event: RunEvent) -> dict[str, Any]:
    """Write the items for the Map of Pack Shard and say where they are."""
    assignment = assign_samples(artifacts(), event.dataset, event.version)
    catalog().packs_planned(event.run_id, len(assignment.shards))
    items = [{"first": first, "last": last} for first, last in pack_items(len(assignment.shards))]
    return write_map_items(artifacts(), DatasetKeys(event.dataset, event.version).pack_items, items)
