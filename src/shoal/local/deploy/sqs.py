"""SQS queues and their policies."""

from __future__ import annotations

import json

from shoal.local.deploy.registry import Context, Created, Property, ResourceType, flag, recorded, tag_map
from shoal.local.template import Resource

_NUMBERS = (
    "DelaySeconds",
    "MaximumMessageSize",
    "MessageRetentionPeriod",
    "ReceiveMessageWaitTimeSeconds",
    "VisibilityTimeout",
)
_FLAGS = ("ContentBasedDeduplication", "FifoQueue", "SqsManagedSseEnabled")


def _create_queue(context: Context, resource: Resource) -> Created:
    properties, client = resource.properties, context.client("sqs")
    name = context.name(resource, "QueueName", 80)
    attributes = {key: str(int(properties[key])) for key in _NUMBERS if key in properties}
    attributes |= {key: str(flag(properties[key])).lower() for key in _FLAGS if key in properties}
    if attributes.get("FifoQueue") == "false":  # SQS knows only true; a standard queue has no such attribute
        del attributes["FifoQueue"]
    elif "FifoQueue" in attributes and "QueueName" not in properties:
        name = f"{name[:75]}.fifo"
    if "RedrivePolicy" in properties:
        attributes["RedrivePolicy"] = json.dumps(properties["RedrivePolicy"])
    try:
        url = client.create_queue(QueueName=name, Attributes=attributes, tags=tag_map(properties.get("Tags")))[
            "QueueUrl"
        ]
    except client.exceptions.QueueNameExists:
        url = client.get_queue_url(QueueName=name)["QueueUrl"]
        client.set_queue_attributes(
            QueueUrl=url, Attributes={key: value for key, value in attributes.items() if key != "FifoQueue"}
        )
    return Created(url, {"Arn": context.arn("sqs", name), "QueueName": name, "QueueUrl": url})


def _create_policy(context: Context, resource: Resource) -> Created:
    document = json.dumps(resource.properties["PolicyDocument"])
    for url in resource.properties["Queues"]:
        context.client("sqs").set_queue_attributes(QueueUrl=url, Attributes={"Policy": document})
    return Created(f"{context.stack.name}-{resource.logical_id}")


QUEUE = ResourceType(
    "AWS::SQS::Queue",
    {
        "QueueName": Property("name of the queue; by default the stack's name and the logical id"),
        **{key: Property("create_queue attribute") for key in (*_NUMBERS, "ContentBasedDeduplication", "FifoQueue")},
        "SqsManagedSseEnabled": recorded("shown by the API; data on disk is as safe as the disk"),
        "RedrivePolicy": Property("create_queue attribute: SQS moves messages to the dead-letter queue"),
        "Tags": Property("create_queue tags"),
    },
    _create_queue,
)

QUEUE_POLICY = ResourceType(
    "AWS::SQS::QueuePolicy",
    {
        "Queues": Property("queues that carry the policy"),
        "PolicyDocument": recorded("shown by the API; within one account the roles' own policies decide"),
    },
    _create_policy,
)

TYPES = (QUEUE, QUEUE_POLICY)
