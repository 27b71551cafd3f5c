"""The Open Inference Protocol over HTTP; SageMaker's paths; what `POST /models/{name}/predict` shares with them."""

from __future__ import annotations

import base64
import csv
import io
from typing import Any

from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.event_handler.router import APIGatewayHttpRouter

from shoal_core import __version__
from shoal_core.aws.doors import target_model
from shoal_core.aws.problems import json_response
from shoal_core.aws.traffic import answer, models
from shoal_core.errors import BadRequest
from shoal_core.serving.bodies import unpacked
from shoal_core.serving.inference import infer, metadata, served, server_metadata
from shoal_core.serving.protocol import HEADER_LENGTH

router = APIGatewayHttpRouter()  # type: ignore[no-untyped-call]


def request_body(event: dict[str, Any]) -> bytes:
    """The body's bytes, unpacked; API Gateway sends what isn't text as base64."""
    body = event.get("body") or ""
    data = base64.b64decode(body) if event.get("isBase64Encoded") else body.encode()
    return unpacked(data, (event.get("headers") or {}).get("content-encoding", ""))


def wanted_top(event: dict[str, Any]) -> int | None:
    """`?top=K`: of how many classes probabilities are asked for; None for all. Raises `BadRequest`."""
    given = (event.get("queryStringParameters") or {}).get("top")
    if given is None:
        return None
    if not (given.isascii() and given.isdigit() and 0 < len(given) < 7 and int(given)):
        raise BadRequest(f"The parameter top is {given[:40]!r}.", "Give a whole number from 1 on, or leave it out.")
    return int(given)


def predictions_response(found: dict[str, Any], accept: str) -> Response[str]:
    """Predictions as JSON, or where CSV is accepted first as a line per instance.

    A line holds the label and its probability, all labels that apply, the value, or the score and whether it is
    anomalous (`true` or `false`).
    """
    first, _, _ = accept.partition(",")
    if first.partition(";")[0].strip().lower() != "text/csv":
        return json_response(found)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows(map(_cells, found["predictions"]))
    return Response(200, "text/csv; charset=utf-8", text.getvalue())


def _cells(prediction: dict[str, Any]) -> list[Any]:
    """A prediction's line of CSV: never an empty one, which readers pass over."""
    if "value" in prediction:
        return [prediction["value"]]
    if "labels" in prediction:
        return prediction["labels"] or [""]
    if "score" in prediction:
        return [prediction["score"], "true" if prediction["anomalous"] else "false"]
    return [prediction["label"], prediction["probability"]]


@router.get("/ping")
def get_ping() -> Response[str]:
    """That the server answers: SageMaker's health check, and a load balancer's."""
    return json_response({"status": "ok"})


@router.post("/invocations")
def post_invocations() -> Response[str]:
    """SageMaker's path, which `doors.answered` leads to the model's own; here are those that name no model."""
    return json_response({"model": target_model(router.current_event.headers)})


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
    request = request_body(event.raw_event)
    call = {"route": "infer", "header_length": length_of_json}
    body, length = answer(
        event.raw_event, name, version, call, request, lambda model: infer(model, request, length_of_json)
    )
    if length is None:
        return Response(200, "application/json", body.decode())
    return Response(200, "application/octet-stream", body, headers={HEADER_LENGTH: str(length)})
