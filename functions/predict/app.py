"""The data plane: POST /models/{name}/predict, and the Open Inference Protocol under /v2."""

from __future__ import annotations

from typing import Any

from aws_lambda_powertools.event_handler import APIGatewayHttpResolver, Response
from aws_lambda_powertools.utilities.typing import LambdaContext

from shoal_core.aws.access import checks_access
from shoal_core.aws.handler import framed
from shoal_core.aws.inference_routes import models, request_body
from shoal_core.aws.inference_routes import router as inference_routes
from shoal_core.aws.problems import answers_problems, json_response
from shoal_core.serving.prediction import predict

app = APIGatewayHttpResolver()
answers_problems(app)
checks_access(app)
app.include_router(inference_routes)


@app.post("/models/<name>/predict")
def post_predict(name: str) -> Response[str]:
    """Predict with the version in production."""
    event = app.current_event
    content_type = event.headers.get("content-type", "application/json")
    return json_response(predict(models().production(name), request_body(event.raw_event), content_type))


@framed
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Answer an HTTP API request (payload format 2.0)."""
    return app.resolve(event, context)
