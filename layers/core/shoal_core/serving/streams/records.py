"""Records as Lambda hands them over, of a Kinesis stream or an SQS queue, in one form.

Sources: https://docs.aws.amazon.com/lambda/latest/dg/with-kinesis-example.html (the event),
https://docs.aws.amazon.com/lambda/latest/dg/with-sqs-example.html
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from shoal_core.errors import BadRequest

SourceKind = Literal["kinesis", "sqs"]
_KINESIS, _SQS = "aws:kinesis", "aws:sqs"


@dataclass(frozen=True)
class Record:
    """One record.

    Attributes:
        source: Where it comes from.
        place: The stream and its shard (`shoal-requests/shardId-000000000000`), or the queue's name.
        sequence: Kinesis' sequence number, or SQS's message id: what a partial batch response names.
        key: Its partition key; answers of one key keep their order. A queue knows none: the message's id.
        data: Its bytes.
        arrived_at: When the source took it, ISO 8601 in UTC.
    """

    source: SourceKind
    place: str
    sequence: str
    key: str
    data: bytes
    arrived_at: str

    @property
    def position(self) -> str:
        """Where it is: unique, and the same at every delivery."""
        return f"{self.place}/{self.sequence}"


def records_of(event: Mapping[str, Any]) -> list[Record]:
    """The records of a Lambda event, in order.

    Raises:
        BadRequest: An event of something else than Kinesis or SQS.
    """
    entries: Sequence[Mapping[str, Any]] = event.get("Records") or ()
    return [_record(entry) for entry in entries]


def _record(entry: Mapping[str, Any]) -> Record:
    source = entry.get("eventSource")
    if source == _KINESIS:
        return _of_kinesis(entry)
    if source == _SQS:
        return _of_sqs(entry)
    raise BadRequest(f"The event has a record of {str(source)[:100]!r}.", "Map a Kinesis stream or an SQS queue.")


def _of_kinesis(entry: Mapping[str, Any]) -> Record:
    inner = entry["kinesis"]
    stream = str(entry["eventSourceARN"]).rpartition("/")[2]
    shard = str(entry["eventID"]).partition(":")[0]
    return Record(
        source="kinesis",
        place=f"{stream}/{shard}",
        sequence=str(inner["sequenceNumber"]),
        key=str(inner["partitionKey"]),
        data=base64.b64decode(inner["data"]),
        arrived_at=_moment(float(inner["approximateArrivalTimestamp"])),
    )


def _of_sqs(entry: Mapping[str, Any]) -> Record:
    attributes = entry["attributes"]
    message = str(entry["messageId"])
    return Record(
        source="sqs",
        place=str(entry["eventSourceARN"]).rpartition(":")[2],
        sequence=message,
        key=str(attributes.get("MessageGroupId") or message),
        data=str(entry["body"]).encode(),
        arrived_at=_moment(float(attributes["SentTimestamp"]) / 1000),
    )


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
