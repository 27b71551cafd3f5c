"""S3 upload events under models/ -> verified versions of models."""

from __future__ import annotations

import time
from typing import Any

from aws_lambda_powertools.utilities.parser import event_parser
from aws_lambda_powertools.utilities.parser.models import S3Model
from aws_lambda_powertools.utilities.typing import LambdaContext

from shoal_core.aws.audit import Audit
from shoal_core.aws.clock import now
from shoal_core.aws.config import memory_mb
from shoal_core.aws.events import publish
from shoal_core.aws.handler import artifacts, catalog, framed, logger, uploads
from shoal_core.aws.imports import STAGE, Imports
from shoal_core.aws.upload_events import uploaded
from shoal_core.importing.bringing import Imported, ImportModel
from shoal_core.registry.ingesting import Upload


@framed
@event_parser(model=S3Model)
def handler(event: S3Model, context: LambdaContext) -> dict[str, Any]:
    """Handle each finished write; a repeated event finds what the first one did."""
    return {"outcomes": [_import(Upload(**uploaded(record))) for record in event.Records]}


def _import(upload: Upload) -> dict[str, Any]:
    started = time.perf_counter()
    found = ImportModel(uploads(), artifacts(), Imports(), now, memory_mb=memory_mb())(upload)
    outcome = found.outcome
    logger.info("model uploaded", key=upload.key, status=outcome.status, run_id=outcome.run_id, reason=outcome.reason)
    if outcome.run_id:
        milliseconds = round((time.perf_counter() - started) * 1000)
        catalog().add_usage(outcome.run_id, STAGE, milliseconds, memory_mb())
        _tell(found, outcome.run_id)
    return {"status": outcome.status, "run_id": outcome.run_id, "reason": outcome.reason}


def _tell(found: Imported, run_id: str) -> None:
    """The audit record and the event of a version; the run has succeeded last, so that whoever sees it sees all."""
    if found.version is None:
        return
    name = f"{found.model}/{found.version.version}"
    details = {"digest": found.version.digest, "upload": found.version.lineage["upload"]["key"]}
    Audit().record("model.imported", name, f"run:{run_id}", details=details, once=f"model {name}")
    publish("ModelRegistered", {"model": found.model, "version": found.version.version, "run_id": run_id})
    catalog().run_succeeded(run_id, found.model, found.version.version)
