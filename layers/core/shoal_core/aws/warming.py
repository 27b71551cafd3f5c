"""The call before traffic moves: the data plane loads a version and runs it once."""

from __future__ import annotations

import json
from typing import Any

from shoal_core.aws.clients import client, service_errors
from shoal_core.aws.config import environment
from shoal_core.errors import Conflict, ShoalError


def warm_up(model: str, version: int) -> dict[str, Any]:
    """Load a version in the predict function and run it once.

    Returns:
        `load_ms` and `run_ms`.

    Raises:
        Conflict: The version can't answer; the reason says why.
        Unavailable: The function can't be asked now.
    """
    answer = invoke(environment().predict_function, {"task": "warm_up", "model": model, "version": version})
    if "errorType" in answer:
        raise Conflict(
            f"Version {version} of model {model!r} can't answer: {answer.get('errorMessage') or answer['errorType']}",
            "No request was sent to it. Mend its file, or train or import another version.",
        )
    return answer


def invoke(function: str, task: dict[str, Any]) -> dict[str, Any]:
    """What a function answers to one of Shoal's own events; an error as Lambda tells it, with `errorType`."""
    if not function:
        raise ShoalError("The environment doesn't name the function to ask.", "Mend template.yaml.")
    with service_errors("Lambda"):
        answer = client("lambda").invoke(FunctionName=function, Payload=json.dumps(task).encode())
    return dict(json.loads(answer["Payload"].read()))
