"""Evaluate Model: the exported model on one shard of the test split, and the merged result."""

from __future__ import annotations

from typing import Any

from shoal_core.aws.handler import RunEvent, artifacts, catalog, stage
from shoal_core.training.evaluating import evaluate_shard, merge_evaluation


class EvaluateModelEvent(RunEvent):
    """A shard to evaluate; None when all of them are done and wait to be merged."""

    shard: int | None = None


@stage("Evaluate Model", EvaluateModelEvent)
def handler(event: EvaluateModelEvent) -> dict[str, Any]:
    """Evaluate a shard, or merge the shards' results into the run's metrics."""
    if event.shard is not None:
        evaluate_shard(artifacts(), event.run_id, event.shard)
        return {"shard": event.shard}
    evaluation = merge_evaluation(artifacts(), event.run_id)
    catalog().run_evaluated(event.run_id, evaluation.record())
    return {}
