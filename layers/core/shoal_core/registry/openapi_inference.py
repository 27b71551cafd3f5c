"""The part of the OpenAPI document that describes the Open Inference Protocol.

Source: https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/open_inference_rest.yaml
"""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]

_TENSOR: Schema = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "datatype": {"type": "string", "description": "UINT8, INT64, FP32, BYTES …"},
        "shape": {"type": "array", "items": {"type": "integer"}},
    },
    "required": ["name", "datatype", "shape"],
}
_DATA: Schema = {
    "data": {
        "type": "array",
        "items": {},
        "description": "row-major, flat or nested; absent when it follows in binary",
    },
    "parameters": {"type": "object", "properties": {"binary_data_size": {"type": "integer"}}},
}
_VALUES: Schema = {**_TENSOR, "properties": {**_TENSOR["properties"], **_DATA}}
SCHEMAS: dict[str, Schema] = {
    "InferenceServer": {
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "version": {"type": "string"},
            "extensions": {"type": "array", "items": {"type": "string"}},
        },
        "required": ["name", "version", "extensions"],
    },
    "InferenceModel": {
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "versions": {"type": "array", "items": {"type": "string"}},
            "platform": {"type": "string"},
            "inputs": {"type": "array", "items": _TENSOR},
            "outputs": {"type": "array", "items": _TENSOR},
        },
        "required": ["name", "versions", "platform", "inputs", "outputs"],
    },
    "InferenceRequest": {
        "type": "object",
        "properties": {
            "id": {"type": "string"},
            "parameters": {"type": "object", "properties": {"binary_data_output": {"type": "boolean"}}},
            "inputs": {"type": "array", "minItems": 1, "items": _VALUES},
            "outputs": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {
                        "name": {"type": "string"},
                        "parameters": {"type": "object", "properties": {"binary_data": {"type": "boolean"}}},
                    },
                    "required": ["name"],
                },
            },
        },
        "required": ["inputs"],
    },
    "InferenceResponse": {
        "type": "object",
        "properties": {
            "model_name": {"type": "string"},
            "model_version": {"type": "string"},
            "id": {"type": "string"},
            "outputs": {"type": "array", "items": _VALUES},
        },
        "required": ["model_name", "model_version", "outputs"],
    },
}


def inference_paths(problems: dict[str, Schema]) -> dict[str, Schema]:
    """The protocol's paths.

    Args:
        problems: The documented errors of an operation, by status.
    """
    paths: dict[str, Schema] = {
        "/v2": {"get": _get("What this server is", "get_server", _answer("InferenceServer"))},
        "/v2/health/live": {"get": _get("That the server runs", "get_live", _flag("live"))},
        "/v2/health/ready": {"get": _get("That the server answers", "get_ready", _flag("ready"))},
    }
    for suffix, prefix in (("", "model"), ("/versions/{version}", "version")):
        parameters = [_parameter("name"), *([_parameter("version")] if suffix else [])]
        base = f"/v2/models/{{name}}{suffix}"
        meta = _get("Inputs and outputs", f"get_{prefix}_metadata", _answer("InferenceModel"), problems)
        ready = _get("That a model answers", f"get_{prefix}_ready", _flag("ready", "name"), problems)
        paths[base] = {"parameters": parameters, "get": meta}
        paths[f"{base}/ready"] = {"parameters": parameters, "get": ready}
        paths[f"{base}/infer"] = {"parameters": parameters, "post": _infer(f"post_{prefix}_infer", problems)}
    return paths


def _get(summary: str, operation: str, answer: Schema, problems: dict[str, Schema] | None = None) -> Schema:
    errors = {status: value for status, value in (problems or {}).items() if status in ("404", "503")}
    return {"summary": summary, "operationId": operation, "responses": {"200": answer, **errors}}


def _infer(operation: str, problems: dict[str, Schema]) -> Schema:
    binary = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
    request = {"application/json": {"schema": _ref("InferenceRequest")}, **binary}
    answer = {"application/json": {"schema": _ref("InferenceResponse")}, **binary}
    length = {
        "name": "Inference-Header-Content-Length",
        "in": "header",
        "required": False,
        "schema": {"type": "integer", "minimum": 0},
        "description": "bytes of JSON before the binary tensors",
    }
    return {
        "summary": "Tensors in, tensors out",
        "operationId": operation,
        "parameters": [length],
        "requestBody": {"required": True, "content": request},
        "responses": {"200": {"description": "The outputs asked for", "content": answer}, **problems},
    }


def _answer(schema: str) -> Schema:
    return {"description": "OK", "content": {"application/json": {"schema": _ref(schema)}}}


def _flag(flag: str, *texts: str) -> Schema:
    properties = {flag: {"type": "boolean"}, **{text: {"type": "string"} for text in texts}}
    schema = {"type": "object", "properties": properties, "required": [flag]}
    return {"description": "OK", "content": {"application/json": {"schema": schema}}}


def _parameter(name: str) -> Schema:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}


def _ref(schema: str) -> Schema:
    return {"$ref": f"#/components/schemas/{schema}"}
