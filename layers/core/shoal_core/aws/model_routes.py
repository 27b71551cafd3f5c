"""Models over HTTP: what there is, and which version serves."""

from __future__ import annotations

from functools import cache
from typing import Any

from aws_lambda_powertools.event_handler.router import APIGatewayHttpRouter
from pydantic import BaseModel, ConfigDict, Field

from shoal_core.aws.access_routes import audited
from shoal_core.aws.config import environment
from shoal_core.aws.handler import artifacts, catalog
from shoal_core.registry.openapi import problem_responses
from shoal_core.registry.queries import Models, Queries
from shoal_core.registry.records import Model

router = APIGatewayHttpRouter()  # type: ignore[no-untyped-call]
ANSWERS: Any = problem_responses(400, 404, 409, 503)


NOT_FOUND: Any = problem_responses(404, 503)
READS: Any = problem_responses(503)


@cache
def queries() -> Queries:
    """The catalog's questions."""
    return Queries(catalog(), artifacts(), environment().architecture)


class AliasRequest(BaseModel):
    """Where `production` goes; without a version, back to the one that served before."""

    model_config = ConfigDict(extra="forbid")

    version: int | None = Field(default=None, ge=1)


class AliasMoved(BaseModel):
    """Which version served, and which one serves now."""

    model: str
    alias: str = "production"
    before: int
    version: int


@router.post("/models/<name>/aliases/production", summary="Choose the version that serves", responses=ANSWERS)
def post_production(name: str, body: AliasRequest) -> AliasMoved:
    """Move `production`; every new request has the version within seconds."""
    before, version = catalog().move_production(name, body.version)
    if version != before:
        audited(router, "alias.moved", f"{name}/production", {"before": before, "version": version})
    return AliasMoved(model=name, before=before, version=version)


@router.get("/models", summary="All models", responses=READS)
def get_models() -> Models:
    """List every model with its version in production."""
    return queries().models()


@router.get("/models/<name>", summary="One model: versions, aliases, inputs, endpoint", responses=NOT_FOUND)
def get_model(name: str) -> Model:
    """Show one model."""
    event = router.current_event
    scheme = event.headers.get("x-forwarded-proto", "https")
    return queries().model(name, f"{scheme}://{event.request_context.domain_name}")
