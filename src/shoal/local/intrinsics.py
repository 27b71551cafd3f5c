"""CloudFormation's intrinsic functions, evaluated as CloudFormation does.

A value is resolved in two steps, because conditions are known before anything exists and attributes only after:
`choose` takes the branches of `Fn::If` and drops `AWS::NoValue`; `resolve` evaluates everything else.
Reference: https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/intrinsic-function-reference.html
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from shoal_core.errors import BadInput

NO_VALUE = "AWS::NoValue"
_SUB_NAME = re.compile(r"\$\{(!?)([^}]*)\}")


class BadTemplate(BadInput):
    """A template that can't be deployed; `problems` lists everything found, one sentence each."""

    def __init__(self, reason: str, fix: str = "", problems: tuple[str, ...] = ()) -> None:
        self.problems = problems
        super().__init__(reason, fix)


@dataclass(frozen=True)
class Scope:
    """What names mean while a value is resolved.

    Attributes:
        values: Parameters and pseudo parameters (`AWS::Region`, …) by name.
        mappings: The template's `Mappings`.
        reference: Gives what `Ref` of a resource gives. None when the name isn't a resource.
        attribute: Gives an attribute of a resource; raises `BadTemplate` for one it doesn't have.
    """

    values: Mapping[str, Any]
    mappings: Mapping[str, Any] = field(default_factory=dict)
    reference: Callable[[str], Any] = lambda name: None
    attribute: Callable[[str, str], Any] = lambda name, attribute: None


def intrinsic(value: object) -> tuple[str, Any] | None:
    """The (function, argument) of a value that is an intrinsic function; None for any other value."""
    if isinstance(value, Mapping) and len(value) == 1:
        name, argument = next(iter(value.items()))
        if name in ("Ref", "Condition") and isinstance(argument, str):
            return name, argument
        if isinstance(name, str) and name.startswith("Fn::"):
            return name, argument
    return None


def evaluate_conditions(definitions: Mapping[str, Any], scope: Scope) -> dict[str, bool]:
    """Truth of every condition of a template. Raises `BadTemplate` for an unknown or circular one."""
    decided: dict[str, bool] = {}
    pending: list[str] = []

    def decide(name: str) -> bool:
        if name in decided:
            return decided[name]
        if name in pending:
            raise BadTemplate(f"Conditions refer to each other in a circle: {' -> '.join([*pending, name])}.")
        if name not in definitions:
            raise BadTemplate(f"Condition {name!r} isn't defined.", "Add it under Conditions.")
        pending.append(name)
        decided[name] = evaluate(definitions[name])
        pending.pop()
        return decided[name]

    def evaluate(expression: Any) -> bool:  # noqa: ANN401
        match intrinsic(expression):
            case ("Condition", name):
                return decide(name)
            case ("Fn::Equals", [left, right]):
                return bool(_text(resolve(left, scope, "Conditions")) == _text(resolve(right, scope, "Conditions")))
            case ("Fn::And", [*items]) if 2 <= len(items) <= 10:
                decisions = [evaluate(item) for item in items]  # all of them, so that none is undefined
                return all(decisions)
            case ("Fn::Or", [*items]) if 2 <= len(items) <= 10:
                decisions = [evaluate(item) for item in items]
                return any(decisions)
            case ("Fn::Not", [item]):
                return not evaluate(item)
        raise BadTemplate(
            f"Condition {pending[-1]!r} has an expression that isn't one: {expression!r}.",
            "Use Fn::Equals, Fn::And, Fn::Or, Fn::Not or Condition.",
        )

    for name in definitions:
        decide(name)
    return decided


def choose(value: Any, conditions: Mapping[str, bool], where: str) -> Any:  # noqa: ANN401
    """Take the branches of every `Fn::If` and leave out what is `AWS::NoValue`.

    Args:
        value: Any part of a template.
        conditions: Truth by name, of `evaluate_conditions`.
        where: Name of the part, for errors.

    Returns:
        A copy. The whole value may be `{"Ref": "AWS::NoValue"}`; its owner leaves it out.
    """
    found = intrinsic(value)
    if found and found[0] == "Fn::If":
        match found[1]:
            case [str(name), yes, no]:
                if name not in conditions:
                    raise BadTemplate(f"{where} uses condition {name!r}, which isn't defined.", "Add it to Conditions.")
                return choose(yes if conditions[name] else no, conditions, where)
        raise BadTemplate(f"{where}: Fn::If takes [condition, value, value], not {found[1]!r}.")
    if isinstance(value, Mapping):
        chosen = {key: choose(item, conditions, where) for key, item in value.items()}
        return {key: item for key, item in chosen.items() if not is_no_value(item)}
    if isinstance(value, list):
        return [item for item in (choose(item, conditions, where) for item in value) if not is_no_value(item)]
    return value


def is_no_value(value: object) -> bool:
    """Whether a value is `!Ref AWS::NoValue`."""
    return intrinsic(value) == ("Ref", NO_VALUE)


def references(value: object) -> Iterator[str]:
    """Every name that a value refers to by `Ref`, `Fn::GetAtt` or `Fn::Sub`: parameters and resources alike."""
    found = intrinsic(value)
    if found:
        name, argument = found
        if name == "Ref":
            yield argument
            return
        if name == "Fn::GetAtt":
            yield _attribute_of(argument)[0]
            return
        if name == "Fn::Sub":
            template, local = _sub_parts(argument, "Fn::Sub")
            for literal, variable in _SUB_NAME.findall(template):
                if not literal and variable not in local:
                    yield variable.strip().split(".")[0]
            yield from references(dict(local) if len(local) != 1 else list(local.values()))
            return
    if isinstance(value, Mapping):
        for item in value.values():
            yield from references(item)
    elif isinstance(value, list):
        for item in value:
            yield from references(item)


def resolve(value: Any, scope: Scope, where: str) -> Any:  # noqa: ANN401
    """Evaluate every intrinsic function in a value.

    Args:
        value: Any part of a template, after `choose`.
        scope: What names mean.
        where: Name of the part (`Resources.Bucket`), for errors.

    Raises:
        BadTemplate: An unknown name, function or attribute, or arguments of the wrong form.
    """
    found = intrinsic(value)
    if found and found[0] != "Condition":
        name, argument = found
        function = _FUNCTIONS.get(name)
        if function is None:
            raise BadTemplate(
                f"{where} uses {name}, which the embedded cloud doesn't evaluate.",
                f"Write it with one of {', '.join(sorted(_FUNCTIONS))}.",
            )
        return function(argument, scope, where)
    if isinstance(value, Mapping):
        return {key: resolve(item, scope, where) for key, item in value.items()}
    if isinstance(value, list):
        return [resolve(item, scope, where) for item in value]
    return value


def _text(value: Any) -> Any:  # noqa: ANN401
    """CloudFormation's text form of a scalar: it knows no numbers and booleans inside strings."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, (int, float)) else value


def _wrong(where: str, function: str, argument: object, form: str) -> BadTemplate:
    return BadTemplate(f"{where}: {function} has the wrong arguments: {argument!r}.", f"Write it as {form}.")


def _attribute_of(argument: object) -> tuple[str, str]:
    match argument:
        case [str(name), str(attribute)]:
            return name, attribute
        case str(text) if "." in text:
            name, _, attribute = text.partition(".")
            return name, attribute
    raise _wrong("Template", "Fn::GetAtt", argument, "!GetAtt LogicalId.Attribute")


def _sub_parts(argument: object, where: str) -> tuple[str, Mapping[str, Any]]:
    match argument:
        case str(template):
            return template, {}
        case [str(template), dict(local)]:
            return template, local
    raise _wrong(where, "Fn::Sub", argument, "a string, or [string, {name: value}]")


def _lookup(name: str, scope: Scope, where: str) -> Any:  # noqa: ANN401
    if name in scope.values:
        return scope.values[name]
    found = scope.reference(name)
    if found is None:
        raise BadTemplate(f"{where} refers to {name!r}, which is no parameter and no resource of the template.")
    return found


def _ref(argument: Any, scope: Scope, where: str) -> Any:  # noqa: ANN401
    return _lookup(argument, scope, where)


def _get_att(argument: Any, scope: Scope, where: str) -> Any:  # noqa: ANN401
    name, attribute = _attribute_of(argument)
    if scope.reference(name) is None:
        raise BadTemplate(f"{where} refers to {name}.{attribute}, but {name!r} is no resource of the template.")
    return scope.attribute(name, attribute)


def _sub(argument: Any, scope: Scope, where: str) -> str:  # noqa: ANN401
    template, local = _sub_parts(argument, where)

    def replace(match: re.Match[str]) -> str:
        literal, name = match.group(1), match.group(2).strip()
        if literal:  # ${!Name} stands for the text ${Name}
            return "${" + match.group(2) + "}"
        if name in local:
            found = resolve(local[name], scope, where)
        elif "." in name and name not in scope.values:
            found = _get_att(name, scope, where)
        else:
            found = _lookup(name, scope, where)
        if isinstance(found, (list, Mapping)):
            raise BadTemplate(f"{where}: ${{{name}}} in Fn::Sub is a list or a map, not a string.")
        return str(_text(found))

    return _SUB_NAME.sub(replace, template)


def _join(argument: Any, scope: Scope, where: str) -> str:  # noqa: ANN401
    match argument:
        case [str(separator), items]:
            found = resolve(items, scope, where)
            if isinstance(found, list):
                return separator.join(str(_text(item)) for item in found)
    raise _wrong(where, "Fn::Join", argument, "[separator, [value, …]]")


def _split(argument: Any, scope: Scope, where: str) -> list[str]:  # noqa: ANN401
    match argument:
        case [str(separator), text]:
            return str(_text(resolve(text, scope, where))).split(separator)
    raise _wrong(where, "Fn::Split", argument, "[separator, string]")


def _select(argument: Any, scope: Scope, where: str) -> Any:  # noqa: ANN401
    match argument:
        case [index, items]:
            found, position = resolve(items, scope, where), str(resolve(index, scope, where))
            if isinstance(found, list) and position.isdigit() and int(position) < len(found):
                return found[int(position)]
    raise _wrong(where, "Fn::Select", argument, "[index from 0, list that is long enough]")


def _find_in_map(argument: Any, scope: Scope, where: str) -> Any:  # noqa: ANN401
    match resolve(argument, scope, where):
        case [name, first, second]:
            try:
                return scope.mappings[str(name)][str(first)][str(second)]
            except (KeyError, TypeError):
                raise BadTemplate(
                    f"{where}: Mappings have no {name}.{first}.{second}.", "Add it, or correct the keys."
                ) from None
    raise _wrong(where, "Fn::FindInMap", argument, "[map, first key, second key]")


def _base64(argument: Any, scope: Scope, where: str) -> str:  # noqa: ANN401
    return base64.b64encode(str(_text(resolve(argument, scope, where))).encode()).decode()


def _import_value(argument: Any, scope: Scope, where: str) -> Any:  # noqa: ANN401
    raise BadTemplate(
        f"{where} uses Fn::ImportValue, but the embedded cloud holds one stack, so there is nothing to import from.",
        "Make it a parameter of the template.",
    )


_FUNCTIONS: dict[str, Callable[[Any, Scope, str], Any]] = {
    "Ref": _ref,
    "Fn::GetAtt": _get_att,
    "Fn::Sub": _sub,
    "Fn::Join": _join,
    "Fn::Split": _split,
    "Fn::Select": _select,
    "Fn::FindInMap": _find_in_map,
    "Fn::Base64": _base64,
    "Fn::ImportValue": _import_value,
}
