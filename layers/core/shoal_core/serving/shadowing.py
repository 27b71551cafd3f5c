"""A shadow's work: the same request answered by two versions, compared, and by nobody returned."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from shoal_core.errors import ShoalError
from shoal_core.frozen import Frozen
from shoal_core.serving.inference import model_inputs, model_outputs
from shoal_core.serving.prediction import predict
from shoal_core.serving.protocol import parse_infer
from shoal_core.serving.sessions import ModelCache, ServedModel

NEAR = 0.01
"""Numbers agree when they differ by less than this share of the larger one."""


class ShadowCall(Frozen):
    """A request to repeat: `route` is predict or infer, `body` the request's, in base64."""

    model: str
    production: int
    version: int
    route: str
    body: str
    content_type: str = ""
    header_length: str | None = None


@dataclass(frozen=True)
class Compared:
    """What a shadow's answer was beside production's: the share of instances that agree, and the milliseconds."""

    failed: bool
    agreement: float = 0.0
    milliseconds: float = 0.0
    production_milliseconds: float = 0.0


def compare(models: ModelCache, call: ShadowCall, clock: Callable[[], float] = time.perf_counter) -> Compared | None:
    """Answer a request with both versions and compare; None when production itself can't answer it."""
    body = base64.b64decode(call.body)
    try:
        expected, reference_ms = _timed(models.version(call.model, call.production), call, body, clock)
    except ShoalError:
        return None
    try:
        given, milliseconds = _timed(models.version(call.model, call.version), call, body, clock)
    except Exception:  # noqa: BLE001 - whatever goes wrong in the shadow is what is to be found out
        return Compared(failed=True, production_milliseconds=reference_ms)
    alike = [_alike(left, right) for left, right in zip(expected, given, strict=False)]
    total = max(len(expected), len(given), 1)
    return Compared(False, sum(alike) / total, milliseconds, reference_ms)


def _timed(
    model: ServedModel, call: ShadowCall, body: bytes, clock: Callable[[], float]
) -> tuple[Sequence[Any], float]:
    """One answer per instance (a label, labels or a number), and the milliseconds it took."""
    started = clock()
    if call.route == "predict":
        predictions = predict(model, body, call.content_type)["predictions"]
        answers: Sequence[Any] = [_told(prediction) for prediction in predictions]
    else:
        request = parse_infer(body, call.header_length, model_inputs(model), model_outputs(model))
        answers = _decided(model, np.asarray(model.session.run(None, request.tensors)[0]))
    return answers, 1000 * (clock() - started)


def _told(prediction: dict[str, Any]) -> object:
    for name in ("label", "value", "score"):
        if name in prediction:
            return prediction[name]
    return tuple(sorted(prediction.get("labels", ())))


def _decided(model: ServedModel, output: Any) -> list[Any]:  # noqa: ANN401 - an array
    """What a raw output says of each instance: the likeliest class by name, all likely ones, or the number."""
    target = model.spec.target
    if target.task == "classification" and output.ndim == 2:
        return [target.classes[index] for index in output.argmax(axis=1).tolist()]
    if target.task == "multilabel" and output.ndim == 2:
        return [tuple(np.array(target.classes)[row >= 0.5].tolist()) for row in output]
    return [float(value) for value in output.reshape(-1).tolist()]


def _alike(left: object, right: object) -> bool:
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(_alike, left, right))
    if isinstance(left, float) and isinstance(right, float):
        return left == right or abs(left - right) <= NEAR * max(abs(left), abs(right))
    return left == right
