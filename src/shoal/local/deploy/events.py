"""EventBridge: buses, and rules that pass events on to queues and log groups."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from shoal.local.deploy.registry import Context, Created, Property, ResourceType, recorded, tag_map
from shoal.local.intrinsics import BadTemplate
from shoal.local.template import Resource


def _create_bus(context: Context, resource: Resource) -> Created:
    client, name = context.client("events"), str(resource.properties["Name"])
    tags = [{"Key": key, "Value": value} for key, value in tag_map(resource.properties.get("Tags")).items()]
    if name not in [bus["Name"] for bus in client.list_event_buses()["EventBuses"]]:
        client.create_event_bus(Name=name, Tags=tags)
    return Created(name, {"Arn": context.arn("events", f"event-bus/{name}"), "Name": name})


def _create_rule(context: Context, resource: Resource) -> Created:
    properties, client = resource.properties, context.client("events")
    name = context.name(resource, "Name", 64)
    bus = str(properties.get("EventBusName", "default"))
    targets = properties.get("Targets", [])
    for target in targets:
        service = str(target["Arn"]).split(":")[2]
        if service not in ("sqs", "logs"):
            raise BadTemplate(
                f"{resource.logical_id} ({resource.type}): property Targets.Arn is {target['Arn']}, "
                "but only queues and log groups are honoured.",
                "Send the events to an AWS::SQS::Queue.",
            )
    arn = client.put_rule(
        Name=name,
        EventBusName=bus,
        EventPattern=json.dumps(properties["EventPattern"]),
        State=properties.get("State", "ENABLED"),
        Description=str(properties.get("Description", "")),
    )["RuleArn"]
    if targets:
        client.put_targets(Rule=name, EventBusName=bus, Targets=targets)
    return Created(name, {"Arn": arn})


def _check_rule(properties: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if "EventPattern" not in properties and "ScheduleExpression" not in properties:
        yield "EventPattern", "is missing"


EVENT_BUS = ResourceType(
    "AWS::Events::EventBus",
    {
        "Name": Property("create_event_bus"),
        "Description": recorded("accepted; it has no effect on AWS either"),
        "Tags": Property("create_event_bus"),
    },
    _create_bus,
)

RULE = ResourceType(
    "AWS::Events::Rule",
    {
        "Name": Property("name of the rule; by default the stack's name and the logical id"),
        "Description": Property("put_rule"),
        "EventBusName": Property("put_rule"),
        "EventPattern": Property("put_rule: matching events go to the targets"),
        "State": Property("put_rule", only=("ENABLED", "DISABLED")),
        "Targets[].Arn": Property("put_targets: an SQS queue or a log group"),
        "Targets[].Id": Property("put_targets"),
    },
    _create_rule,
    _check_rule,
)

TYPES = (EVENT_BUS, RULE)
