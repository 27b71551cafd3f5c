"""The data plane: POST /models/{name}/predict, and the Open Inference Protocol under /v2."""

from __future__ import annotations

import base64
from functools import cache
from typing import Any

from aws_lambda_powertools.event_handler import APIGatewayHttpResolver, Response
from aws_lambda_powertools.utilities.typing import LambdaContext

from shoal_core import __version__
from shoal_core.aws.access import checks_access
from shoal_core.aws.config import memory_mb
from shoal_core.aws.handler import artifacts, catalog, framed
from shoal_core.aws.problems import answers_problems, json_response
from shoal_core.serving.bodies import unpacked
from shoal_core.serving.inference import infer, metadata, served, server_metadata
from shoal_core.serving.prediction import predict
from shoal_core.serving.protocol import HEADER_LENGTH
from shoal_core.serving.sessions import ModelCache

app = APIGatewayHttpResolver()
answers_problems(app)
checks_access(app)


@cache
def models() -> ModelCache:
    """The models of this process."""
    return ModelCache(artifacts(), catalog(), memory_mb())


@app.post("/models/<name>/predict")
def post_predict(name: str) -> Response[str]:
    """Predict with the version in production."""
    event = app.current_event
    content_type = event.headers.get("content-type", "application/json")
    return json_response(predict(models().production(name), request_body(event.raw_event), content_type))


@app.get("/v2")
def get_server() -> Response[str]:
    """What this server is."""
    return json_response(server_metadata(__version__))


@app.get("/v2/health/live")
def get_live() -> Response[str]:
    """That the server runs."""
    return json_response({"live": True})


@app.get("/v2/health/ready")
def get_ready() -> Response[str]:
    """That the server answers."""
    return json_response({"ready": True})


@app.get("/v2/models/<name>")
@app.get("/v2/models/<name>/versions/<version>")
def get_model(name: str, version: str | None = None) -> Response[str]:
    """A model's inputs and outputs."""
    return json_response(metadata(served(models(), name, version)))


@app.get("/v2/models/<name>/ready")
@app.get("/v2/models/<name>/versions/<version>/ready")
def get_model_ready(name: str, version: str | None = None) -> Response[str]:
    """That a model is loaded and answers."""
    return json_response({"name": served(models(), name, version).name, "ready": True})


@app.post("/v2/models/<name>/infer")
@app.post("/v2/models/<name>/versions/<version>/infer")
def post_infer(name: str, version: str | None = None) -> Response[Any]:
    """Tensors in, tensors out."""
    event = app.current_event
    body, length = infer(
        served(models(), name, version), request_body(event.raw_event), event.headers.get(HEADER_LENGTH)
    )
    if length is None:
        return Response(200, "application/json", body.decode())
    return Response(200, "application/octet-stream", body, headers={HEADER_LENGTH: str(length)})


def request_body(event: dict[str, Any]) -> bytes:
    """The body's bytes; API Gateway sends what isn't text as base64."""
    body = event.get("body") or ""
    data = base64.b64decode(body) if event.get("isBase64Encoded") else body.encode()
    return unpacked(data, (event.get("headers") or {}).get("content-encoding", ""))


@framed
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Answer an HTTP API request (payload format 2.0)."""
    return app.resolve(event, context)
