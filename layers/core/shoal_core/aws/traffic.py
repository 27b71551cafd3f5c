"""Requests of the data plane: which version answers, what is measured of it, and what its shadow is told.

Metrics are CloudWatch's embedded metric format, in the function's log: by function, model and version `Requests`,
`Errors` (its own faults) and `Latency`; of a shadow `ShadowRequests`, `ShadowErrors`, `ShadowAgreement` and
`ShadowLatency`; by function alone `CanaryErrors`, which an alarm watches.
"""

from __future__ import annotations

import base64
import json
import os
import time
import uuid
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, TypeVar

import numpy as np
from aws_lambda_powertools.metrics import EphemeralMetrics, MetricUnit
from botocore.exceptions import ClientError

from shoal_core.aws.clients import client, service_errors
from shoal_core.aws.config import memory_mb
from shoal_core.aws.handler import artifacts, catalog, logger
from shoal_core.errors import BadRequest, Unavailable
from shoal_core.serving.inference import model_inputs, model_outputs
from shoal_core.serving.protocol import BYTES, TensorInfo, dtype_of
from shoal_core.serving.sessions import ModelCache, ServedModel
from shoal_core.serving.shadowing import ShadowCall, compare
from shoal_core.serving.traffic import Traffic

KEY_HEADER = "shoal-key"
MAX_KEY = 200
MAX_ASYNC_BYTES = 1_000_000
"""Of an asynchronous invocation, which holds 1 MB: https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html"""
Answer = TypeVar("Answer")


def function_name() -> str:
    """This function's name, which tells the metrics of two stacks apart."""
    return os.environ.get("AWS_LAMBDA_FUNCTION_NAME", "predict")


class VersionMetrics:
    """`shoal_core.serving.traffic.Recorder` in CloudWatch."""

    def answered(self, model: str, version: int, milliseconds: float, failed: bool) -> None:
        """A version answered a request, or failed by its own fault."""
        found = _of_version(model, version)
        found.add_metric("Requests", MetricUnit.Count, 1)
        found.add_metric("Errors", MetricUnit.Count, int(failed))
        found.add_metric("Latency", MetricUnit.Milliseconds, milliseconds)
        found.flush_metrics()

    def canary_failed(self, model: str, version: int) -> None:
        """A canary failed: what an alarm watches."""
        logger.warning("canary failed; the version in production answered", model=model, version=version)
        found = EphemeralMetrics()
        found.add_dimension("function_name", function_name())
        found.add_metric("CanaryErrors", MetricUnit.Count, 1)
        found.flush_metrics()


def _of_version(model: str, version: int) -> EphemeralMetrics:
    found = EphemeralMetrics()
    for name, value in (("function_name", function_name()), ("model", model), ("version", str(version))):
        found.add_dimension(name, value)
    return found


@cache
def models() -> ModelCache:
    """The models of this process."""
    return ModelCache(artifacts(), catalog(), memory_mb())


@cache
def traffic() -> Traffic:
    """Answers with this process's models."""
    return Traffic(models(), VersionMetrics())


def answer(
    event: Mapping[str, Any],
    name: str,
    version: str | None,
    call: Mapping[str, Any],
    body: bytes,
    run: Callable[[ServedModel], Answer],
) -> Answer:
    """Answer a request with the version whose turn it is, and tell its shadow.

    Args:
        event: The HTTP API event (payload format 2.0): its header `Shoal-Key`, or else its request id, decides.
        name: The model.
        version: A version that was asked for, by number or alias; None leaves it to the aliases.
        call: `route`, `content_type` and `header_length`, for a shadow.
        body: The request's body.
        run: Answers with a version.
    """
    choice = traffic().choice(name, key_of(event), version)
    result = traffic().answer(name, choice, run)
    if choice.shadow is not None:
        text = base64.b64encode(body).decode()
        _tell_shadow(ShadowCall(model=name, production=choice.production, version=choice.shadow, body=text, **call))
    return result


def key_of(event: Mapping[str, Any]) -> str:
    """What decides which version answers: the same key, the same version."""
    given = str((event.get("headers") or {}).get(KEY_HEADER, ""))
    if len(given) > MAX_KEY:
        raise BadRequest(f"The header Shoal-Key has {len(given)} characters.", f"Use at most {MAX_KEY}.")
    return given or str((event.get("requestContext") or {}).get("requestId") or uuid.uuid4())


def _tell_shadow(call: ShadowCall) -> None:
    """Send a request to its shadow: an asynchronous invocation of this very function, which nobody waits for."""
    payload = json.dumps({"task": "shadow", "call": call.model_dump(mode="json")}).encode()
    if len(payload) > MAX_ASYNC_BYTES:
        _skipped(call, "the request is too large for an asynchronous invocation")
        return
    try:
        with service_errors("Lambda"):
            client("lambda").invoke(FunctionName=function_name(), InvocationType="Event", Payload=payload)
    except (Unavailable, ClientError) as error:
        _skipped(call, str(error))


def _skipped(call: ShadowCall, why: str) -> None:
    """A shadow that isn't asked costs nobody an answer; it is counted."""
    logger.warning("shadow skipped", model=call.model, version=call.version, why=why)
    found = _of_version(call.model, call.version)
    found.add_metric("ShadowSkipped", MetricUnit.Count, 1)
    found.flush_metrics()


def is_task(event: Mapping[str, Any]) -> bool:
    """Whether an event is Shoal's own and no HTTP request: those have no `task` at their top."""
    return event.get("task") in _TASKS


def run_task(event: Mapping[str, Any]) -> dict[str, Any]:
    """Do what one of Shoal's own events asks for."""
    return _TASKS[event["task"]](event)


def _shadow(event: Mapping[str, Any]) -> dict[str, Any]:
    """Answer a request with both versions, and record how alike they are."""
    call = ShadowCall.model_validate(event["call"])
    found = compare(models(), call)
    if found is None:
        return {}
    recorded = _of_version(call.model, call.version)
    recorded.add_metric("ShadowRequests", MetricUnit.Count, 1)
    recorded.add_metric("ShadowErrors", MetricUnit.Count, int(found.failed))
    if not found.failed:
        recorded.add_metric("ShadowAgreement", MetricUnit.NoUnit, found.agreement)
        recorded.add_metric("ShadowLatency", MetricUnit.Milliseconds, found.milliseconds)
        recorded.add_metric("ShadowedLatency", MetricUnit.Milliseconds, found.production_milliseconds)
    recorded.flush_metrics()
    return {"failed": found.failed, "agreement": found.agreement}


def _warm_up(event: Mapping[str, Any]) -> dict[str, Any]:
    """Load a version and run it once on zeros: what must work before any request meets it."""
    started = time.perf_counter()
    model = models().version(str(event["model"]), int(event["version"]))
    loaded = time.perf_counter()
    model.session.run(None, {tensor.name: _zeros(tensor) for tensor in model_inputs(model)})
    done = time.perf_counter()
    return {
        "model": model.name,
        "version": model.version,
        "load_ms": 1000 * (loaded - started),
        "run_ms": 1000 * (done - loaded),
        "outputs": [tensor.name for tensor in model_outputs(model)],
    }


def _zeros(tensor: TensorInfo) -> np.ndarray[Any, np.dtype[Any]]:
    shape = [1 if size < 0 else size for size in tensor.shape]
    if tensor.datatype == BYTES:
        return np.full(shape, "", object)
    return np.zeros(shape, dtype_of(tensor.datatype))


_TASKS: Mapping[Any, Callable[[Mapping[str, Any]], dict[str, Any]]] = {"shadow": _shadow, "warm_up": _warm_up}
