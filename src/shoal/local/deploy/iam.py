"""IAM roles: shown by the API, and enforced by `permissions.Authorizer`."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from shoal.local.deploy.managed_policies import MANAGED_POLICIES
from shoal.local.deploy.registry import Context, Created, Property, ResourceType, recorded, tag_map
from shoal.local.intrinsics import BadTemplate, intrinsic
from shoal.local.permissions import RolePolicies, policy_problems
from shoal.local.template import Resource


def _create_role(context: Context, resource: Resource) -> Created:
    properties, client = resource.properties, context.client("iam")
    name = context.name(resource, "RoleName", 64)
    path = str(properties.get("Path", "/"))
    tags = [{"Key": key, "Value": value} for key, value in tag_map(properties.get("Tags")).items()]
    trust = properties["AssumeRolePolicyDocument"]
    try:
        role = client.create_role(RoleName=name, Path=path, AssumeRolePolicyDocument=json.dumps(trust), Tags=tags)[
            "Role"
        ]
    except client.exceptions.EntityAlreadyExistsException:
        role = client.get_role(RoleName=name)["Role"]
    documents: dict[str, Any] = {}
    for policy in properties.get("Policies", []):
        document = policy["PolicyDocument"]
        _refuse_problems(resource, policy["PolicyName"], document)
        client.put_role_policy(RoleName=name, PolicyName=policy["PolicyName"], PolicyDocument=_text(document))
        documents[policy["PolicyName"]] = document
    for arn in properties.get("ManagedPolicyArns", []):
        documents[arn] = _managed_document(context, resource, str(arn))
        _attach(client, name, str(arn), documents[arn])
    context.deployment.roles[role["Arn"]] = RolePolicies(name, role["Arn"], tuple(_principals(trust)), documents)
    return Created(name, {"Arn": role["Arn"], "RoleId": role["RoleId"]})


def _text(document: Mapping[str, Any]) -> str:
    """A document as moto takes it: SAM's policy templates leave out the version, which AWS allows."""
    return json.dumps({"Version": "2012-10-17", **document})


def _attach(client: Any, role: str, arn: str, document: Mapping[str, Any]) -> None:  # noqa: ANN401
    """Attach a managed policy; where moto doesn't hold AWS's own, its document is shown as an inline policy."""
    try:
        client.attach_role_policy(RoleName=role, PolicyArn=arn)
    except client.exceptions.NoSuchEntityException:
        name = arn.rpartition("/")[2]
        client.put_role_policy(RoleName=role, PolicyName=name, PolicyDocument=_text(document))


def _managed_document(context: Context, resource: Resource, arn: str) -> Mapping[str, Any]:
    if arn in MANAGED_POLICIES:
        return MANAGED_POLICIES[arn]
    if arn in context.policy_documents:
        return context.policy_documents[arn]
    raise BadTemplate(
        f"{resource.logical_id} ({resource.type}): the document of managed policy {arn} isn't known here, "
        "so it can't be enforced.",
        f"Write the statements out, or use one of {', '.join(sorted(MANAGED_POLICIES))}.",
    )


def _refuse_problems(resource: Resource, policy: str, document: Mapping[str, Any]) -> None:
    problems = tuple(policy_problems(document))
    if problems:
        raise BadTemplate(
            f"{resource.logical_id} ({resource.type}): policy {policy}: {'; '.join(problems)}.",
            "Write it with what Shoal enforces.",
            problems,
        )


def _principals(trust: Mapping[str, Any]) -> Iterator[str]:
    statements = trust.get("Statement", [])
    for statement in statements if isinstance(statements, list) else [statements]:
        services = statement.get("Principal", {}).get("Service", [])
        yield from services if isinstance(services, list) else [services]


def _create_managed_policy(context: Context, resource: Resource) -> Created:
    client, document = context.client("iam"), resource.properties["PolicyDocument"]
    name = context.name(resource, "ManagedPolicyName", 128)
    _refuse_problems(resource, name, document)
    arn = f"arn:aws:iam::{context.stack.account}:policy/{name}"
    # One left by an earlier run stays in the API; what is enforced is the document below.
    with contextlib.suppress(client.exceptions.EntityAlreadyExistsException):
        client.create_policy(PolicyName=name, PolicyDocument=_text(document))
    context.policy_documents[arn] = document
    return Created(arn, {"PolicyArn": arn})


def _check_role(properties: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for index, policy in enumerate(properties.get("Policies", [])):
        if intrinsic(policy) is None and intrinsic(policy.get("PolicyDocument")) is None:
            yield from (
                (f"Policies[{index}].PolicyDocument", flaw) for flaw in policy_problems(policy["PolicyDocument"])
            )
    for index, arn in enumerate(properties.get("ManagedPolicyArns", [])):
        foreign = isinstance(arn, str) and (":aws:policy/" in arn or not arn.startswith("arn:"))
        if foreign and arn not in MANAGED_POLICIES:
            yield f"ManagedPolicyArns[{index}]", f"the document of {arn} isn't known here, so it can't be enforced"


ROLE = ResourceType(
    "AWS::IAM::Role",
    {
        "RoleName": Property("name of the role; by default the stack's name and the logical id"),
        "Path": Property("create_role"),
        "AssumeRolePolicyDocument": Property("tells which roles the state machine interpreter acts for"),
        "ManagedPolicyArns": Property("the middleware enforces their documents"),
        "Policies[].PolicyName": Property("put_role_policy"),
        "Policies[].PolicyDocument": Property("the middleware enforces it on the role's keys"),
        "Description": recorded("accepted; it has no effect on AWS either"),
        "MaxSessionDuration": recorded("accepted; a worker's keys don't expire here"),
        "Tags": Property("create_role"),
    },
    _create_role,
    _check_role,
)

MANAGED_POLICY = ResourceType(
    "AWS::IAM::ManagedPolicy",
    {
        "ManagedPolicyName": Property("name of the policy; by default the stack's name and the logical id"),
        "PolicyDocument": Property("the middleware enforces it on the keys of the roles that name it"),
        "Description": recorded("accepted; it has no effect on AWS either"),
    },
    _create_managed_policy,
)

TYPES = (ROLE, MANAGED_POLICY)
