"""Which version of a model serves, changed over HTTP."""

from __future__ import annotations

from typing import Any

from aws_lambda_powertools.event_handler.router import APIGatewayHttpRouter
from pydantic import BaseModel, ConfigDict, Field

from shoal_core.aws.access_routes import audited
from shoal_core.aws.handler import catalog
from shoal_core.registry.openapi import problem_responses

router = APIGatewayHttpRouter()  # type: ignore[no-untyped-call]
ANSWERS: Any = problem_responses(400, 404, 409, 503)


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
