"""Follow Job: show the rounds of a SageMaker training job, and decide what to do once it has ended."""

from __future__ import annotations

from typing import Any

from shoal_core.aws.handler import RunEvent, artifacts, catalog, stage
from shoal_core.training.following import JobDescription, follow_job, job_usage
from shoal_core.training.states import last_round, read_round


class FollowJobEvent(RunEvent):
    """A look at the run's job: what was asked for, what SageMaker says, and how often it was asked before."""

    job: dict[str, Any]
    described: JobDescription
    looks: int = 0


@stage("Follow Job", FollowJobEvent)
def handler(event: FollowJobEvent) -> dict[str, Any]:
    """Return that the run is trained, that its job is asked for again, or when to look again."""
    run_id, job = event.run_id, event.described
    catalog().job_seen(run_id, job.TrainingJobName, job_usage(job))
    try:
        following = follow_job(artifacts(), run_id, job, event.looks)
    finally:
        # Also where the job failed: what it got done is shown.
        shown = catalog().run_record(run_id).get("last_round", 0)
        for round_ in range(shown + 1, last_round(artifacts(), run_id) + 1):
            record = read_round(artifacts(), run_id, round_)
            told = record.model_dump(include={"round", "loss", "learning_rate", "validation", "reason", "workers"})
            catalog().round_merged(run_id, round_, told)
    state = following.state.model_dump() if following.state else {}
    return {**following.model_dump(exclude={"state"}), **state, "job": event.job}
