"""AWS's limits on what a request carries, which moto doesn't enforce or enforces at another size.

Sources: the quota pages of DynamoDB (item 400 KB), SQS (`MaximumMessageSize`, 256 KiB where a queue doesn't set it),
EventBridge (PutEvents 256 KB), Step Functions (state payload 256 KiB) and S3 (one PUT 5 GB). Moto's interpreter itself
fails a state whose input or a task whose result is over 256 KiB with `States.DataLimitExceeded`.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from shoal.local.aws_request import AwsRequest

ITEM_BYTES = 400 * 1024
MESSAGE_BYTES = 256 * 1024
EVENT_BYTES = 256 * 1024
STATE_BYTES = 256 * 1024
PUT_BYTES = 5 * 1024**3
_COLLECTION_OVERHEAD = 3


@dataclass(frozen=True)
class Refused:
    """A request over a limit: the error code and message that AWS answers."""

    code: str
    message: str
    status: int = 400


def check(request: AwsRequest) -> Refused | None:
    """The refusal of a request that is over a limit, or None."""
    if request.service == "dynamodb":
        return _check_items(request)
    if request.service == "sqs":
        return _check_messages(request)
    if request.service == "events" and request.operation == "PutEvents":
        return _check_events(request)
    if request.service == "s3" and request.method == "PUT":
        return check_put_size(int(request.header("x-amz-decoded-content-length") or len(request.body)))
    return None


def check_put_size(size: int) -> Refused | None:
    """The refusal of an S3 upload of `size` bytes in one request, or None."""
    if size <= PUT_BYTES:
        return None
    return Refused("EntityTooLarge", "Your proposed upload exceeds the maximum allowed size")


def check_execution_input(text: str) -> Refused | None:
    """The refusal of a StartExecution input, or None."""
    if len(text.encode()) <= STATE_BYTES:
        return None
    return Refused(
        "ValidationException",
        "1 validation error detected: Value at 'input' failed to satisfy constraint: Member must have length less than "
        f"or equal to {STATE_BYTES}",
    )


def item_size(item: dict[str, Any]) -> int:
    """Bytes of a DynamoDB item: names and values in UTF-8, as its developer guide counts them."""
    return sum(len(name.encode()) + _value_size(value) for name, value in item.items())


def _value_size(value: dict[str, Any]) -> int:
    kind, data = next(iter(value.items()))
    if kind == "S":
        return len(data.encode())
    if kind == "N":
        return _number_size(data)
    if kind == "B":
        return len(base64.b64decode(data)) if isinstance(data, str) else len(data)
    if kind in ("SS", "NS", "BS"):
        return sum(_value_size({kind[0]: each}) for each in data)
    if kind == "L":
        return _COLLECTION_OVERHEAD + sum(1 + _value_size(each) for each in data)
    if kind == "M":
        return _COLLECTION_OVERHEAD + sum(1 + len(name.encode()) + _value_size(each) for name, each in data.items())
    return 1


def _number_size(text: str) -> int:
    """About one byte for two significant digits, plus one; leading and trailing zeros are free."""
    digits = text.lower().partition("e")[0].lstrip("+-").replace(".", "").strip("0")
    return (len(digits) + 1) // 2 + 1 + text.startswith("-")


def _check_items(request: AwsRequest) -> Refused | None:
    if any(item_size(item) > ITEM_BYTES for item in _put_items(request.operation, request.json)):
        return Refused("ValidationException", "Item size has exceeded the maximum allowed size")
    return None


def _put_items(operation: str, parameters: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if operation == "PutItem":
        yield parameters.get("Item", {})
    elif operation == "BatchWriteItem":
        for entries in parameters.get("RequestItems", {}).values():
            yield from (entry["PutRequest"]["Item"] for entry in entries if "PutRequest" in entry)
    elif operation == "TransactWriteItems":
        yield from (entry["Put"]["Item"] for entry in parameters.get("TransactItems", []) if "Put" in entry)


def _check_messages(request: AwsRequest) -> Refused | None:
    if request.operation == "SendMessage":
        if _message_size(request.json) > MESSAGE_BYTES:
            return Refused(
                "InvalidParameterValue",
                f"One or more parameters are invalid. Reason: Message must be shorter than {MESSAGE_BYTES} bytes.",
            )
    elif request.operation == "SendMessageBatch":
        total = sum(_message_size(entry) for entry in request.json.get("Entries", []))
        if total > MESSAGE_BYTES:
            return Refused(
                "AWS.SimpleQueueService.BatchRequestTooLong",
                f"Batch requests cannot be longer than {MESSAGE_BYTES} bytes. You have sent {total} bytes.",
            )
    return None


def _message_size(entry: dict[str, Any]) -> int:
    size = len(str(entry.get("MessageBody", "")).encode())
    for name, attribute in (entry.get("MessageAttributes") or {}).items():
        size += len(name.encode()) + sum(len(str(value).encode()) for value in attribute.values())
    return size


def _check_events(request: AwsRequest) -> Refused | None:
    if sum(_event_size(entry) for entry in request.json.get("Entries", [])) <= EVENT_BYTES:
        return None
    return Refused("ValidationException", "Total size of the entries in the request is over the limit.")


def _event_size(entry: dict[str, Any]) -> int:
    texts = [entry.get(field) or "" for field in ("Source", "DetailType", "Detail")]
    texts += entry.get("Resources") or []
    return (14 if entry.get("Time") else 0) + sum(len(text.encode()) for text in texts)
