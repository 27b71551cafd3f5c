"""Merge Round: combine the workers' updates into the next checkpoint and decide whether to go on."""

from __future__ import annotations

from typing import Any

from aws_lambda_powertools.utilities.parser import BaseModel

from shoal_core.aws.config import environment
from shoal_core.aws.handler import RunEvent, artifacts, catalog, stage
from shoal_core.training.executions import EVENTS, MOST_RETRIES, STARTED, Execution, after_round
from shoal_core.training.merging import merge_round
from shoal_core.training.states import read_round


class WorkerEnd(BaseModel):
    """How a worker ended: with its update, or lost by an error; and how often its task was retried."""

    worker: int
    lost: str | None = None
    retries: int = MOST_RETRIES


class MergeRoundEvent(RunEvent):
    """The round whose workers have all ended, and what the execution had come to before it."""

    round: int
    trained: tuple[WorkerEnd, ...] = ()
    execution: int = 1
    events: int = STARTED


@stage("Merge Round", MergeRoundEvent)
def handler(event: MergeRoundEvent) -> dict[str, Any]:
    """Return the round to run next, here or in a new execution, or that the run is finished."""
    lost = {end.worker: end.lost for end in event.trained if end.lost is not None}
    state = merge_round(artifacts(), event.run_id, event.round, lost, lambda: catalog().workers_wanted(event.run_id))
    record = read_round(artifacts(), event.run_id, event.round)
    shown = record.model_dump(include={"round", "loss", "learning_rate", "validation", "reason", "lost", "workers"})
    catalog().round_merged(event.run_id, event.round, shown)
    execution = after_round(
        Execution(execution=event.execution, events=event.events),
        (event.run_id, event.dataset, event.version),
        len(event.trained),
        sum(end.retries for end in event.trained),
        environment().history_events or EVENTS,
    )
    return {**state.model_dump(), **execution.model_dump()}
