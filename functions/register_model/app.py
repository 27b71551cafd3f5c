"""Register Model: the run's model becomes a version, and `production` points at it."""

from __future__ import annotations

from typing import Any

from shoal_core.aws.clock import now
from shoal_core.aws.events import publish
from shoal_core.aws.handler import RunEvent, artifacts, catalog, stage
from shoal_core.registry.registering import register_model
from shoal_core.training.evaluating import read_evaluation
from shoal_core.training.optimizing import read_optimization


@stage("Register Model", RunEvent, ends_run=True)
def handler(event: RunEvent) -> dict[str, Any]:
    """Register the optimised model and tell of it."""
    version = register_model(
        artifacts(),
        catalog(),
        run_id=event.run_id,
        dataset=event.dataset,
        dataset_version=event.version,
        model=artifacts().read(read_optimization(artifacts(), event.run_id).model_key),
        metrics=read_evaluation(artifacts(), event.run_id).record(),
        created_at=now(),
    )
    publish("ModelRegistered", {"model": event.dataset, "version": version.version, "run_id": event.run_id})
    return {"model": event.dataset, "model_version": version.version}
