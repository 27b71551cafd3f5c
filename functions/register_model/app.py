"""Register Model: the run's model becomes a version, and `production` points at it."""

from __future__ import annotations

from typing import Any

from shoal_core.aws.audit import Audit
from shoal_core.aws.clock import now
from shoal_core.aws.events import publish
from shoal_core.aws.handler import RunEvent, artifacts, catalog, stage
from shoal_core.registry.registering import register_model
from shoal_core.training.candidates import read_optimization
from shoal_core.training.evaluating import read_evaluation


@stage("Register Model", RunEvent, ends_run=True)
def handler(event: RunEvent) -> dict[str, Any]:
    """Register the optimised model and tell of it."""
    optimization = read_optimization(artifacts(), event.run_id)
    version = register_model(
        artifacts(),
        catalog(),
        run_id=event.run_id,
        dataset=event.dataset,
        dataset_version=event.version,
        model=artifacts().read(optimization.model_key),
        metrics=read_evaluation(artifacts(), event.run_id).record(),
        optimization=optimization.model_dump(
            mode="json", include={"served", "split", "samples", "metric", "candidates"}
        ),
        created_at=now(),
    )
    name = f"{event.dataset}/{version.version}"
    details = {"digest": version.digest, "dataset_version": event.version}
    Audit().record("model.registered", name, f"run:{event.run_id}", details=details, once=f"model {name}")
    publish("ModelRegistered", {"model": event.dataset, "version": version.version, "run_id": event.run_id})
    return {"model": event.dataset, "model_version": version.version}
