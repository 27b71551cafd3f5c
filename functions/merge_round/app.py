"""Merge Round: combine the workers' updates into the next checkpoint and decide whether to go on."""

from __future__ import annotations

from typing import Any

from shoal_core.aws.handler import RunEvent, artifacts, catalog, stage
from shoal_core.training.merging import merge_round
from shoal_core.training.states import read_round


class MergeRoundEvent(RunEvent):
    """The round whose updates are all there."""

    round: int


@stage("Merge Round", MergeRoundEvent)
def handler(event: MergeRoundEvent) -> dict[str, Any]:
    """Return the round to run next, or that the run is finished."""
    state = merge_round(artifacts(), event.run_id, event.round)
    record = read_round(artifacts(), event.run_id, event.round)
    catalog().round_merged(
        event.run_id, event.round, record.model_dump(include={"round", "loss", "learning_rate", "validation", "reason"})
    )
    return state.model_dump()
