"""The Open Inference Protocol over HTTP."""

from __future__ import annotations

import base64
from functools import cache
from typing import Any

from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.event_handler.router import APIGatewayHttpRouter

from shoal_core import __version__
from shoal_core.aws.config import memory_mb
from shoal_core.aws.handler import artifacts, catalog
from shoal_core.aws.problems import json_response
from shoal_core.serving.bodies import unpacked
from shoal_core.serving.inference import infer, metadata, served, server_metadata
from shoal_core.serving.protocol import HEADER_LENGTH
from shoal_core.serving.sessions import ModelCache

router = APIGatewayHttpRouter()  # type: ignore[no-untyped-call]


@cache
def models() -> ModelCache:
    """The models of this process."""
    return ModelCache(artifacts(), catalog(), memory_mb())


def request_body(event: dict[str, Any]) -> bytes:
    """The body's bytes, unpacked; API Gateway sends what isn't text as base64."""
    body = event.get("body") or ""
    data = base64.b64decode(body) if event.get("isBase64Encoded") else body.encode()
    return unpacked(data, (event.get("headers") or {}).get("content-encoding", ""))


@router.get("/v2")
def get_server() -> Response[str]:
    """What this server is."""
    return json_response(server_metadata(__version__))


@router.get("/v2/health/live")
def get_live() -> Response[str]:
    """That the server runs."""
    return json_response({"live": True})


@router.get("/v2/health/ready")
def get_ready() -> Response[str]:
    """That the server answers."""
    return json_response({"ready": True})


@router.get("/v2/models/<name>")
@router.get("/v2/models/<name>/versions/<version>")
def get_model(name: str, version: str | None = None) -> Response[str]:
    """A model's inputs and outputs."""
    return json_response(metadata(served(models(), name, version)))


@router.get("/v2/models/<name>/ready")
@router.get("/v2/models/<name>/versions/<version>/ready")
def get_model_ready(name: str, version: str | None = None) -> Response[str]:
    """That a model is loaded and answers."""
    return json_response({"name": served(models(), name, version).name, "ready": True})


@router.post("/v2/models/<name>/infer")
@router.post("/v2/models/<name>/versions/<version>/infer")
def post_infer(name: str, version: str | None = None) -> Response[Any]:
    """Tensors in, tensors out."""
    event = router.current_event
    length_of_json = event.headers.get(HEADER_LENGTH)
    body, length = infer(served(models(), name, version), request_body(event.raw_event), length_of_json)
    if length is None:
        return Response(200, "application/json", body.decode())
    return Response(200, "application/octet-stream", body, headers={HEADER_LENGTH: str(length)})
