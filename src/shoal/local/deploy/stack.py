"""Deploys an expanded template: checks that all of it is honoured, then creates the resources in order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from shoal.local.deploy import (
    apigateway,
    cloudwatch,
    dynamodb,
    events,
    iam,
    kinesis,
    lambda_,
    logs,
    mappings,
    s3,
    secrets,
    sqs,
    stepfunctions,
)
from shoal.local.deploy.deployment import Deployment
from shoal.local.deploy.registry import Context, Created, Property, ResourceType, property_problems, uses
from shoal.local.intrinsics import BadTemplate, Scope, resolve
from shoal.local.template import Resource, Stack

RESOURCE_TYPES: Mapping[str, ResourceType] = {
    resource_type.name: resource_type
    for service in (
        apigateway,
        cloudwatch,
        dynamodb,
        events,
        iam,
        kinesis,
        lambda_,
        logs,
        mappings,
        s3,
        secrets,
        sqs,
        stepfunctions,
    )
    for resource_type in service.TYPES
}


@dataclass(frozen=True)
class Support:
    """One row of the table of what is honoured."""

    type: str
    property: str
    how: str
    recorded: bool


@dataclass(frozen=True)
class RecordedUse:
    """A property of a stack that is kept without effect on this machine, and why."""

    logical_id: str
    type: str
    property: str
    reason: str


def supported_properties() -> list[Support]:
    """Every resource type and property that is honoured and how, for documentation and `shoal doctor`."""
    return [
        Support(name, path, known.how, known.recorded)
        for name, resource_type in sorted(RESOURCE_TYPES.items())
        for path, known in sorted(resource_type.properties.items())
    ]


def check_stack(stack: Stack) -> None:
    """Refuse a stack of which anything isn't honoured. Raises `BadTemplate` that lists everything found."""
    problems = tuple(_problems(stack))
    if problems:
        raise BadTemplate(
            f"The embedded cloud doesn't honour all of stack {stack.name!r}: {'; '.join(problems)}.",
            "Leave these out, or put them in a template of their own for AWS; docs list what is honoured.",
            problems,
        )


def recorded_uses(stack: Stack) -> list[RecordedUse]:
    """What in a stack is kept without effect on this machine."""
    found = []
    for resource in stack.resources.values():
        resource_type = RESOURCE_TYPES.get(resource.type)
        for use in uses(resource.properties, resource_type) if resource_type else ():
            known = resource_type.properties.get(use.known) if resource_type else None
            if known is not None and known.recorded:
                found.append(RecordedUse(resource.logical_id, resource.type, use.path, known.how))
    return found


def deploy_stack(stack: Stack, *, endpoint: str, api_url: str, secrets: Mapping[str, str] | None = None) -> Deployment:
    """Create every resource of a stack.

    Deploying again over what is there changes settings and keeps data.

    Args:
        stack: Of `template.load_stack`.
        endpoint: URL of the AWS services.
        api_url: URL of the HTTP gateway: what `!GetAtt HttpApi.ApiEndpoint` gives.
        secrets: `Deployment.secrets` of the last time, so that generated tokens stay the same.

    Raises:
        BadTemplate: Something isn't honoured (all of it is listed), or a service refused a resource.
    """
    check_stack(stack)
    deployment = Deployment(stack.name, stack.region, stack.account)
    context = Context(stack, endpoint, api_url, deployment, secrets or {})
    scope = _scope(context)
    for resource in stack.resources.values():
        created = _create(context, resource, scope)
        context.created[resource.logical_id] = created
        deployment.resources[resource.logical_id] = created.physical_id
    deployment.outputs = {name: resolve(value, scope, f"Outputs.{name}") for name, value in stack.outputs.items()}
    return deployment


def _problems(stack: Stack) -> Iterator[str]:
    for resource in stack.resources.values():
        resource_type = RESOURCE_TYPES.get(resource.type)
        if resource_type is None:
            yield f"{resource.logical_id} ({resource.type}): the resource type isn't honoured"
        else:
            yield from property_problems(resource, resource_type)


def _scope(context: Context) -> Scope:
    def reference(name: str) -> str | None:
        created = context.created.get(name)
        return created.physical_id if created else None

    def attribute(name: str, attribute: str) -> Any:  # noqa: ANN401
        attributes = context.created[name].attributes
        if attribute not in attributes:
            kind = context.stack.resources[name].type
            raise BadTemplate(
                f"{name} ({kind}) has no attribute {attribute!r} here.",
                f"It has {', '.join(sorted(attributes)) or 'none'}.",
            )
        return attributes[attribute]

    return Scope(context.stack.values, context.stack.mappings, reference, attribute)


def _create(context: Context, resource: Resource, scope: Scope) -> Created:
    """Resolve a resource's properties, check them again now that they're values, and create it."""
    resource_type = RESOURCE_TYPES[resource.type]
    properties = resolve(resource.properties, scope, f"Resources.{resource.logical_id}")
    resolved = Resource(resource.logical_id, resource.type, properties, resource.depends_on)
    problems = tuple(property_problems(resolved, resource_type))
    if problems:
        raise BadTemplate(f"The embedded cloud doesn't honour {'; '.join(problems)}.", "Correct it.", problems)
    subject = f"{resource.logical_id} ({resource.type})"
    try:
        return resource_type.create(context, resolved)
    except KeyError as error:
        raise BadTemplate(f"{subject} lacks property {error.args[0]}.", "Add it.") from error
    except (ClientError, BotoCoreError) as error:
        raise BadTemplate(f"{subject} couldn't be created: {error}", "Correct its properties.") from error


__all__ = [
    "RESOURCE_TYPES",
    "Property",
    "RecordedUse",
    "Support",
    "check_stack",
    "deploy_stack",
    "recorded_uses",
    "supported_properties",
]
