"""What is kept about the attempts of a run's training job."""

from __future__ import annotations

from pydantic import ValidationError

from shoal_core.data.canonical import canonical_json
from shoal_core.errors import NotFound
from shoal_core.frozen import Frozen
from shoal_core.keys import RunKeys
from shoal_core.store import ObjectStore

MAX_ATTEMPTS = 3
"""Attempts of a job that AWS itself failed."""


class JobFailure(Frozen):
    """`job/failure-1.json`: an error of Shoal's that a job's program ended with."""

    error: str
    reason: str
    fix: str


class JobAttempt(Frozen):
    """`job/attempt-1.json`: an attempt that another one follows."""

    job: str
    status: str
    reason: str


def write_failure(artifacts: ObjectStore, run_id: str, attempt: int, failure: JobFailure) -> None:
    """Keep what ended an attempt; the first of several processes counts."""
    data = canonical_json(failure.model_dump(mode="json"))
    artifacts.write_new(RunKeys(run_id).job_failure(attempt), data, "application/json")


def read_failure(artifacts: ObjectStore, run_id: str, attempt: int) -> JobFailure | None:
    """What an attempt's program said that ended it; None when it said nothing."""
    try:
        return JobFailure.model_validate_json(artifacts.read(RunKeys(run_id).job_failure(attempt)))
    except (NotFound, ValidationError):
        return None


def next_attempt(artifacts: ObjectStore, run_id: str) -> int:
    """The number of the attempt to make: one more than those that ended so that another one follows."""
    attempt = 1
    while artifacts.exists(RunKeys(run_id).job_attempt(attempt)):
        attempt += 1
    return attempt


def give_up_attempt(artifacts: ObjectStore, run_id: str, attempt: int, outcome: JobAttempt) -> None:
    """Keep how an attempt ended that another one follows."""
    data = canonical_json(outcome.model_dump(mode="json"))
    artifacts.write_new(RunKeys(run_id).job_attempt(attempt), data, "application/json")
