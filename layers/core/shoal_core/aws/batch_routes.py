"""Batch jobs over HTTP. A job starts with an upload to `batch/MODEL/JOB/`: see `registry.batches`."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any

from aws_lambda_powertools.event_handler.openapi.params import Query
from aws_lambda_powertools.event_handler.router import APIGatewayHttpRouter

from shoal_core.aws.clock import now
from shoal_core.aws.config import environment
from shoal_core.aws.handler import artifacts, batches
from shoal_core.errors import NotFound
from shoal_core.keys import BatchKeys
from shoal_core.registry.batch_records import Batch, BatchError, BatchErrors, Batches, batch_view, light
from shoal_core.registry.openapi import answers
from shoal_core.registry.queries import PARALLEL_QUERIES

router = APIGatewayHttpRouter()  # type: ignore[no-untyped-call]
BAD_QUERY: Any = answers(400, 503)
NOT_FOUND: Any = answers(404, 503)
BAD_QUERY_OF_JOB: Any = answers(400, 404, 503)


@router.get("/batches", summary="The newest batch jobs first", responses=BAD_QUERY)
def get_batches(
    model: Annotated[str | None, Query()] = None, limit: Annotated[int, Query(ge=1, le=1000)] = 100
) -> Batches:
    """List batch jobs, of one model or of all."""
    with ThreadPoolExecutor(PARALLEL_QUERIES) as pool:
        found = list(pool.map(lambda name: _batch(*name), batches().newest(model, limit)))
    return Batches(batches=[light(batch) for batch in found])


@router.get("/batches/<model>/<job>", summary="One batch job: progress, cost, output", responses=NOT_FOUND)
def get_batch(model: str, job: str) -> Batch:
    """Show one batch job."""
    return _batch(model, job)


@router.get("/batches/<model>/<job>/errors", summary="Records without an answer", responses=BAD_QUERY_OF_JOB)
def get_batch_errors(model: str, job: str, limit: Annotated[int, Query(ge=1, le=1000)] = 100) -> BatchErrors:
    """Show the first records of a job that couldn't be answered, and why."""
    batch = _batch(model, job)
    keys = BatchKeys(model, job)
    found: list[BatchError] = []
    for piece in range(batch.pieces_total):
        if len(found) >= limit or len(found) >= batch.errors:
            break
        try:
            data = artifacts().read(keys.errors(piece))
        except NotFound:
            continue
        found += [BatchError.model_validate(json.loads(line)) for line in data.splitlines()[: limit - len(found)]]
    return BatchErrors(errors=found, total=batch.errors)


def _batch(model: str, job: str) -> Batch:
    return batch_view(batches().items(model, job), environment().architecture, now())
