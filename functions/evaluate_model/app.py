"""Evaluate Model: the exported model on one shard of the test split, beside the champion; and the merged result."""

from __future__ import annotations

from typing import Any

from shoal_core.aws.handler import RunEvent, artifacts, catalog, stage
from shoal_core.training.comparing import compare_shard, is_compared
from shoal_core.training.evaluating import evaluate_shard, merge_evaluation


class EvaluateModelEvent(RunEvent):
    """A shard to evaluate; None when all of them are done and wait to be merged."""

    shard: int | None = None


@stage("Evaluate Model", EvaluateModelEvent)
def handler(event: EvaluateModelEvent) -> dict[str, Any]:
    """Evaluate a shard, or merge the shards' results into the run's metrics."""
    if event.shard is not None:
        evaluate_shard(artifacts(), event.run_id, event.shard)
        champion = catalog().champion_of(event.dataset, event.run_id)
        if champion is not None and is_compared(artifacts(), event.run_id):
            compare_shard(artifacts(), event.run_id, event.shard, champion)
        return {"shard": event.shard}
    evaluation = merge_evaluation(artifacts(), event.run_id)
    catalog().run_evaluated(event.run_id, evaluation.record())
    return {}
