"""SQS's front: one request at a time, everything kept; and what the cloud itself does with queues."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from moto.sqs.models import Message, sqs_backends

from shoal.local.aws_request import AwsRequest
from shoal.local.aws_response import AwsResponse
from shoal.local.small_state import QueueState

_READS = ("Get", "List")
_POLL_SECONDS = 0.05
_SYSTEM_ATTRIBUTES = (
    ("MessageGroupId", "group_id"),
    ("MessageDeduplicationId", "deduplication_id"),
    ("SequenceNumber", "sequence_number"),
)


class Queues:
    """The queues of a cloud. Safe to use from many threads.

    Args:
        state: Keeps the messages.
        account: Account id.
        region: Region.
        forward: Gives a request to moto.
    """

    def __init__(
        self, state: QueueState, account: str, region: str, forward: Callable[[AwsRequest], AwsResponse]
    ) -> None:
        self._state = state
        self._account, self._region = account, region
        self._forward = forward
        self._lock = threading.RLock()

    def answer(self, request: AwsRequest) -> AwsResponse:
        """Answer one request; a long poll waits outside of the lock."""
        name = str(request.json.get("QueueUrl", "")).rpartition("/")[2]
        if request.operation == "ReceiveMessage":
            return self._answer_receive(request)
        with self._lock:
            response = self._forward(request)
            if response.ok and request.operation == "CreateQueue":
                self._state.count()
            if response.ok and not request.operation.startswith(_READS):
                if name:
                    self._state.record(name)
                else:
                    self._state.record_all()
            return response

    def _answer_receive(self, request: AwsRequest) -> AwsResponse:
        parameters = request.json
        deadline = time.monotonic() + float(parameters.get("WaitTimeSeconds") or 0)
        if parameters:
            request.replace_body(json.dumps(parameters | {"WaitTimeSeconds": 0}).encode())
        while True:
            with self._lock:
                response = self._forward(request)
                empty = b'"Messages"' not in b"".join(response.body)
                if response.ok and not empty:
                    self._state.record_all()  # a redrive moves a message to another queue
            if not response.ok or not empty or time.monotonic() >= deadline:
                return response
            time.sleep(_POLL_SECONDS)

    def record_all(self) -> None:
        """Keep every queue, after something else put messages into one."""
        with self._lock:
            self._state.record_all()

    def send(self, name: str, body: str) -> None:
        """Put a message of the cloud's own into a queue, durably."""
        with self._lock:
            self._backend.send_message(name, body)
            self._state.record(name)

    def receive(self, name: str, count: int) -> list[dict[str, Any]]:
        """At most `count` messages of a queue, as an event for a function shows them; for its visibility timeout nobody
        else gets them."""
        with self._lock:
            queue = self._backend.get_queue(name)
            if not queue.messages:
                return []
            timeout = int(queue.visibility_timeout)
            found = self._backend.receive_message(name, count, 0, timeout, ["All"])
            self._state.record_all()
        return [_shown(message) for message in found]

    def delete(self, name: str, handles: Sequence[str]) -> None:
        """Delete received messages."""
        with self._lock:
            for handle in handles:
                self._backend.delete_message(name, handle)
            self._state.record(name)

    @property
    def _backend(self) -> Any:  # noqa: ANN401 - moto's backend, whose attributes aren't all declared
        return sqs_backends[self._account][self._region]


def _shown(message: Message) -> dict[str, Any]:
    """A message as Lambda's events have it."""
    attributes = {
        "ApproximateReceiveCount": str(message.approximate_receive_count),
        "SentTimestamp": str(message.sent_timestamp),
        "SenderId": str(message.sender_id),
        "ApproximateFirstReceiveTimestamp": str(message.approximate_first_receive_timestamp),
    }
    attributes |= {name: str(getattr(message, field)) for name, field in _SYSTEM_ATTRIBUTES if getattr(message, field)}
    return {
        "messageId": message.id,
        "receiptHandle": message.receipt_handle,
        "body": message.body,
        "attributes": attributes,
        "messageAttributes": {
            name: {
                "stringValue": value.get("StringValue"),
                "dataType": value.get("DataType"),
                "stringListValues": [],
                "binaryListValues": [],
            }
            for name, value in message.message_attributes.items()
        },
        "md5OfBody": message.body_md5,
    }
