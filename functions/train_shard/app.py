"""Train Shard: one worker's local steps of one round."""

from __future__ import annotations

from typing import Any

from shoal_core.aws.handler import RunEvent, artifacts, stage
from shoal_core.training.rounds import train_shard


class TrainShardEvent(RunEvent):
    """One worker of one round."""

    round: int
    worker: int


@stage("Train Shard", TrainShardEvent)
def handler(event: TrainShardEvent) -> dict[str, Any]:
    """Train from the round's checkpoint and write the update."""
    train_shard(artifacts(), event.run_id, event.round, event.worker)
    return {"worker": event.worker}
