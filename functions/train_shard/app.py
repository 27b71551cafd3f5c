"""Train Shard: one worker's local steps of one round."""

from __future__ import annotations

from typing import Any

from shoal_core.aws.handler import RunEvent, artifacts, seconds_left, stage
from shoal_core.training.rounds import train_shard


class TrainShardEvent(RunEvent):
    """One worker of one round."""

    round: int
    worker: int


@stage("Train Shard", TrainShardEvent)
def handler(event: TrainShardEvent) -> dict[str, Any]:
    """Train from the round's checkpoint, or from where an attempt before ran out of time, and write the update."""
    train_shard(artifacts(), event.run_id, event.round, event.worker, seconds_left)
    return {"worker": event.worker}
