"""A run's failure as the API shows it: the reason and the fix, whoever recorded it."""

from __future__ import annotations

import json

import pytest

from shoal_core.registry.views import run_view

RUN = {
    "sk": "RUN",
    "run_id": "flowers-0",
    "dataset": "flowers",
    "version": "0",
    "status": "failed",
    "stage": "Train Shard",
    "created_at": "2026-11-21T08:00:00.000Z",
    "updated_at": "2026-11-21T08:00:01.000Z",
}


def task_failure(error: str, message: str) -> str:
    """What Step Functions hands to Record Failure when a Lambda function raised."""
    return json.dumps({"Error": error, "Cause": json.dumps({"errorType": error, "errorMessage": message})})


@pytest.mark.parametrize(
    ("error", "cause", "reason", "fix"),
    [
        ("BadTable", task_failure("BadTable", "No rows. Fix: Add rows."), "No rows.", "Add rows."),
        (
            "ClientError",
            task_failure("ClientError", "AccessDenied: s3:PutObject"),
            "AccessDenied: s3:PutObject",
            "polic",
        ),
        (
            "States.Timeout",
            json.dumps({"Error": "States.Timeout"}),
            "States.Timeout without a message.",
            "more workers",
        ),
        ("KeyError", task_failure("KeyError", "'x'"), "'x'", "fault in Shoal"),
        ("BadName", "No name. Fix: Give one.", "No name.", "Give one."),
    ],
)
def test_a_failure_has_its_reason_and_a_fix(error: str, cause: str, reason: str, fix: str) -> None:
    failure = run_view([{**RUN, "error": error, "cause": cause}], "x86_64").failure
    assert failure is not None
    assert (failure.stage, failure.error, failure.reason) == ("Train Shard", error, reason)
    assert fix in failure.fix


def test_items_of_a_distributed_map_cost_a_transition_more_each() -> None:
    def stage(name: str) -> dict[str, object]:
        times = {"started_at": RUN["created_at"], "finished_at": RUN["updated_at"]}
        return {"sk": f"STAGE#{name}", "name": name, "invocations": 4, "megabyte_ms": 0, **times}

    run = {**RUN, "status": "running"}
    inline, distributed = (run_view([run, stage(name)], "x86_64").cost_usd for name in ("Train Shard", "Write Shard"))
    assert distributed - inline == pytest.approx(4 * 0.025 / 1_000)
