"""Compute Features: what a run's backbone makes of some shards, once; and the index of all of them."""

from __future__ import annotations

from typing import Any

from shoal_core.aws.handler import RunEvent, artifacts, stage
from shoal_core.training.featuring import commit_features, compute_features


class ComputeFeaturesEvent(RunEvent):
    """Shards first..last (exclusive) of those that training reads; None when all are done and wait for their index."""

    first: int | None = None
    last: int | None = None


@stage("Compute Features", ComputeFeaturesEvent)
def handler(event: ComputeFeaturesEvent) -> dict[str, Any]:
    """Compute the features of the item's shards, or write the index."""
    if event.first is None or event.last is None:
        commit_features(artifacts(), event.run_id)
        return {}
    compute_features(artifacts(), event.run_id, event.first, event.last)
    return {"first": event.first, "last": event.last}
