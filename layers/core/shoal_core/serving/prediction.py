"""From a request's bytes to predictions, for people: an image, a text or JSON in, labels or values out."""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shoal_core.data.spec import PreprocessingSpec
from shoal_core.errors import BadRequest, TooLarge
from shoal_core.serving.sessions import ServedModel, outputs

MAX_INSTANCES = 1000
THRESHOLD = 0.5
"""Of several labels, those apply that are at least as likely as this: as the metrics have it."""


def predict(model: ServedModel, body: bytes, content_type: str) -> dict[str, Any]:
    """Answer `POST /models/{name}/predict`.

    Args:
        model: The version that serves.
        body: One image file, one text, or JSON: `{"instances": [...]}`, a list, or one row (of a model of sequences
            `{"rows": [...]}`, oldest row first).
        content_type: The request's; `image/*` and `application/octet-stream` mean one image, `text/plain` one text for
            a model of one text column, all else is JSON.

    Returns:
        `{"model", "version", "task", "predictions": [...]}`, predictions in the order of the instances: `label`,
        `probability` and `probabilities` (classification), `labels` (those with a probability of at least 1/2, the
        likeliest first) and `probabilities` (multilabel), or `value` (regression).

    Raises:
        BadInput: The body doesn't hold what the model takes; names the instance and the fix.
    """
    tensors = _tensors(model.spec, body, content_type.partition(";")[0].strip().lower())
    result = outputs(model, tensors)
    return {
        "model": model.name,
        "version": model.version,
        "task": model.spec.target.task,
        "predictions": _predictions(model.spec, result),
    }


def _tensors(spec: PreprocessingSpec, body: bytes, content_type: str) -> dict[str, NDArray[Any]]:
    if not body:
        raise BadRequest("The request has no body.", _expected(spec))
    if content_type.startswith("image/") or content_type == "application/octet-stream":
        return {"image": spec.encode_image(body)[np.newaxis]}
    if content_type == "text/plain":
        return spec.encode_rows([{_only_text(spec): _decoded(body)}])
    instances = _instances(spec, body)
    if spec.kind == "table":
        return spec.encode_rows(instances)
    if spec.kind == "sequence":
        return spec.encode_windows(instances)
    return {"image": np.stack([_image(spec, entry, number) for number, entry in enumerate(instances, 1)])}


def _instances(spec: PreprocessingSpec, body: bytes) -> Sequence[Any]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        # ValueError covers bad UTF-8, bad JSON, and integers too long for Python to convert.
        raise BadRequest(f"The request's body isn't valid JSON: {error}.", _expected(spec)) from error
    if isinstance(value, dict):
        value = value["instances"] if set(value) == {"instances"} else [value]
    if not isinstance(value, list) or not value:
        raise BadRequest("The request's JSON holds no instances.", _expected(spec))
    if len(value) > MAX_INSTANCES:
        raise TooLarge(
            f"The request has {len(value):,} instances; {MAX_INSTANCES:,} are allowed.",
            "Send them in several requests.",
        )
    for number, entry in enumerate(value, 1):
        if not isinstance(entry, dict):
            raise BadRequest(f"Instance {number} is a {_json_type(entry)}, not an object.", _expected(spec))
    return value


def _image(spec: PreprocessingSpec, instance: dict[str, Any], number: int) -> NDArray[np.uint8]:
    text = instance.get("b64")
    if not isinstance(text, str) or set(instance) != {"b64"}:
        raise BadRequest(f"Instance {number} isn't an image.", _expected(spec))
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadRequest(
            f"Instance {number} isn't valid base64: {error}.", "Encode the file's bytes as base64."
        ) from error
    return spec.encode_image(data, f"Instance {number}")


def _only_text(spec: PreprocessingSpec) -> str:
    """The name of the column of a model that takes one text and nothing else."""
    if spec.table is None or len(spec.table.names) != 1 or not spec.table.texts:
        raise BadRequest("The model doesn't take one text.", _expected(spec))
    return spec.table.texts[0].name


def _decoded(body: bytes) -> str:
    try:
        return body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadRequest(f"The text isn't UTF-8: byte {error.start} is wrong.", "Send it as UTF-8.") from error


def _json_type(value: object) -> str:
    names = {list: "list", str: "text", bool: "boolean", int: "number", float: "number"}
    return names.get(type(value), "null")


def _expected(spec: PreprocessingSpec) -> str:
    if spec.kind == "image":
        return 'Send an image file with Content-Type image/png (or its own), or JSON {"instances": [{"b64": "..."}]}.'
    if spec.table is not None and len(spec.table.names) == 1 and spec.table.texts:
        name = json.dumps(spec.table.texts[0].name)
        return f'Send a text with Content-Type text/plain, or JSON {{"instances": [{{{name}: "..."}}]}}.'
    if spec.sequence is not None:
        rows = f"{spec.sequence.window} rows, oldest first"
        return f'Send JSON such as {{"instances": [{{"rows": [{{"COLUMN": VALUE}}, ...]}}]}} with {rows}.'
    return 'Send JSON such as {"instances": [{"COLUMN": VALUE}]}; GET the model to see its columns.'


def _predictions(spec: PreprocessingSpec, result: NDArray[np.float32]) -> list[dict[str, Any]]:
    if spec.target.task == "regression":
        return [{"value": _finite(value)} for value in result.reshape(-1).tolist()]
    classes = spec.target.classes
    if spec.target.task == "multilabel":
        return [_labels(classes, row) for row in result.tolist()]
    return [
        {
            "label": classes[index],
            "probability": _finite(row[index]),
            "probabilities": {label: _finite(value) for label, value in zip(classes, row, strict=True)},
        }
        for row, index in zip(result.tolist(), result.argmax(axis=1).tolist(), strict=True)
    ]


def _labels(classes: Sequence[str], row: Sequence[float]) -> dict[str, Any]:
    chosen = sorted((index for index, value in enumerate(row) if value >= THRESHOLD), key=lambda index: -row[index])
    return {
        "labels": [classes[index] for index in chosen],
        "probabilities": {label: _finite(value) for label, value in zip(classes, row, strict=True)},
    }


def _finite(value: float) -> float | None:
    """JSON has no NaN or infinity; null says that there is no number."""
    return value if math.isfinite(value) else None
