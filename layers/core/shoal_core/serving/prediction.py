"""From a request's bytes to predictions, for people: an image, a text or JSON in, labels or values out."""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shoal_core.data.spec import PreprocessingSpec
from shoal_core.errors import BadInput, BadRequest, TooLarge
from shoal_core.serving.instances import MAX_INSTANCES, decoded, expected, only_text, read_instances
from shoal_core.serving.sessions import ServedModel, outputs

__all__ = ["MAX_INSTANCES", "answers", "predict", "predict_each", "raw_instance", "text_instance"]

THRESHOLD = 0.5
"""Of several labels, those apply that are at least as likely as this: as the metrics have it."""
MAX_PIXEL_BYTES = 256 * 1024**2
"""Of one request's images as the model takes them: files of a hundred bytes may be as large as any when they are."""


def predict(model: ServedModel, body: bytes, content_type: str, top: int | None = None) -> dict[str, Any]:
    """Answer `POST /models/{name}/predict`.

    Args:
        model: The version that serves.
        body: An image, a text, rows or JSON, as `instances.read_instances` reads them.
        content_type: The request's.
        top: Of how many classes, the likeliest first, probabilities are told; None is all, in the order of classes.

    Returns:
        `{"model", "version", "task", "predictions": [...]}`, predictions in the order of the instances: `label` (None
        where the model gives no numbers), `probability` and `probabilities` (classification), `labels` (those with a
        probability of at least 1/2, the likeliest first) and `probabilities` (multilabel), `value` (regression; a list
        where the model gives several numbers), or `score` and `anomalous` (anomaly).

    Raises:
        BadInput: The body doesn't hold what the model takes; names the instance and the fix. `TooLarge` for more
            images than fit into memory.
    """
    result = outputs(model, _tensors(model.spec, body, content_type))
    found = answers(model.spec, result)
    return {
        "model": model.name,
        "version": model.version,
        "task": model.spec.target.task,
        "predictions": found if top is None else [_likeliest(prediction, top) for prediction in found],
    }


def _likeliest(prediction: dict[str, Any], top: int) -> dict[str, Any]:
    """A prediction with the probabilities of the likeliest classes only, the likeliest first."""
    if "probabilities" not in prediction:
        return prediction
    every = prediction["probabilities"]
    best = sorted(every, key=lambda label: -(every[label] or 0.0))[:top]
    return {**prediction, "probabilities": {label: every[label] for label in best}}


def _tensors(spec: PreprocessingSpec, body: bytes, content_type: str) -> dict[str, NDArray[Any]]:
    spec.refuse_tensors()
    instances = read_instances(spec, body, content_type)
    if spec.kind == "table":
        return spec.encode_rows(instances)
    if spec.kind == "sequence":
        return spec.encode_windows(instances)
    if len(instances) == 1 and isinstance(instances[0].get("bytes"), bytes):
        return {"image": spec.encode_image(instances[0]["bytes"])[np.newaxis]}
    most = max(1, MAX_PIXEL_BYTES // math.prod(spec.tensor_shapes()["image"]))
    if len(instances) > most:
        raise TooLarge(
            f"The request has {len(instances):,} images; of those that this model takes, {most:,} are allowed.",
            "Send them in several requests.",
        )
    return {"image": np.stack([_image(spec, entry, f"Instance {number}") for number, entry in enumerate(instances, 1)])}


def predict_each(model: ServedModel, instances: Sequence[dict[str, Any]]) -> list[dict[str, Any] | BadInput]:
    """Predict instances that needn't know of each other, in one run of the model.

    Args:
        model: The version that serves.
        instances: As in the JSON of `predict`; of a model of images also `{"bytes": ...}`, a file as it is.

    Returns:
        In the order of the instances: the prediction as `predict` has it, or what is wrong with the instance.
    """
    tensors, wrong = _encode_each(model.spec, instances)
    good = len(instances) - len(wrong)
    found = iter(answers(model.spec, outputs(model, tensors)) if good else ())
    return [wrong[position] if position in wrong else next(found) for position in range(len(instances))]


def raw_instance(spec: PreprocessingSpec, data: bytes) -> dict[str, Any]:
    """The instance that bytes without JSON around them are: an image, or a text. Raises `BadRequest`."""
    if spec.kind == "image":
        return {"bytes": data}
    return {only_text(spec): decoded(data)}


def text_instance(spec: PreprocessingSpec, text: str) -> dict[str, Any]:
    """The instance that one text is. Raises `BadRequest` when the model takes something else."""
    return {only_text(spec): text}


def _encode_each(
    spec: PreprocessingSpec, instances: Sequence[dict[str, Any]]
) -> tuple[dict[str, NDArray[Any]], Mapping[int, BadInput]]:
    """Tensors of the instances that the model takes, and what is wrong with each of the others."""
    if spec.kind == "table":
        return spec.encode_rows_each(instances)
    name = "image" if spec.kind == "image" else "sequence"
    encoded: list[NDArray[Any]] = []
    wrong: dict[int, BadInput] = {}
    for position, entry in enumerate(instances):
        try:
            one = _image(spec, entry, "The image") if name == "image" else spec.encode_windows([entry])[name][0]
            encoded.append(one)
        except BadInput as error:
            wrong[position] = error
    return ({name: np.stack(encoded)} if encoded else {}), wrong


def _image(spec: PreprocessingSpec, instance: dict[str, Any], name: str) -> NDArray[np.uint8]:
    if isinstance(instance.get("bytes"), bytes):
        return spec.encode_image(instance["bytes"], name)
    text = instance.get("b64")
    if not isinstance(text, str) or set(instance) != {"b64"}:
        raise BadRequest(f"{name} isn't an image.", expected(spec))
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadRequest(f"{name} isn't valid base64: {error}.", "Encode the file's bytes as base64.") from error
    return spec.encode_image(data, name)


def answers(spec: PreprocessingSpec, result: NDArray[np.float32], probabilities: bool = True) -> list[dict[str, Any]]:
    """What a model says, as people read it: one entry per instance, as `predict` returns them.

    Args:
        spec: The model's.
        result: Its output: see `sessions.outputs`.
        probabilities: Whether to tell the probability of every class, too.
    """
    if spec.target.task == "regression":
        rows = result.reshape(len(result), -1).tolist()
        return [{"value": _finite(row[0]) if len(row) == 1 else [_finite(value) for value in row]} for row in rows]
    if spec.target.task == "anomaly":
        return [{"score": _finite(score), "anomalous": called != 0} for score, called in result.tolist()]
    classes = spec.target.classes
    if spec.target.task == "multilabel":
        return [_labels(classes, row, probabilities) for row in result.tolist()]
    best = zip(result.argmax(axis=1).tolist(), result.max(axis=1).tolist(), strict=True)
    found: list[dict[str, Any]]
    found = [{"label": _named(classes, index, value), "probability": _finite(value)} for index, value in best]
    if probabilities:
        for answer, row in zip(found, result.tolist(), strict=True):
            answer["probabilities"] = {label: _finite(value) for label, value in zip(classes, row, strict=True)}
    return found


def _named(classes: Sequence[str], index: int, value: float) -> str | None:
    """The likeliest class; none where the largest number is no number, as that of a row with a NaN is."""
    return classes[index] if math.isfinite(value) else None


def _labels(classes: Sequence[str], row: Sequence[float], probabilities: bool) -> dict[str, Any]:
    chosen = sorted((index for index, value in enumerate(row) if value >= THRESHOLD), key=lambda index: -row[index])
    found: dict[str, Any] = {"labels": [classes[index] for index in chosen]}
    if probabilities:
        found["probabilities"] = {label: _finite(value) for label, value in zip(classes, row, strict=True)}
    return found


def _finite(value: float) -> float | None:
    """JSON has no NaN or infinity; null says that there is no number."""
    return value if math.isfinite(value) else None
