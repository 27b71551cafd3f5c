import json

import pytest

from shoal.local import limits
from shoal.local.aws_request import AwsRequest


def request(service, operation, value, method="POST"):
    body = json.dumps(value).encode()
    return AwsRequest({}, method, "/", {}, body, service, operation, "KEY")


@pytest.mark.parametrize(
    ("item", "size"),
    [
        ({"pk": {"S": "abc"}}, 5),
        ({"ü": {"S": "ü"}}, 4),
        ({"n": {"N": "123"}}, 4),
        ({"b": {"B": "AAAA"}}, 4),
        ({"t": {"BOOL": True}}, 2),
        ({"l": {"L": [{"S": "ab"}]}}, 1 + 3 + 1 + 2),
        ({"m": {"M": {"k": {"NULL": True}}}}, 1 + 3 + 1 + 1 + 1),
        ({"s": {"SS": ["a", "bc"]}}, 4),
    ],
)
def test_item_sizes(item, size):
    assert limits.item_size(item) == size


@pytest.mark.parametrize(
    ("service", "operation", "value", "code"),
    [
        ("dynamodb", "PutItem", {"Item": {"p": {"S": "x" * (limits.ITEM_BYTES - 1)}}}, None),
        ("dynamodb", "PutItem", {"Item": {"p": {"S": "x" * limits.ITEM_BYTES}}}, "ValidationException"),
        (
            "dynamodb",
            "BatchWriteItem",
            {"RequestItems": {"t": [{"PutRequest": {"Item": {"p": {"S": "x" * limits.ITEM_BYTES}}}}]}},
            "ValidationException",
        ),
        (
            "dynamodb",
            "TransactWriteItems",
            {"TransactItems": [{"Put": {"Item": {"p": {"S": "x" * limits.ITEM_BYTES}}}}]},
            "ValidationException",
        ),
        ("sqs", "SendMessage", {"MessageBody": "x" * limits.MESSAGE_BYTES}, None),
        ("sqs", "SendMessage", {"MessageBody": "x" * (limits.MESSAGE_BYTES + 1)}, "InvalidParameterValue"),
        (
            "sqs",
            "SendMessageBatch",
            {"Entries": [{"MessageBody": "x" * 200_000}] * 2},
            "AWS.SimpleQueueService.BatchRequestTooLong",
        ),
        ("events", "PutEvents", {"Entries": [{"Detail": "x" * limits.EVENT_BYTES}]}, None),
        (
            "events",
            "PutEvents",
            {"Entries": [{"Detail": "x" * limits.EVENT_BYTES, "Source": "s"}]},
            "ValidationException",
        ),
    ],
)
def test_limits(service, operation, value, code):
    refused = limits.check(request(service, operation, value))
    assert (refused.code if refused else None) == code


def test_execution_input_and_put():
    assert limits.check_execution_input("x" * limits.STATE_BYTES) is None
    assert limits.check_execution_input("x" * (limits.STATE_BYTES + 1)).code == "ValidationException"
    assert limits.check_put_size(limits.PUT_BYTES) is None
    assert limits.check_put_size(limits.PUT_BYTES + 1).code == "EntityTooLarge"
