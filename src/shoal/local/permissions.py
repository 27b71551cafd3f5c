"""IAM for the roles of a stack: policies decide what a worker's or a state machine's keys may do, as on AWS.

The keys of a role are deterministic (`credentials_for`), so a middleware knows the role from the request's access key.
Any other key is the user's own and may do everything, as an account's administrator.
Evaluation logic: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html
"""

from __future__ import annotations

import base64
import fnmatch
import functools
import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from shoal.local.access import CONTEXT_KEYS, Access, Inventory, Request
from shoal.local.actions import identify
from shoal.local.compute.spec import Credentials

__all__ = [
    "Access",
    "Authorizer",
    "Denied",
    "Inventory",
    "Request",
    "RolePolicies",
    "credentials_for",
    "evaluate",
    "identify",
    "policy_problems",
]

# moto's interpreter of state machines signs its own calls with this key, whatever the state machine's role is.
INTERPRETER_KEY = "ak"
Decision = Literal["allow", "explicit deny", "implicit deny"]


@dataclass(frozen=True)
class RolePolicies:
    """The identity policies of one role.

    Attributes:
        name: Role name.
        arn: Role ARN.
        principals: Services that may assume it, such as `lambda.amazonaws.com`.
        documents: Policy documents by policy name or ARN, inline and managed.
    """

    name: str
    arn: str
    principals: tuple[str, ...] = ()
    documents: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Denied:
    """A refusal; `message` is the sentence that AWS answers."""

    action: str
    resource: str
    role: str
    message: str


def credentials_for(role_arn: str) -> Credentials:
    """The fake keys that stand for a role: the same ones after every restart."""
    digest = hashlib.sha256(f"shoal:{role_arn}".encode()).digest()
    # moto finds the account only from keys of 20 characters A-Z, 0-9.
    access_key = "SHOAL" + base64.b32encode(digest[:10]).decode()[:15]
    return Credentials(access_key, base64.b64encode(digest).decode()[:40])


class Authorizer:
    """Decides whether an access key may make a request.

    Args:
        roles: `Deployment.roles`.
        inventory: `Deployment.inventory`: what the stack's tables and secrets are called.
        interpreter_key: Access key that moto's state machine interpreter signs with. All state machines share it, so
            it may do what any role that Step Functions may assume is allowed to do.
    """

    def __init__(
        self, roles: Mapping[str, RolePolicies], inventory: Inventory, interpreter_key: str = INTERPRETER_KEY
    ) -> None:
        self._inventory = inventory
        self._roles = {credentials_for(role.arn).access_key: [role] for role in roles.values()}
        interpreters = [role for role in roles.values() if "states.amazonaws.com" in role.principals]
        if interpreters:
            self._roles[interpreter_key] = interpreters

    def role_of(self, access_key: str) -> str | None:
        """ARN of the role that a key belongs to; None for the user's own keys."""
        roles = self._roles.get(access_key)
        return roles[0].arn if roles else None

    def check(self, access_key: str, request: Request) -> Denied | None:
        """None when the request is allowed, else what is refused and why."""
        roles = self._roles.get(access_key)
        if roles is None:
            return None
        refusals = [self._refusal(role, request) for role in roles]
        return None if None in refusals else refusals[0]

    def _refusal(self, role: RolePolicies, request: Request) -> Denied | None:
        accesses = identify(request, self._inventory)
        if not accesses:
            what = f"{request.method} {request.path}"
            return Denied(
                what, "", role.arn, f"Shoal can't tell which IAM action {what} needs, so {role.arn} may not make it."
            )
        for access in accesses:
            refusal = _check_access(role, access, self._inventory)
            if refusal:
                return refusal
        return None


def _check_access(role: RolePolicies, access: Access, inventory: Inventory) -> Denied | None:
    context = {
        "aws:PrincipalArn": [role.arn],
        "aws:PrincipalAccount": [inventory.account],
        "aws:RequestedRegion": [inventory.region],
        # On AWS every call of an SDK is made over TLS; on the loopback interface there is nothing to protect from.
        "aws:SecureTransport": ["true"],
        **access.context,
    }
    if access.action == "sts:GetCallerIdentity":  # AWS answers it whatever the policies say
        return None
    decision = evaluate(role.documents.values(), access.action, access.resource, context)
    if decision == "allow":
        return None
    cause = (
        "with an explicit deny in an identity-based policy"
        if decision == "explicit deny"
        else f"because no identity-based policy allows the {access.action} action"
    )
    user = f"arn:aws:sts::{inventory.account}:assumed-role/{role.name}/shoal"
    return Denied(
        access.action,
        access.resource,
        role.arn,
        f"User: {user} is not authorized to perform: {access.action} on resource: {access.resource} {cause}",
    )


def evaluate(
    documents: Iterable[Mapping[str, Any]], action: str, resource: str, context: Mapping[str, Sequence[str]]
) -> Decision:
    """Decide one action: an explicit deny wins, then any allow, else it's denied.

    Args:
        documents: Identity policies.
        action: Such as `s3:GetObject`.
        resource: ARN, or `*` for actions without a resource.
        context: Values of condition keys; a key that is missing isn't in the request.
    """
    allowed = False
    for document in documents:
        for statement in _list(document.get("Statement")):
            if not _applies(statement, action, resource, context):
                continue
            if statement.get("Effect") == "Deny":
                return "explicit deny"
            allowed = True
    return "allow" if allowed else "implicit deny"


def _applies(statement: Mapping[str, Any], action: str, resource: str, context: Mapping[str, Sequence[str]]) -> bool:
    if "NotAction" in statement:
        if any(_matches_action(pattern, action) for pattern in _list(statement["NotAction"])):
            return False
    elif not any(_matches_action(pattern, action) for pattern in _list(statement.get("Action"))):
        return False
    if "NotResource" in statement:
        if any(_matches_arn(pattern, resource) for pattern in _list(statement["NotResource"])):
            return False
    elif not any(_matches_arn(pattern, resource) for pattern in _list(statement.get("Resource"))):
        return False
    conditions = statement.get("Condition") or {}
    return all(
        _holds(operator, _list(wanted), _values(context, key))
        for operator, tests in conditions.items()
        for key, wanted in tests.items()
    )


def _list(value: Any) -> list[Any]:  # noqa: ANN401
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def _values(context: Mapping[str, Sequence[str]], key: str) -> Sequence[str] | None:
    """Condition keys are case-insensitive."""
    return next((values for name, values in context.items() if name.lower() == key.lower()), None)


@functools.lru_cache(maxsize=4096)
def _pattern(text: str, flags: int = 0) -> re.Pattern[str]:
    """IAM's wildcards: `*` any run, `?` one character, `${*}` `${?}` `${$}` those characters themselves."""
    parts = re.split(r"(\$\{[*?$]\}|[*?])", text)
    expression = "".join({"*": ".*", "?": "."}.get(part) or re.escape(_literal(part)) for part in parts)
    return re.compile(expression, flags | re.DOTALL)


def _literal(part: str) -> str:
    return part[2] if fnmatch.fnmatchcase(part, "$[{][*?$][}]") else part


def _matches_action(pattern: str, action: str) -> bool:
    return _pattern(pattern, re.IGNORECASE).fullmatch(action) is not None


def _matches_arn(pattern: str, resource: str) -> bool:
    """Wildcards of an ARN stay within its part (service, region, account …); the last part may hold colons."""
    if pattern == "*":
        return True
    wanted, found = pattern.split(":", 5), resource.split(":", 5)
    if len(wanted) != 6 or len(found) != 6:
        return _pattern(pattern).fullmatch(resource) is not None
    return all(_pattern(part).fullmatch(text) is not None for part, text in zip(wanted, found, strict=True))


def _number(compare: Callable[[float, float], bool]) -> Callable[[str, str], bool]:
    def test(wanted: str, found: str) -> bool:
        try:
            return compare(float(found), float(wanted))
        except ValueError:
            return False

    return test


# Each compares (value in the policy, value in the request). `Not…` operators negate the whole test, see `_holds`.
_OPERATORS: Mapping[str, Callable[[str, str], bool]] = {
    "StringEquals": lambda wanted, found: wanted == found,
    "StringEqualsIgnoreCase": lambda wanted, found: wanted.lower() == found.lower(),
    "StringLike": lambda wanted, found: _pattern(wanted).fullmatch(found) is not None,
    "ArnEquals": _matches_arn,
    "ArnLike": _matches_arn,
    "Bool": lambda wanted, found: wanted.lower() == found.lower(),
    "NumericEquals": _number(lambda found, wanted: found == wanted),
    "NumericLessThan": _number(lambda found, wanted: found < wanted),
    "NumericLessThanEquals": _number(lambda found, wanted: found <= wanted),
    "NumericGreaterThan": _number(lambda found, wanted: found > wanted),
    "NumericGreaterThanEquals": _number(lambda found, wanted: found >= wanted),
}
_NEGATED = {
    "StringNotEquals": "StringEquals",
    "StringNotEqualsIgnoreCase": "StringEqualsIgnoreCase",
    "StringNotLike": "StringLike",
    "ArnNotEquals": "ArnEquals",
    "ArnNotLike": "ArnLike",
    "NumericNotEquals": "NumericEquals",
}


def _operator_parts(operator: str) -> tuple[str, str, bool]:
    """(set prefix or empty, operator, whether `IfExists`)."""
    prefix, _, name = operator.rpartition(":")
    return prefix, name.removesuffix("IfExists"), name.endswith("IfExists")


def _holds(operator: str, wanted: list[Any], found: Sequence[str] | None) -> bool:
    """Whether one condition holds. See IAM's "Condition operators" and "Multivalued context keys"."""
    prefix, name, if_exists = _operator_parts(operator)
    values = [str(item).lower() if isinstance(item, bool) else str(item) for item in wanted]
    if name == "Null":
        return (found is None) == (values[0].lower() == "true")
    negated = name in _NEGATED
    test = _OPERATORS[_NEGATED.get(name, name)]
    if not found:
        # AWS: a missing key satisfies negated operators, IfExists and ForAllValues, and fails the others.
        return if_exists or prefix == "ForAllValues" or (negated and prefix != "ForAnyValue")
    matches = [any(test(value, item) for value in values) != negated for item in found]
    return all(matches) if prefix == "ForAllValues" or not prefix else any(matches)


def policy_problems(document: Mapping[str, Any]) -> Iterator[str]:
    """What in a policy document can't be enforced here, one phrase each."""
    for statement in _list(document.get("Statement")):
        if statement.get("Effect") not in ("Allow", "Deny"):
            yield f"Effect {statement.get('Effect')!r} isn't Allow or Deny"
        if ("Action" in statement) == ("NotAction" in statement):
            yield "a statement needs either Action or NotAction"
        if ("Resource" in statement) == ("NotResource" in statement):
            yield "a statement needs either Resource or NotResource"
        yield from (
            f"policy variable {name} in {pattern!r} isn't known"
            for pattern in [*_list(statement.get("Resource")), *_list(statement.get("NotResource"))]
            if isinstance(pattern, str)
            for name in re.findall(r"\$\{[^*?$}][^}]*\}", pattern)
        )
        for operator, tests in (statement.get("Condition") or {}).items():
            prefix, name, _ = _operator_parts(operator)
            if name not in (*_OPERATORS, *_NEGATED, "Null") or prefix not in ("", "ForAllValues", "ForAnyValue"):
                yield f"condition operator {operator} isn't evaluated"
            yield from (f"condition key {key} isn't known" for key in tests if key.lower() not in CONTEXT_KEYS)
