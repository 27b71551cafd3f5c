"""Register Model: the run's model becomes a version, which serves if it is better than the one that does."""

from __future__ import annotations

from typing import Any

from shoal_core.aws.audit import Audit
from shoal_core.aws.clock import now
from shoal_core.aws.events import publish
from shoal_core.aws.handler import RunEvent, artifacts, catalog, stage
from shoal_core.registry.registering import register_model


@stage("Register Model", RunEvent, ends_run=True)
def handler(event: RunEvent) -> dict[str, Any]:
    """Register the optimised model and tell of it."""
    version = register_model(
        artifacts(),
        catalog(),
        run_id=event.run_id,
        dataset=event.dataset,
        dataset_version=event.version,
        created_at=now(),
    )
    name, decision = f"{event.dataset}/{version.version}", version.promotion["decision"]
    details = {"digest": version.digest, "dataset_version": event.version, "decision": decision}
    Audit().record("model.registered", name, f"run:{event.run_id}", details=details, once=f"model {name}")
    told = {"model": event.dataset, "version": version.version, "run_id": event.run_id, "decision": decision}
    publish("ModelRegistered", told)
    return {"model": event.dataset, "model_version": version.version}
