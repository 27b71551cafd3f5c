"""Runs by request over HTTP, and other workers for a run that goes on."""

from __future__ import annotations

from typing import Any

from aws_lambda_powertools.event_handler.router import APIGatewayHttpRouter
from pydantic import BaseModel, ConfigDict, Field

from shoal_core.aws.access import caller_of, source_of
from shoal_core.aws.access_routes import audited
from shoal_core.aws.audit import Audit
from shoal_core.aws.executions import start_training
from shoal_core.aws.handler import artifacts, catalog
from shoal_core.aws.networks import check_network
from shoal_core.registry.audit import Caller
from shoal_core.registry.openapi import answers
from shoal_core.registry.records import RunStarted, WorkersChanged
from shoal_core.registry.requesting import RequestRun, change_workers, committed_version
from shoal_core.training.requests import RunRequest

router = APIGatewayHttpRouter()  # type: ignore[no-untyped-call]
STARTS: Any = answers(400, 404, 409, 503, success=202)
CHANGES: Any = answers(400, 404, 409, 503)


class TrainRequest(BaseModel):
    """A run on a committed version; `overrides` are fields of dataset.yaml that concern the run, nested as there."""

    model_config = ConfigDict(extra="forbid")

    version: str | None = Field(default=None, description="the newest committed one when left out")
    overrides: dict[str, Any] = Field(default={}, description="recipe, training, workers and the like")
    network: str | None = Field(
        default=None, pattern="^[0-9a-f]{64}$", description="sha256 of an ONNX network at networks/<sha256>.onnx"
    )


class WorkersRequest(BaseModel):
    """How many workers the run shall have from its next round on."""

    model_config = ConfigDict(extra="forbid")

    workers: int = Field(ge=1)


@router.post("/datasets/<name>/runs", summary="Train on a committed version", responses=STARTS, status_code=202)
def post_run(name: str, body: TrainRequest) -> RunStarted:
    """Start a run; the same request again finds the same run."""
    event = router.current_event.raw_event
    asks = caller_of(event)
    version = committed_version(catalog(), name, body.version)
    request = RunRequest(dataset=name, version=version, overrides=body.overrides, network=body.network)
    caller = Caller(who=asks.id if asks else "nobody", source=source_of(event))
    return RequestRun(artifacts(), catalog(), start_training, Audit(), check_network)(request, caller)


@router.put("/runs/<run_id>/workers", summary="Give a run other workers from its next round on", responses=CHANGES)
def put_workers(run_id: str, body: WorkersRequest) -> WorkersChanged:
    """Change how many workers a run has."""
    changed = change_workers(catalog(), run_id, body.workers)
    if changed.before != changed.workers:
        audited(router, "run.workers", run_id, {"before": changed.before, "workers": changed.workers})
    return changed
