"""Event source mappings: streams and queues whose records functions get; `streaming` polls them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from shoal.local.deploy.registry import Context, Created, Property, ResourceType, flag, number, recorded
from shoal.local.intrinsics import BadTemplate, intrinsic
from shoal.local.permissions import evaluate
from shoal.local.streaming.mappings import EventSourceMapping
from shoal.local.template import Resource

_OF_STREAMS = (
    "StartingPosition",
    "StartingPositionTimestamp",
    "ParallelizationFactor",
    "BisectBatchOnFunctionError",
    "MaximumRetryAttempts",
    "MaximumRecordAgeInSeconds",
    "DestinationConfig",
)
_PARTIAL = "ReportBatchItemFailures"
_MOST = {"kinesis": 10_000, "sqs": 10_000}
_USUAL = {"kinesis": 100, "sqs": 10}
# What Lambda itself does with the function's role; without them AWS refuses the mapping, too.
_NEEDED = {
    "kinesis": (
        "kinesis:DescribeStream",
        "kinesis:DescribeStreamSummary",
        "kinesis:GetRecords",
        "kinesis:GetShardIterator",
        "kinesis:ListShards",
    ),
    "sqs": ("sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"),
}


def _create_mapping(context: Context, resource: Resource) -> Created:
    properties = resource.properties
    mapping = EventSourceMapping(
        id=f"{context.stack.name}-{resource.logical_id}",
        source_arn=str(properties["EventSourceArn"]),
        function_name=str(properties["FunctionName"]).rpartition(":")[2],
        batch_size=0,
    )
    _refuse(resource, _source_problems(mapping, properties))
    batch_size = number(resource, "BatchSize", _USUAL[mapping.source]) or 1
    window = number(resource, "MaximumBatchingWindowInSeconds", 0) or 0
    mapping = EventSourceMapping(
        id=mapping.id,
        source_arn=mapping.source_arn,
        function_name=mapping.function_name,
        batch_size=batch_size,
        window_s=float(window),
        parallelization=number(resource, "ParallelizationFactor", 1) or 1,
        start=properties.get("StartingPosition", "TRIM_HORIZON"),
        start_at=float(properties.get("StartingPositionTimestamp", 0)),
        bisect=flag(properties.get("BisectBatchOnFunctionError", False)),
        max_retries=_unless_forever(number(resource, "MaximumRetryAttempts", -1)),
        max_age_s=_unless_forever(number(resource, "MaximumRecordAgeInSeconds", -1)),
        partial=_PARTIAL in properties.get("FunctionResponseTypes", ()),
        on_failure=properties.get("DestinationConfig", {}).get("OnFailure", {}).get("Destination"),
        max_concurrency=number(resource, "ScalingConfig.MaximumConcurrency"),
    )
    _refuse(resource, _number_problems(mapping))
    _check_function(context, resource, mapping)
    if flag(properties.get("Enabled", True)):
        context.deployment.mappings.append(mapping)
    return Created(mapping.id, {"Id": mapping.id})


def _unless_forever(value: int | None) -> int | None:
    return None if value is None or value < 0 else value


def _refuse(resource: Resource, problems: Iterator[tuple[str, str]]) -> None:
    found = tuple(f"property {path} {flaw}" for path, flaw in problems)
    if found:
        raise BadTemplate(f"{resource.logical_id} ({resource.type}): {'; '.join(found)}.", "Correct it.", found)


def _source_problems(mapping: EventSourceMapping, properties: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if mapping.source not in _MOST:
        yield "EventSourceArn", f"is {mapping.source_arn!r}, but only Kinesis streams and SQS queues are honoured"
    elif mapping.source == "sqs":
        yield from ((name, "is of streams, and the source is a queue") for name in _OF_STREAMS if name in properties)
    else:
        if "ScalingConfig" in properties:
            yield "ScalingConfig", "is of queues, and the source is a stream"
        if "StartingPosition" not in properties:
            yield "StartingPosition", "is missing"


def _number_problems(mapping: EventSourceMapping) -> Iterator[tuple[str, str]]:
    """What AWS refuses, too."""
    fifo = mapping.source_name.endswith(".fifo")
    most = 10 if fifo else _MOST[mapping.source]
    if not 1 <= mapping.batch_size <= most:
        yield "BatchSize", f"is {mapping.batch_size}, but 1 to {most} are allowed"
    if not 0 <= mapping.window_s <= 300 or (fifo and mapping.window_s):
        yield "MaximumBatchingWindowInSeconds", "is 0 to 300, and of no FIFO queue"
    if mapping.source == "sqs" and mapping.batch_size > 10 and mapping.window_s < 1:
        yield "MaximumBatchingWindowInSeconds", "must be at least 1 when BatchSize is above 10"
    if not 1 <= mapping.parallelization <= 10:
        yield "ParallelizationFactor", "is 1 to 10"
    if mapping.max_retries is not None and mapping.max_retries > 10_000:
        yield "MaximumRetryAttempts", "is -1 to 10000"
    if mapping.max_age_s is not None and not 60 <= mapping.max_age_s <= 604_800:
        yield "MaximumRecordAgeInSeconds", "is -1, or 60 to 604800"
    if mapping.max_concurrency is not None and not 2 <= mapping.max_concurrency <= 1000:
        yield "ScalingConfig.MaximumConcurrency", "is 2 to 1000"
    if mapping.on_failure is not None and not str(mapping.on_failure).startswith("arn:aws:sqs:"):
        yield "DestinationConfig.OnFailure.Destination", f"is {mapping.on_failure!r}, but only a queue is honoured"


def _check_function(context: Context, resource: Resource, mapping: EventSourceMapping) -> None:
    """The function is there, its role may do what Lambda does with it, and it ends before a message shows up again."""
    deployment = context.deployment
    spec = next((spec for spec in deployment.functions if spec.name == mapping.function_name), None)
    subject = f"{resource.logical_id} ({resource.type})"
    if spec is None:
        raise BadTemplate(f"{subject}: function {mapping.function_name!r} isn't of this template.")
    role = deployment.roles[spec.role_arn]
    needed = [(action, mapping.source_arn) for action in _NEEDED[mapping.source]]
    needed += [("sqs:SendMessage", mapping.on_failure)] if mapping.on_failure else []
    refused = [
        f"{action} on {arn}" for action, arn in needed if evaluate(role.documents.values(), action, arn, {}) != "allow"
    ]
    if refused:
        raise BadTemplate(
            f"{subject}: role {role.name} lacks {', '.join(refused)}, which Lambda needs for the mapping.",
            "Add them to the function's policies.",
        )
    if mapping.source == "sqs":
        client = context.client("sqs")
        url = client.get_queue_url(QueueName=mapping.source_name)["QueueUrl"]
        answer = client.get_queue_attributes(QueueUrl=url, AttributeNames=["VisibilityTimeout"])
        if int(answer["Attributes"]["VisibilityTimeout"]) < spec.timeout_s:
            raise BadTemplate(
                f"{subject}: the queue shows messages again before the function's timeout of {spec.timeout_s} s.",
                "Raise the queue's VisibilityTimeout, to six times the function's timeout.",
            )


def _check_mapping(properties: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    kinds = properties.get("FunctionResponseTypes", ())
    if intrinsic(kinds) is None and any(kind != _PARTIAL for kind in kinds):
        yield "FunctionResponseTypes", f"only {_PARTIAL} is honoured"


MAPPING = ResourceType(
    "AWS::Lambda::EventSourceMapping",
    {
        "EventSourceArn": Property("a Kinesis stream or an SQS queue, which pollers read"),
        "FunctionName": Property("the function"),
        "Enabled": Property("whether the pollers run"),
        "BatchSize": Property("most records of one event, which also stays within 6 MB"),
        "MaximumBatchingWindowInSeconds": Property("how long records are gathered"),
        "FunctionResponseTypes": Property("what the function names is delivered again, the rest isn't"),
        "StartingPosition": Property("where a stream is begun", only=("TRIM_HORIZON", "LATEST", "AT_TIMESTAMP")),
        "StartingPositionTimestamp": Property("for AT_TIMESTAMP"),
        "ParallelizationFactor": Property("batches of one shard at a time, each of other keys"),
        "BisectBatchOnFunctionError": Property("a batch of a stream that fails is halved"),
        "MaximumRetryAttempts": Property("retries of a batch of a stream, after 0.1 to 10 s"),
        "MaximumRecordAgeInSeconds": Property("older records of a stream are given up"),
        "DestinationConfig.OnFailure.Destination": Property("that SQS queue is told what was given up"),
        "ScalingConfig.MaximumConcurrency": Property("batches of a queue at a time; 5 when left out"),
        "Tags": recorded("accepted; nothing here reads them"),
    },
    _create_mapping,
    _check_mapping,
)

TYPES = (MAPPING,)
