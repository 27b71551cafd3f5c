"""CloudWatch alarms that invoke functions."""

from __future__ import annotations

from shoal.local.alarms import COMPARISONS, STATISTICS
from shoal.local.deploy.registry import Context, Created, Property, ResourceType, number
from shoal.local.intrinsics import BadTemplate
from shoal.local.template import Resource


def _create_alarm(context: Context, resource: Resource) -> Created:
    properties = resource.properties
    name = context.name(resource, "AlarmName", 255)
    for action in properties.get("AlarmActions", []):
        if str(action).split(":")[2] != "lambda":
            raise BadTemplate(
                f"{resource.logical_id} ({resource.type}): property AlarmActions is {action}, but only functions are "
                "honoured.",
                "Invoke an AWS::Lambda::Function.",
            )
    settings = {key: properties[key] for key in _AS_GIVEN if key in properties}
    periods = number(resource, "EvaluationPeriods", 1)
    context.client("cloudwatch").put_metric_alarm(
        AlarmName=name,
        **settings,
        Period=number(resource, "Period", 60),
        EvaluationPeriods=periods,
        DatapointsToAlarm=number(resource, "DatapointsToAlarm", periods),
        Threshold=float(properties["Threshold"]),
    )
    return Created(name, {"Arn": context.arn("cloudwatch", f"alarm:{name}")})


_AS_GIVEN = (
    "AlarmDescription",
    "Namespace",
    "MetricName",
    "Dimensions",
    "Statistic",
    "ComparisonOperator",
    "TreatMissingData",
    "AlarmActions",
)

ALARM = ResourceType(
    "AWS::CloudWatch::Alarm",
    {
        "AlarmName": Property("name of the alarm; by default the stack's name and the logical id"),
        "AlarmDescription": Property("put_metric_alarm; goes with the event"),
        "Namespace": Property("which metric is looked at, every second"),
        "MetricName": Property("which metric is looked at, every second"),
        "Dimensions": Property("which metric is looked at, every second"),
        "Statistic": Property("what a period's values become", only=tuple(STATISTICS)),
        "Period": Property("seconds of one datapoint, counted back from now"),
        "EvaluationPeriods": Property("how many datapoints are looked at"),
        "DatapointsToAlarm": Property("how many of them must cross the threshold"),
        "Threshold": Property("the threshold"),
        "ComparisonOperator": Property("what crossing it is", only=tuple(COMPARISONS)),
        "TreatMissingData": Property(
            "what a period without data counts as", only=("notBreaching", "breaching", "missing")
        ),
        "AlarmActions": Property("functions that are invoked when it goes off"),
    },
    _create_alarm,
)

TYPES = (ALARM,)
