"""The control plane: datasets, runs and models over HTTP."""

from __future__ import annotations

from typing import Annotated, Any

from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.event_handler.openapi.params import Query
from aws_lambda_powertools.utilities.typing import LambdaContext

from shoal_core import __version__
from shoal_core.aws.access import checks_access
from shoal_core.aws.access_routes import router as access_routes
from shoal_core.aws.alias_routes import router as alias_routes
from shoal_core.aws.batch_routes import router as batch_routes
from shoal_core.aws.handler import framed
from shoal_core.aws.model_routes import queries
from shoal_core.aws.model_routes import router as model_routes
from shoal_core.aws.network_routes import router as network_routes
from shoal_core.aws.problems import json_response
from shoal_core.aws.quote_routes import router as quote_routes
from shoal_core.aws.report_routes import router as report_routes
from shoal_core.aws.run_routes import router as run_routes
from shoal_core.aws.stream_routes import router as stream_routes
from shoal_core.aws.tuning_routes import router as tuning_routes
from shoal_core.aws.validated_api import ValidatedApi
from shoal_core.registry.openapi import answers, with_data_plane
from shoal_core.registry.queries import Datasets, Runs
from shoal_core.registry.records import Dataset, Health, Run

app = ValidatedApi()
checks_access(app)
app.include_router(access_routes)
app.include_router(alias_routes)
app.include_router(batch_routes)
app.include_router(model_routes)
app.include_router(network_routes)
app.include_router(quote_routes)
app.include_router(report_routes)
app.include_router(run_routes)
app.include_router(stream_routes)
app.include_router(tuning_routes)
NOT_FOUND: Any = answers(404, 503)
BAD_QUERY: Any = answers(400, 503)


@app.get("/healthz", summary="Whether the API answers")
def healthz() -> Health:
    """Answer without touching anything."""
    return Health(version=__version__)


@app.get("/openapi.json", summary="This document")
def openapi() -> Response[str]:
    """Describe the API."""
    document = app.get_openapi_schema(title="Shoal", version=__version__)
    return json_response(with_data_plane(document.model_dump(mode="json", by_alias=True, exclude_none=True)))


@app.get("/datasets", summary="All datasets", responses=answers(503))
def get_datasets() -> Datasets:
    """List every dataset with its newest version."""
    return queries().datasets()


@app.get("/datasets/<name>", summary="One dataset and its versions", responses=NOT_FOUND)
def get_dataset(name: str) -> Dataset:
    """Show one dataset."""
    return queries().dataset(name)


@app.get("/datasets/<name>/versions/<version>/report", summary="What was kept, dropped and why", responses=NOT_FOUND)
def get_report(name: str, version: str) -> dict[str, Any]:
    """Show a version's report."""
    return queries().report(name, version)


@app.get("/runs", summary="The newest runs first", responses=BAD_QUERY)
def get_runs(dataset: Annotated[str | None, Query()] = None, limit: Annotated[int, Query(ge=1, le=1000)] = 100) -> Runs:
    """List runs, of one dataset or of all."""
    return queries().runs(dataset, limit)


@app.get("/runs/<run_id>", summary="One run with its rounds", responses=NOT_FOUND)
def get_run(run_id: str) -> Run:
    """Show one run."""
    return queries().run(run_id)


@framed
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Answer an HTTP API request (payload format 2.0)."""
    return app.resolve(event, context)
