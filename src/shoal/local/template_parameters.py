"""Parameters of a template: their values, checked against what the template allows."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from shoal.local.intrinsics import BadTemplate

PARAMETERS_VARIABLE = "SHOAL_PARAMETERS"
_PARAMETER_TYPES = frozenset({"String", "Number", "List<Number>", "CommaDelimitedList"})


def pseudo_parameters(stack_name: str, region: str, account: str) -> dict[str, Any]:
    """CloudFormation's pseudo parameters, as the embedded cloud has them."""
    return {
        "AWS::AccountId": account,
        "AWS::NotificationARNs": [],
        "AWS::Partition": "aws",
        "AWS::Region": region,
        "AWS::StackId": f"arn:aws:cloudformation:{region}:{account}:stack/{stack_name}/shoal",
        "AWS::StackName": stack_name,
        "AWS::URLSuffix": "amazonaws.com",
    }


def given_parameters(text: str) -> dict[str, str]:
    """Values for the template's parameters from `SHOAL_PARAMETERS`: `NAME=VALUE` divided by semicolons.

    Raises:
        BadTemplate: A part has another form.
    """
    parts = [part.strip() for part in text.split(";") if part.strip()]
    wrong = [part for part in parts if "=" not in part]
    if wrong:
        raise BadTemplate(
            f"{PARAMETERS_VARIABLE} holds {wrong[0]!r}.", "Write NAME=VALUE, divided by semicolons.", tuple(wrong)
        )
    pairs = (part.partition("=") for part in parts)
    return {name.strip(): value.strip() for name, _, value in pairs}


def parameter_values(definitions: Mapping[str, Any], given: Mapping[str, str]) -> dict[str, Any]:
    """Every parameter's value, checked.

    Args:
        definitions: The template's `Parameters`.
        given: Values by name; the rest take their defaults.

    Returns:
        Strings, or lists of strings for the list types.

    Raises:
        BadTemplate: Lists every parameter that is missing, unknown or outside what its definition allows.
    """
    problems = [f"parameter {name} isn't in the template" for name in sorted(set(given) - set(definitions))]
    values: dict[str, Any] = {}
    for name, definition in definitions.items():
        kind = definition.get("Type")
        if kind not in _PARAMETER_TYPES:
            problems.append(f"parameter {name} has type {kind}, of which the embedded cloud knows no values")
            continue
        if name not in given and "Default" not in definition:
            problems.append(f"parameter {name} has no default and no value")
            continue
        value = given.get(name, definition.get("Default"))
        text = str(value).lower() if isinstance(value, bool) else str(value)
        items = [item.strip() for item in text.split(",")] if kind in ("List<Number>", "CommaDelimitedList") else [text]
        problems += [f"parameter {name} is {item!r}, but {flaw}" for item in items for flaw in _flaws(item, definition)]
        values[name] = text if kind in ("String", "Number") else items
    if problems:
        raise BadTemplate(f"Parameters are wrong: {'; '.join(problems)}.", "Correct them.", tuple(problems))
    return values


def _flaws(value: str, definition: Mapping[str, Any]) -> list[str]:
    """What is wrong with one value of a parameter."""
    flaws = []
    hint = f" ({definition['ConstraintDescription']})" if "ConstraintDescription" in definition else ""
    if "AllowedValues" in definition and value not in [_scalar(item) for item in definition["AllowedValues"]]:
        flaws.append(f"AllowedValues are {', '.join(_scalar(item) for item in definition['AllowedValues'])}{hint}")
    if "AllowedPattern" in definition and not re.fullmatch(definition["AllowedPattern"], value):
        flaws.append(f"AllowedPattern is {definition['AllowedPattern']}{hint}")
    if len(value) < int(definition.get("MinLength", 0)):
        flaws.append(f"MinLength is {definition['MinLength']}{hint}")
    if "MaxLength" in definition and len(value) > int(definition["MaxLength"]):
        flaws.append(f"MaxLength is {definition['MaxLength']}{hint}")
    if "Number" in definition["Type"]:
        try:
            number = float(value)
        except ValueError:
            return [*flaws, "it isn't a number"]
        if number < float(definition.get("MinValue", "-inf")):
            flaws.append(f"MinValue is {definition['MinValue']}{hint}")
        if number > float(definition.get("MaxValue", "inf")):
            flaws.append(f"MaxValue is {definition['MaxValue']}{hint}")
    return flaws


def _scalar(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
