"""What the embedded cloud honours: resource types, their properties, and how each takes effect.

A property is *acted on* (the service, a worker or the gateway behaves by it) or *recorded* (kept and shown where the
API shows it, but without effect on one machine, with the reason). Anything else in a template is an error.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from shoal.local.deploy.deployment import Deployment
from shoal.local.intrinsics import BadTemplate, intrinsic
from shoal.local.template import Resource, Stack

# Deployment is the user's own doing, so it runs on keys that belong to no role.
_ADMINISTRATOR = ("SHOALADMINISTRATOR00", "administrator")


@cache
def _session(region: str) -> boto3.Session:
    """One session per region: it keeps the service descriptions that it has read."""
    return boto3.Session(*_ADMINISTRATOR, region_name=region)


@dataclass(frozen=True)
class Property:
    """How one property of a resource type takes effect.

    Attributes:
        how: One line: what acts on it, or why it's only recorded.
        recorded: Whether it is only recorded.
        only: The values that are honoured; empty for any.
    """

    how: str
    recorded: bool = False
    only: tuple[Any, ...] = ()


def recorded(reason: str, only: tuple[Any, ...] = ()) -> Property:
    """A property that is kept but has no effect here, and why."""
    return Property(reason, recorded=True, only=only)


@dataclass(frozen=True)
class Created:
    """A resource as created: what `Ref` gives, and what `Fn::GetAtt` gives by attribute."""

    physical_id: str
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Context:
    """What a deployer works with.

    Attributes:
        stack: The stack being deployed.
        endpoint: URL of the AWS services.
        api_url: URL of the gateway, what an HTTP API's `ApiEndpoint` is.
        deployment: What has been made so far; deployers add to it.
        secrets: Values to use again, by secret name.
        created: Resources made so far, by logical id.
        layer_paths: Import folder of each layer (None when it adds none), by layer version ARN.
        policy_documents: Documents of the stack's own managed policies, by ARN.
    """

    stack: Stack
    endpoint: str
    api_url: str
    deployment: Deployment
    secrets: Mapping[str, str] = field(default_factory=dict)
    created: dict[str, Created] = field(default_factory=dict)
    layer_paths: dict[str, Path | None] = field(default_factory=dict)
    policy_documents: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    _clients: dict[str, Any] = field(default_factory=dict)

    def client(self, service: str) -> Any:  # noqa: ANN401 - boto3 makes its clients at run time
        """A boto3 client of a service of the embedded cloud."""
        if service not in self._clients:
            config = Config(retries={"max_attempts": 2}, s3={"addressing_style": "path"}, proxies={})
            self._clients[service] = _session(self.stack.region).client(  # type: ignore[call-overload]
                service, endpoint_url=self.endpoint, config=config
            )
        return self._clients[service]

    def arn(self, service: str, resource: str) -> str:
        """An ARN in the stack's region and account."""
        return f"arn:aws:{service}:{self.stack.region}:{self.stack.account}:{resource}"

    def name(self, resource: Resource, given: str, limit: int, *, lower: bool = False) -> str:
        """The name that the template gives, else `<stack>-<LogicalId>`.

        CloudFormation adds random characters; here the name is the same each time, so that data finds its resource.

        Args:
            resource: The resource, resolved.
            given: Property that holds the name.
            limit: Most characters the service allows; a longer name ends in a hash of itself.
            lower: Whether the service knows only lower-case names.
        """
        if given in resource.properties:
            return str(resource.properties[given])
        name = f"{self.stack.name}-{resource.logical_id}"
        if len(name) > limit:
            name = f"{name[: limit - 9]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
        return name.lower() if lower else name


@dataclass(frozen=True)
class ResourceType:
    """One resource type that the embedded cloud honours.

    Attributes:
        name: Such as `AWS::S3::Bucket`.
        properties: By path: `A.B` a property in a property, `A[]` the items of a list, `A.*` any key. A path that has
            longer paths under it is walked into; any other may hold anything.
        create: Makes it, from resolved properties.
        check: Further problems that show before anything is made: pairs of property path and what is wrong.
    """

    name: str
    properties: Mapping[str, Property]
    create: Callable[[Context, Resource], Created]
    check: Callable[[Mapping[str, Any]], Iterator[tuple[str, str]]] = lambda properties: iter(())


@dataclass(frozen=True)
class Use:
    """A property that a resource uses: its path in the template and in the map, and its value."""

    path: str
    known: str
    value: Any


def uses(properties: Mapping[str, Any], resource_type: ResourceType) -> Iterator[Use]:
    """Every property that is used, as deep as the type's map goes. `known` is empty for one that isn't in the map."""

    def walk(value: Any, path: str, known: str) -> Iterator[Use]:  # noqa: ANN401
        if known in resource_type.properties:
            yield Use(path, known, value)
        if intrinsic(value) is not None:
            return
        below = [name for name in resource_type.properties if name.startswith((f"{known}.", f"{known}[]"))]
        if isinstance(value, list) and any(name.startswith(f"{known}[]") for name in below):
            for index, item in enumerate(value):
                yield from walk(item, f"{path}[{index}]", f"{known}[]")
        elif isinstance(value, Mapping) and below:
            yield from members(value, f"{path}.", f"{known}.")
        elif known not in resource_type.properties:
            yield Use(path, "", value)

    def members(value: Mapping[str, Any], path: str, known: str) -> Iterator[Use]:
        for key, item in value.items():
            name = f"{known}{key}"
            listed = any(
                other == name or other.startswith((f"{name}.", f"{name}[]")) for other in resource_type.properties
            )
            wildcard = f"{known}*"
            if listed:
                yield from walk(item, f"{path}{key}", name)
            else:
                yield Use(f"{path}{key}", wildcard if wildcard in resource_type.properties else "", item)

    yield from members(properties, "", "")


def property_problems(resource: Resource, resource_type: ResourceType) -> Iterator[str]:
    """Everything about a resource's properties that isn't honoured, one sentence each."""
    for use in uses(resource.properties, resource_type):
        prefix = f"{resource.logical_id} ({resource.type}): property {use.path}"
        if not use.known:
            yield f"{prefix} isn't honoured"
            continue
        only = resource_type.properties[use.known].only
        if only and intrinsic(use.value) is None and use.value not in only:
            allowed = " or ".join(repr(value) for value in only)
            yield f"{prefix} is {use.value!r}, but only {allowed} is honoured"
    for path, flaw in resource_type.check(resource.properties):
        yield f"{resource.logical_id} ({resource.type}): property {path}: {flaw}"


def tag_map(tags: Any) -> dict[str, str]:  # noqa: ANN401
    """CloudFormation's two forms of tags (list of Key and Value, or a map) as a map."""
    if isinstance(tags, Mapping):
        return {str(key): str(value) for key, value in tags.items()}
    return {str(tag["Key"]): str(tag["Value"]) for tag in tags or []}


def number(resource: Resource, path: str, default: int | None = None) -> int | None:
    """A whole number, which a template may also give as a string. `path` names a property, `A.B` one inside another."""
    value: Any = resource.properties
    for name in path.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    if value is None:
        return default
    try:
        return int(value)
    except (TypeError, ValueError):
        raise BadTemplate(
            f"{resource.logical_id} ({resource.type}): property {path} is {value!r}, not a whole number.", "Correct it."
        ) from None


def flag(value: object) -> bool:
    """A boolean, which a template may also give as a string."""
    return value is True or (isinstance(value, str) and value.lower() == "true")
