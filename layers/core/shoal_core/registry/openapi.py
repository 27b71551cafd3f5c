"""The part of the OpenAPI document that the control plane can't derive from its own routes: the data plane."""

from __future__ import annotations

from typing import Any

from shoal_core.registry.openapi_inference import SCHEMAS, inference_paths
from shoal_core.registry.records import Predictions, Problem

_REF = "#/components/schemas/{model}"
OPEN_PATHS = frozenset({"/healthz", "/openapi.json"})
_NAME = {"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}
_GATEWAY_REFUSAL = {
    "type": "object",
    "description": "API Gateway's own answer, which can't be a problem document. Unauthorized: send the header "
    "`Authorization: Bearer TOKEN`; `shoal status` shows the token.",
    "properties": {"message": {"type": "string"}},
    "required": ["message"],
}


def with_data_plane(document: dict[str, Any]) -> dict[str, Any]:
    """Add the data plane, problems, the bearer token and the gateway's answers to the control plane's document."""
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    for model in (Predictions, Problem):
        schema = model.model_json_schema(ref_template=_REF)
        schemas.update(schema.pop("$defs", {}))
        schemas[model.__name__] = schema
    document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    schemas["GatewayRefusal"] = _GATEWAY_REFUSAL
    # Powertools' answer to what doesn't fit; ours is 400 (aws/validated_api.py).
    for unused in ("HTTPValidationError", "ResponseValidationError", "ValidationError"):
        schemas.pop(unused, None)
    document["security"] = [{"token": []}]
    schemas.update(SCHEMAS)
    problems = {str(status): value for status, value in _problems(400, 404, 413, 503).items()}
    document["paths"]["/models/{name}/predict"] = {"post": _operation("post_predict", problems, _NAME)}
    document["paths"].update(_sagemaker_paths(problems))
    document["paths"].update(inference_paths(problems))
    for path, operations in document["paths"].items():
        for operation in (value for method, value in operations.items() if method != "parameters"):
            operation["responses"].pop("422", None)
            if "{" in path:
                # A name that none can have finds no route at all.
                operation["responses"].setdefault("404", problems["404"])
            operation["responses"] |= _refusals("requestBody" in operation)
            if path in OPEN_PATHS:
                operation["security"] = []
            else:
                operation["responses"] |= _denials()
    return document


def answers(*statuses: int, success: int = 200) -> dict[int, dict[str, Any]]:
    """What a route's `responses` must hold: its own answer, whose schema is its return type, and documented errors."""
    return {success: {"description": "OK"}, **_problems(*statuses)}


def _problems(*statuses: int) -> dict[int, dict[str, Any]]:
    content = {"application/problem+json": {"schema": {"$ref": _REF.format(model="Problem")}}}
    return {status: {"description": "See `detail` and `fix`.", "content": content} for status in statuses}


def _refusals(has_body: bool) -> dict[str, dict[str, Any]]:
    """What any request may be answered with, by the gateway or by the function behind it."""
    found = {"429": "Too many requests", "500": "Shoal or a function failed", "503": "A service can't be reached"}
    if has_body:
        found |= {"413": "The request is too large", "415": "The Content-Type isn't supported"}
    return {status: _either(description) for status, description in found.items()}


def _denials() -> dict[str, dict[str, Any]]:
    gateway = {"application/json": {"schema": {"$ref": _REF.format(model="GatewayRefusal")}}}
    return {
        "401": {"description": "The request has no token.", "content": gateway},
        "403": _either("The token is wrong, or lacks the scope"),
    }


def _either(description: str) -> dict[str, Any]:
    gateway = {"schema": {"$ref": _REF.format(model="GatewayRefusal")}}
    problem = {"schema": {"$ref": _REF.format(model="Problem")}}
    return {"description": description, "content": {"application/json": gateway, "application/problem+json": problem}}


_CHOICE: list[dict[str, Any]] = [
    {
        "name": "version",
        "in": "query",
        "required": False,
        "schema": {"type": "string"},
        "description": "ask this version, by number or alias; the one whose turn it is when left out",
    },
    {
        "name": "Shoal-Key",
        "in": "header",
        "required": False,
        "schema": {"type": "string", "maxLength": 200},
        "description": "during a canary or an A/B split the same key always meets the same version",
    },
]


def _operation(operation: str, problems: dict[str, Any], *parameters: dict[str, Any]) -> dict[str, Any]:
    """Predictions for people: `POST /models/{name}/predict`, and SageMaker's paths that lead there."""
    instances = {"type": "array", "minItems": 1, "maxItems": 1000, "items": {"type": ["object", "string"]}}
    binary = {"schema": {"type": "string", "format": "binary"}}
    text = {"schema": {"type": "string"}}
    rows = {
        "type": "object",
        "properties": {"instances": instances},
        "required": ["instances"],
        "additionalProperties": False,
    }
    top = {
        "name": "top",
        "in": "query",
        "required": False,
        "schema": {"type": "integer", "minimum": 1, "maximum": 999999},
        "description": "tell probabilities of so many classes, the likeliest first; of all when left out",
    }
    form = {"schema": {"type": "object", "additionalProperties": {"type": "string"}}}
    content = {
        "application/json": {"schema": rows},
        **dict.fromkeys(("text/plain", "text/csv", "application/jsonlines"), text),
        **dict.fromkeys(("application/octet-stream", "application/x-image", "image/png", "image/jpeg"), binary),
        **dict.fromkeys(("multipart/form-data", "application/x-www-form-urlencoded"), form),
    }
    answer = {"application/json": {"schema": {"$ref": _REF.format(model="Predictions")}}, "text/csv": text}
    return {
        "summary": "Predict with the version in production",
        "operationId": operation,
        "parameters": [*parameters, top, *_CHOICE],
        "requestBody": {"required": True, "content": content},
        "responses": {
            "200": {"description": "Predictions in the order of the instances", "content": answer},
            **problems,
        },
    }


def _sagemaker_paths(problems: dict[str, Any]) -> dict[str, Any]:
    """What clients and containers of SageMaker call."""
    target = {
        "name": "X-Amzn-SageMaker-Target-Model",
        "in": "header",
        "required": False,
        "schema": {"type": "string"},
        "description": "the model; the stack's DefaultModel when left out",
    }
    ping = {
        "type": "object",
        "properties": {"status": {"type": "string", "enum": ["ok"]}},
        "required": ["status"],
    }
    answer = {"description": "OK", "content": {"application/json": {"schema": ping}}}
    return {
        "/ping": {
            "get": {"summary": "Whether models can be asked", "operationId": "get_ping", "responses": {"200": answer}}
        },
        "/invocations": {"post": _operation("post_invocations", problems, target)},
        "/endpoints/{name}/invocations": {"post": _operation("post_endpoint", problems, _NAME)},
    }
