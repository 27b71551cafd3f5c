"""What a dataset gives to a network of one's own, over HTTP."""

from __future__ import annotations

from typing import Annotated, Any

from aws_lambda_powertools.event_handler.openapi.params import Query
from aws_lambda_powertools.event_handler.router import APIGatewayHttpRouter

from shoal_core.aws.handler import catalog
from shoal_core.aws.networks import network_inputs
from shoal_core.registry.network_records import NetworkInputs
from shoal_core.registry.openapi import answers
from shoal_core.registry.requesting import committed_version

router = APIGatewayHttpRouter()  # type: ignore[no-untyped-call]
ASKED: Any = answers(404, 409, 503)


@router.get("/datasets/<name>/inputs", summary="What a network of your own is given", responses=ASKED)
def get_inputs(name: str, version: Annotated[str | None, Query()] = None) -> NetworkInputs:
    """Show the tensors of a dataset version as networks take them; of the newest committed one when none is named."""
    return NetworkInputs.model_validate(network_inputs(name, committed_version(catalog(), name, version)))
