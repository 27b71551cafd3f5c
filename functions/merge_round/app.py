"""Merge Round: combine the workers' updates into the next checkpoint and decide whether to go on."""

from __future__ import annotations

from typing import Any

from aws_lambda_powertools.utilities.parser import BaseModel

from shoal_core.aws.handler import RunEvent, artifacts, catalog, stage
from shoal_core.training.merging import merge_round
from shoal_core.training.states import read_round


class WorkerEnd(BaseModel):
    """How a worker ended: with its update, or lost by an error."""

    worker: int
    lost: str | None = None


class MergeRoundEvent(RunEvent):
    """The round whose workers have all ended."""

    round: int
    trained: tuple[WorkerEnd, ...] = ()


@stage("Merge Round", MergeRoundEvent)
def handler(event: MergeRoundEvent) -> dict[str, Any]:
    """Return the round to run next, or that the run is finished."""
    lost = {end.worker: end.lost for end in event.trained if end.lost is not None}
    state = merge_round(artifacts(), event.run_id, event.round, lost)
    record = read_round(artifacts(), event.run_id, event.round)
    shown = record.model_dump(include={"round", "loss", "learning_rate", "validation", "reason", "lost"})
    catalog().round_merged(event.run_id, event.round, shown)
    return state.model_dump()
