"""What an event source mapping is, the events that it makes, and how a function's answer to one is read."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, Protocol

from shoal.local.compute.spec import VERSION, InvokeResult
from shoal.local.streaming.records import StreamRecord

# An event may have 6 MB; what is around the records' data is counted roughly, and on the safe side.
MAX_EVENT_BYTES = 6_000_000
RECORD_OVERHEAD_BYTES = 700
StartingPosition = Literal["TRIM_HORIZON", "LATEST", "AT_TIMESTAMP"]


@dataclass(frozen=True)
class EventSourceMapping:
    """One mapping of a stream or a queue to a function.

    Attributes:
        id: Its id: the same at every start, so that it goes on where it was.
        source_arn: The stream or the queue.
        function_name: Physical name of the function.
        batch_size: Most records of one event.
        window_s: How long records are gathered, in seconds.
        parallelization: Batches of one shard at a time, each of other keys.
        start: Where it begins in a stream that it hasn't read.
        start_at: For AT_TIMESTAMP, seconds since the epoch.
        bisect: Whether a batch that fails is halved.
        max_retries: Retries of a batch of a stream; None for ever.
        max_age_s: Age at which records of a stream are given up, in seconds; None never.
        partial: Whether the function reports which records failed.
        on_failure: ARN of the queue that is told of batches that were given up; None for none.
        max_concurrency: Most batches of a queue at a time; None is Lambda's own.
    """

    id: str
    source_arn: str
    function_name: str
    batch_size: int
    window_s: float = 0.0
    parallelization: int = 1
    start: StartingPosition = "TRIM_HORIZON"
    start_at: float = 0.0
    bisect: bool = False
    max_retries: int | None = None
    max_age_s: float | None = None
    partial: bool = False
    on_failure: str | None = None
    max_concurrency: int | None = None

    @property
    def source(self) -> str:
        """Service of the source: `kinesis` or `sqs`."""
        return self.source_arn.split(":")[2]

    @property
    def source_name(self) -> str:
        """Name of the stream or the queue."""
        return self.source_arn.rpartition("/")[2] if self.source == "kinesis" else self.source_arn.rpartition(":")[2]


class Invoker(Protocol):
    """What pollers need of Lambda."""

    def invoke(self, name: str, payload: bytes) -> InvokeResult:
        """Invoke a function and wait for its answer."""
        ...


SendToQueue = Callable[[str, str], None]
"""Puts a message (queue's name, body) of the cloud's own into a queue."""


def kinesis_event(mapping: EventSourceMapping, shard: str, records: Sequence[StreamRecord], role: str) -> bytes:
    """The event of a batch of a shard's records.

    Source: https://docs.aws.amazon.com/lambda/latest/dg/with-kinesis.html
    """
    region = mapping.source_arn.split(":")[3]
    entries = [
        {
            "kinesis": {
                "kinesisSchemaVersion": "1.0",
                "partitionKey": record.key,
                "sequenceNumber": record.sequence,
                "data": base64.b64encode(record.data).decode(),
                "approximateArrivalTimestamp": round(record.arrived, 3),
            },
            "eventSource": "aws:kinesis",
            "eventVersion": "1.0",
            "eventID": f"{shard}:{record.sequence}",
            "eventName": "aws:kinesis:record",
            "invokeIdentityArn": role,
            "awsRegion": region,
            "eventSourceARN": mapping.source_arn,
        }
        for record in records
    ]
    return json.dumps({"Records": entries}, separators=(",", ":")).encode()


def sqs_event(mapping: EventSourceMapping, messages: Sequence[dict[str, Any]]) -> bytes:
    """The event of a batch of messages, as `Queues.receive` gives them.

    Source: https://docs.aws.amazon.com/lambda/latest/dg/with-sqs.html
    """
    region = mapping.source_arn.split(":")[3]
    around = {"eventSource": "aws:sqs", "eventSourceARN": mapping.source_arn, "awsRegion": region}
    return json.dumps({"Records": [message | around for message in messages]}, separators=(",", ":")).encode()


def failed_ids(result: InvokeResult, ids: Sequence[str], partial: bool) -> set[str]:
    """Which records of a batch a function didn't manage.

    All of them when it failed, or when its partial response isn't one; none when it answers without failures.
    Source: https://docs.aws.amazon.com/lambda/latest/dg/services-kinesis-batchfailurereporting.html

    Args:
        result: What the function answered.
        ids: What the batch's records are called.
        partial: Whether the mapping asked for partial responses.
    """
    everything = set(ids)
    if result.function_error is not None:
        return everything
    if not partial:
        return set()
    answer = json.loads(result.payload or b"null")
    if not answer:
        return set()
    failures = answer.get("batchItemFailures", ()) if isinstance(answer, dict) else None
    if not failures:
        return set() if isinstance(answer, dict) else everything
    if not isinstance(failures, list):
        return everything
    named = {str(each.get("itemIdentifier") or "") if isinstance(each, dict) else "" for each in failures}
    return named if named <= everything else everything


def given_up(
    mapping: EventSourceMapping,
    function_arn: str,
    shard: str,
    records: Sequence[StreamRecord],
    condition: Literal["RetryAttemptsExhausted", "RecordAgeExceeded"],
    attempts: int,
    result: InvokeResult | None,
) -> str:
    """What a queue is told of a batch that was given up: where it is, not what it holds.

    Source: https://docs.aws.amazon.com/lambda/latest/dg/kinesis-on-failure-destination.html
    """
    record: dict[str, Any] = {
        "requestContext": {
            "requestId": result.request_id if result else "",
            "functionArn": f"{function_arn}:{VERSION}",
            "condition": condition,
            "approximateInvokeCount": attempts,
        },
        "version": "1.0",
        "timestamp": _moment(datetime.now(UTC).timestamp()),
        "KinesisBatchInfo": {
            "shardId": shard,
            "startSequenceNumber": records[0].sequence,
            "endSequenceNumber": records[-1].sequence,
            "approximateArrivalOfFirstRecord": _moment(records[0].arrived),
            "approximateArrivalOfLastRecord": _moment(records[-1].arrived),
            "batchSize": len(records),
            "streamArn": mapping.source_arn,
        },
    }
    if result is not None:
        response: dict[str, Any] = {"statusCode": result.status, "executedVersion": result.executed_version}
        response |= {"functionError": result.function_error} if result.function_error else {}
        record["responseContext"] = response
    return json.dumps(record)


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
