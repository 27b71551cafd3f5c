"""The part of the OpenAPI document that the control plane can't derive from its own routes: the data plane."""

from __future__ import annotations

from typing import Any

from shoal_core.registry.openapi_inference import SCHEMAS, inference_paths
from shoal_core.registry.records import Predictions, Problem

_REF = "#/components/schemas/{model}"
OPEN_PATHS = frozenset({"/healthz", "/openapi.json"})


def with_predict(document: dict[str, Any]) -> dict[str, Any]:
    """Add the data plane, the problem schema and the bearer token to the control plane's document."""
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    for model in (Predictions, Problem):
        schema = model.model_json_schema(ref_template=_REF)
        schemas.update(schema.pop("$defs", {}))
        schemas[model.__name__] = schema
    components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    components["schemas"]["GatewayRefusal"] = {
        "type": "object",
        "description": "API Gateway's own answer, which can't be a problem document: send the header "
        "`Authorization: Bearer TOKEN`; `shoal status` shows the token.",
        "properties": {"message": {"type": "string", "enum": ["Unauthorized", "Forbidden"]}},
    }
    document["security"] = [{"token": []}]
    schemas.update(SCHEMAS)
    document["paths"]["/models/{name}/predict"] = {"post": _operation()}
    problems = {str(status): value for status, value in problem_responses(400, 404, 413, 503).items()}
    document["paths"].update(inference_paths(problems))
    for path, operations in document["paths"].items():
        for operation in (value for method, value in operations.items() if method != "parameters"):
            if path in OPEN_PATHS:
                operation["security"] = []
            else:
                operation["responses"] |= _refusals()
    return document


def problem_responses(*statuses: int) -> dict[int, dict[str, Any]]:
    """Documented errors of an operation."""
    content = {"application/problem+json": {"schema": {"$ref": _REF.format(model="Problem")}}}
    return {status: {"description": "See `detail` and `fix`.", "content": content} for status in statuses}


def _refusals() -> dict[str, dict[str, Any]]:
    content = {"application/json": {"schema": {"$ref": _REF.format(model="GatewayRefusal")}}}
    return {
        "401": {"description": "The request has no token.", "content": content},
        "403": {"description": "The token is wrong.", "content": content},
    }


def _operation() -> dict[str, Any]:
    instances = {"type": "array", "minItems": 1, "maxItems": 1000, "items": {"type": "object"}}
    binary = {"schema": {"type": "string", "format": "binary"}}
    answer = {"application/json": {"schema": {"$ref": _REF.format(model="Predictions")}}}
    return {
        "summary": "Predict with the version in production",
        "operationId": "post_predict",
        "parameters": [{"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {
                        "type": "object",
                        "properties": {"instances": instances},
                        "required": ["instances"],
                        "additionalProperties": False,
                    }
                },
                "text/plain": {"schema": {"type": "string"}},
                "application/octet-stream": binary,
                "image/png": binary,
                "image/jpeg": binary,
            },
        },
        "responses": {
            "200": {"description": "Predictions in the order of the instances", "content": answer},
            **{str(status): value for status, value in problem_responses(400, 404, 413, 503).items()},
        },
    }
