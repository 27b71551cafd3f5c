"""Why a trial failed, from what Step Functions caught or the run's record holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shoal_core.data.canonical import canonical_json
from shoal_core.registry.views import failure_view
from shoal_core.training.tuning.records import TrialFailure


def failure_of_run(run: Mapping[str, Any]) -> TrialFailure | None:
    """The failure of a run, from its record; None for a run that hasn't failed."""
    found = failure_view(run)
    return None if found is None else TrialFailure(**found.model_dump())


def failure_caught(stage: str, caught: Mapping[str, Any]) -> TrialFailure:
    """What a Catch of the state machine found, with reason and fix.

    Args:
        stage: Where.
        caught: `Error` and `Cause`, as Step Functions tells them.
    """
    error, cause = str(caught.get("Error", "States.Runtime")), canonical_json(dict(caught)).decode()
    found = failure_of_run({"status": "failed", "stage": stage, "error": error, "cause": cause})
    return found or TrialFailure(stage=stage, error=error, reason="", fix="")
