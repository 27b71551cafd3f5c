"""The data plane: POST /models/{name}/predict, and the Open Inference Protocol under /v2."""

from __future__ import annotations

from typing import Any

from aws_lambda_powertools.event_handler import APIGatewayHttpResolver, Response
from aws_lambda_powertools.utilities.typing import LambdaContext

from shoal_core.aws.access import checks_access
from shoal_core.aws.doors import answered
from shoal_core.aws.handler import framed
from shoal_core.aws.inference_routes import predictions_response, request_body, wanted_top
from shoal_core.aws.inference_routes import router as inference_routes
from shoal_core.aws.problems import answers_problems
from shoal_core.aws.snapshots import prepare
from shoal_core.aws.traffic import answer, is_task, run_task
from shoal_core.serving.prediction import predict

app = APIGatewayHttpResolver()
answers_problems(app)
checks_access(app)
app.include_router(inference_routes)


@app.post("/models/<name>/predict")
def post_predict(name: str) -> Response[str]:
    """Predict with the version whose turn it is, or the one that `?version=` asks for."""
    event = app.current_event
    content_type = event.headers.get("content-type", "application/json")
    body, version = request_body(event.raw_event), (event.query_string_parameters or {}).get("version")
    top = wanted_top(event.raw_event)
    call = {"route": "predict", "content_type": content_type}
    found = answer(event.raw_event, name, version, call, body, lambda model: predict(model, body, content_type, top))
    return predictions_response(found, event.headers.get("accept", ""))


@framed
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Answer a request of the HTTP API, a Function URL or a load balancer, or do a task of Shoal's own."""
    return run_task(event) if is_task(event) else answered(event, lambda request: app.resolve(request, context))


prepare()
