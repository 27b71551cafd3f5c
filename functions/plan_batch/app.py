"""Plan Batch: the model's version, and the pieces of a job."""

from __future__ import annotations

from typing import Any

from shoal_core.aws.handler import BatchEvent, artifacts, batch_stage, batches, catalog, uploads
from shoal_core.data.map_items import write_map_items
from shoal_core.keys import BatchKeys
from shoal_core.serving.batches.planning import plan_batch
from shoal_core.serving.batches.request import read_request


@batch_stage("Plan Batch", BatchEvent)
def handler(event: BatchEvent) -> dict[str, Any]:
    """Plan the job, and say where the Map's pieces are."""
    request = read_request(artifacts(), BatchKeys(event.model, event.job))
    plan = plan_batch(uploads(), artifacts(), catalog(), request)
    batches().planned(event.model, event.job, plan.version, len(plan.pieces), plan.warnings)
    items = [{"piece": piece} for piece in range(len(plan.pieces))]
    return write_map_items(artifacts(), plan.keys.work_items, items)
