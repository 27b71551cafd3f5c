"""CloudWatch Logs groups."""

from __future__ import annotations

import contextlib

from shoal.local.deploy.registry import Context, Created, Property, ResourceType, number, recorded, tag_map
from shoal.local.template import Resource


def _create_log_group(context: Context, resource: Resource) -> Created:
    name = context.name(resource, "LogGroupName", 512)
    client = context.client("logs")
    # Logs of an earlier run stay; retention is brought up to date below.
    with contextlib.suppress(client.exceptions.ResourceAlreadyExistsException):
        client.create_log_group(logGroupName=name, tags=tag_map(resource.properties.get("Tags")))
    days = number(resource, "RetentionInDays")
    if days is not None:
        client.put_retention_policy(logGroupName=name, retentionInDays=days)
    return Created(name, {"Arn": f"{context.arn('logs', f'log-group:{name}')}:*"})


LOG_GROUP = ResourceType(
    "AWS::Logs::LogGroup",
    {
        "LogGroupName": Property("name of the group; by default the stack's name and the logical id"),
        "RetentionInDays": recorded("shown by the API; Shoal bounds logs on this machine by size"),
        "LogGroupClass": recorded("accepted; nothing is billed", only=("STANDARD",)),
        "Tags": Property("create_log_group tags"),
    },
    _create_log_group,
)

TYPES = (LOG_GROUP,)
