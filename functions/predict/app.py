"""The data plane: POST /models/{name}/predict."""

from __future__ import annotations

import base64
from functools import cache
from typing import Any

from aws_lambda_powertools.event_handler import APIGatewayHttpResolver, Response
from aws_lambda_powertools.utilities.typing import LambdaContext

from shoal_core.aws.config import memory_mb
from shoal_core.aws.handler import artifacts, catalog, framed
from shoal_core.aws.problems import answers_problems, json_response
from shoal_core.serving.prediction import predict
from shoal_core.serving.sessions import ModelCache

app = APIGatewayHttpResolver()
answers_problems(app)


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


def request_body(event: dict[str, Any]) -> bytes:
    """The body's bytes; API Gateway sends what isn't text as base64."""
    body = event.get("body") or ""
    return base64.b64decode(body) if event.get("isBase64Encoded") else body.encode()


@framed
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Answer an HTTP API request (payload format 2.0)."""
    return app.resolve(event, context)
