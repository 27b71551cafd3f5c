"""EventBridge: buses, rules that pass events on to queues and log groups, and rules that invoke functions on time."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from shoal.local.deploy.deployment import Schedule
from shoal.local.deploy.registry import Context, Created, Property, ResourceType, recorded, tag_map
from shoal.local.intrinsics import BadTemplate
from shoal.local.template import Resource

_RATE = re.compile(r"rate\(([1-9]\d*) (minute|hour|day)s?\)")
_SECONDS = {"minute": 60.0, "hour": 3600.0, "day": 86400.0}


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
    schedule = properties.get("ScheduleExpression")
    when = {"ScheduleExpression": schedule} if schedule else {"EventPattern": json.dumps(properties["EventPattern"])}
    for target in targets:
        service = str(target["Arn"]).split(":")[2]
        if service not in (("lambda",) if schedule else ("sqs", "logs")):
            raise BadTemplate(
                f"{resource.logical_id} ({resource.type}): property Targets.Arn is {target['Arn']}, but only "
                f"{'functions are honoured on a schedule' if schedule else 'queues and log groups are honoured'}.",
                "Invoke an AWS::Lambda::Function." if schedule else "Send the events to an AWS::SQS::Queue.",
            )
        if schedule:
            function = str(target["Arn"]).rpartition(":")[2]
            payload = str(target.get("Input", ""))
            context.deployment.schedules.append(Schedule(name, _seconds(schedule), function, payload))
    arn = client.put_rule(
        Name=name,
        EventBusName=bus,
        **when,
        State=properties.get("State", "ENABLED"),
        Description=str(properties.get("Description", "")),
    )["RuleArn"]
    # moto takes a rule without a pattern for one that every event matches; the timer invokes a schedule's targets.
    if targets and not schedule:
        client.put_targets(Rule=name, EventBusName=bus, Targets=targets)
    return Created(name, {"Arn": arn})


def _seconds(expression: str) -> float:
    """The time between two invocations of a schedule that `_check_rule` has accepted."""
    found = _RATE.fullmatch(expression)
    return float(found[1]) * _SECONDS[found[2]] if found else 0.0


def _check_rule(properties: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if "EventPattern" not in properties and "ScheduleExpression" not in properties:
        yield "EventPattern", "is missing"
    schedule = properties.get("ScheduleExpression")
    if isinstance(schedule, str) and not _RATE.fullmatch(schedule):
        yield "ScheduleExpression", f"is {schedule!r}, but only rate(N minutes), hours or days is honoured"
    if schedule is not None and "EventPattern" in properties:
        yield "EventPattern", "can't go with ScheduleExpression here; make two rules"


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
        "ScheduleExpression": Property("rate(…): a timer invokes the targets while the rule is enabled"),
        "State": Property("put_rule; enabled or disabled later, it stays so", only=("ENABLED", "DISABLED")),
        "Targets[].Arn": Property("put_targets: an SQS queue or a log group; on a schedule, a function"),
        "Targets[].Id": Property("put_targets"),
        "Targets[].Input": Property("the event that a schedule's function gets"),
    },
    _create_rule,
    _check_rule,
)

TYPES = (EVENT_BUS, RULE)
