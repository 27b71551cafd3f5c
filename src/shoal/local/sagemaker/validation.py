"""Requests against botocore's model of an API: required fields, types, enums, patterns, and the lengths of lists.

botocore itself checks required fields and types only; AWS checks everything that the model says.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import botocore.session
from botocore.model import ListShape, MapShape, ServiceModel, Shape, StructureShape

_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "long": (int,),
    "float": (int, float),
    "double": (int, float),
    "boolean": (bool,),
}
# Java's classes of characters, nearly, as parts of Python's brackets.
_CLASSES = {
    "L": "A-Za-z\u00aa-\U0010ffff",
    "M": "\u0300-\u036f",
    "N": "0-9",
    "P": r"!-/:-@\[-`{-~",
    "S": "$+<->^`|~",
    "Z": r"\s",
}


@cache
def service_model(service: str) -> ServiceModel:
    """botocore's model of a service."""
    return botocore.session.get_session().get_service_model(service)


def request_problems(service: str, operation: str, parameters: dict[str, Any]) -> list[str]:
    """What of a request its model doesn't allow, one phrase each."""
    shape = service_model(service).operation_model(operation).input_shape
    return [] if shape is None else list(_problems(shape, parameters, ""))


def _problems(shape: Shape, value: Any, path: str) -> Iterator[str]:  # noqa: ANN401 - JSON
    name = path or "the request"
    if isinstance(shape, StructureShape):
        if not isinstance(value, dict):
            yield f"{name} is {value!r}, not an object"
            return
        before = f"{path}." if path else ""
        yield from (f"{before}{field} is required" for field in shape.required_members if field not in value)
        for field, item in value.items():
            if field not in shape.members:
                yield f"{before}{field} isn't known"
            else:
                yield from _problems(shape.members[field], item, f"{before}{field}")
    elif isinstance(shape, ListShape):
        if not isinstance(value, list):
            yield f"{name} is {value!r}, not a list"
            return
        yield from _size_problems(shape, len(value), name, "items")
        for index, item in enumerate(value):
            yield from _problems(shape.member, item, f"{path}[{index}]")
    elif isinstance(shape, MapShape):
        if not isinstance(value, dict):
            yield f"{name} is {value!r}, not an object"
            return
        yield from _size_problems(shape, len(value), name, "entries")
        for key, item in value.items():
            yield from _problems(shape.key, key, f"{path}.{key}")
            yield from _problems(shape.value, item, f"{path}.{key}")
    else:
        yield from _scalar_problems(shape, value, name)


def _scalar_problems(shape: Shape, value: Any, name: str) -> Iterator[str]:  # noqa: ANN401 - JSON
    wanted = _TYPES.get(shape.type_name)
    if wanted is not None and (not isinstance(value, wanted) or (isinstance(value, bool) and bool not in wanted)):
        yield f"{name} is {value!r}, not a {shape.type_name}"
        return
    if isinstance(value, str):
        allowed = shape.metadata.get("enum")
        if allowed and value not in allowed:
            yield f"{name} is {value!r}, which isn't one of the {len(allowed)} values that are allowed"
        pattern = shape.metadata.get("pattern")
        if pattern and not re.fullmatch(_python(pattern), value, re.DOTALL):
            yield f"{name} is {value!r}, which doesn't match {pattern}"
        yield from _size_problems(shape, len(value), name, "characters")
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield from _size_problems(shape, value, name, "")


def _size_problems(shape: Shape, size: float, name: str, what: str) -> Iterator[str]:
    least, most = shape.metadata.get("min"), shape.metadata.get("max")
    told = f"{name} has {size} {what}" if what else f"{name} is {size}"
    if least is not None and size < least:
        yield f"{told}; at least {least} are needed"
    if most is not None and size > most:
        yield f"{told}; at most {most} are allowed"


def _python(pattern: str) -> str:
    """A pattern of AWS's, in Java's words, in Python's, which has no classes of Unicode."""
    return re.sub(r"\\p\{(\w)\w*\}", lambda found: _CLASSES.get(found[1], ""), pattern)
