"""Tasks that call an AWS API themselves (`aws-sdk:`): their parameters, by botocore's model of that API.

AWS takes parameters in Pascal case, whatever the API's own case is
(https://docs.aws.amazon.com/step-functions/latest/dg/supported-services-awssdk.html), and answers in it. moto's
interpreter hands them to boto3 as they are, unchecked, so they are checked here and spelt as the API does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from botocore.exceptions import UnknownServiceError
from botocore.model import ListShape, OperationModel, OperationNotFoundError, Shape, StructureShape

from shoal.local.sagemaker.validation import service_model

_RESOURCE = re.compile(r"arn:[^:]*:states:::aws-sdk:([A-Za-z0-9]+):([A-Za-z0-9]+)(\.waitForTaskToken)?")
_SERVICES = {"sfn": "stepfunctions"}
_PATH = ".$"


def sdk_problems(name: str, state: Mapping[str, Any]) -> Iterator[str]:
    """What of a task that calls an AWS API isn't that API's, or would be answered otherwise than on AWS."""
    operation = _operation_of(state)
    if operation is None:
        return
    if isinstance(operation, str):
        yield f"{name}: {operation}"
        return
    shape = operation.input_shape
    _, unknown = _spelt(state.get("Parameters", {}), shape)
    yield from (f"{name}: Parameters: {operation.name} has no {path}" for path in unknown)
    given = {key.removesuffix(_PATH) for key in state.get("Parameters", {})}
    required = {_pascal(member) for member in (shape.required_members if shape else ())}
    yield from (f"{name}: Parameters: {operation.name} needs {member}" for member in sorted(required - given))
    if state.get("ResultPath", "$") is not None and _is_camel(operation.output_shape):
        yield f"{name}: the answer of {operation.name} is in camel case here; use `ResultPath: null`"


def spelt_for_interpreter(states: Mapping[str, Any]) -> dict[str, Any]:
    """The states with the parameters of such tasks in the API's own spelling, those of Maps and branches included."""
    found = {}
    for name, state in states.items():
        operation = _operation_of(state)
        if isinstance(operation, OperationModel):
            state = {**state, "Parameters": _spelt(state.get("Parameters", {}), operation.input_shape)[0]}
        for part in ("ItemProcessor", "Iterator"):
            if part in state:
                state = {**state, part: {**state[part], "States": spelt_for_interpreter(state[part]["States"])}}
        if "Branches" in state:
            branches = [{**branch, "States": spelt_for_interpreter(branch["States"])} for branch in state["Branches"]]
            state = {**state, "Branches": branches}
        found[name] = state
    return found


def _operation_of(state: Mapping[str, Any]) -> OperationModel | str | None:
    """The API's operation that a task calls, or what is wrong with it; None for other states."""
    called = _RESOURCE.fullmatch(str(state.get("Resource", "")))
    if called is None:
        return None
    service, action = called[1], called[2]
    try:
        return _operation(_SERVICES.get(service.lower(), service.lower()), action[:1].upper() + action[1:])
    except UnknownServiceError:
        return f"Resource: there is no AWS service {service!r}"
    except OperationNotFoundError:
        return f"Resource: {service} has no operation {action!r}"


@cache
def _operation(service: str, name: str) -> OperationModel:
    return service_model(service).operation_model(name)


def _spelt(value: Any, shape: Shape | None, path: str = "") -> tuple[Any, list[str]]:  # noqa: ANN401 - JSON
    """A value with its fields named as the API does, and the paths of fields that the API doesn't have."""
    if isinstance(shape, ListShape) and isinstance(value, list):
        items = [_spelt(item, shape.member, path) for item in value]
        return [item for item, _ in items], [entry for _, unknown in items for entry in unknown]
    if not isinstance(shape, StructureShape) or not isinstance(value, Mapping):
        return value, []
    members = {_pascal(member): member for member in shape.members}
    spelt: dict[str, Any] = {}
    unknown: list[str] = []
    for key, entry in value.items():
        field, suffix = (key.removesuffix(_PATH), _PATH) if key.endswith(_PATH) else (key, "")
        if field not in members:
            unknown.append(path + field)
            continue
        member = members[field]
        inner = (entry, []) if suffix else _spelt(entry, shape.members[member], f"{path}{field}.")
        spelt[member + suffix] = inner[0]
        unknown += inner[1]
    return spelt, unknown


def _is_camel(shape: Shape | None) -> bool:
    return isinstance(shape, StructureShape) and any(member != _pascal(member) for member in shape.members)


def _pascal(member: str) -> str:
    return member[:1].upper() + member[1:]
