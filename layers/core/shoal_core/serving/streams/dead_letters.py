"""Dead letters: records that can't be answered as they are, kept with the reason, the fix and their bytes.

The dead-letter queue holds three kinds of messages, all read as `DeadLetter`:
- ours, of a record that `predict_stream` could read no sense in;
- Lambda's record of a Kinesis batch that it gave up (the function died of it again and again), which names positions;
- SQS's own, moved here after too many receives: the record as it was.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import ConfigDict, Field

from shoal_core.errors import BadRequest
from shoal_core.frozen import Frozen
from shoal_core.serving.streams.records import Record, SourceKind
from shoal_core.serving.streams.wrapping import unwrap

if TYPE_CHECKING:  # the API reads dead letters, too, and has no ONNX Runtime
    from shoal_core.serving.streams.answering import Outcome

SCHEMA_VERSION = 1
MAX_INLINE_BYTES = 128 * 1024
"""A message holds 256 KiB; a record of more than this, 4/3 longer as base64, lies in S3."""
MAX_TOLD_CHARACTERS = 2000
"""Of a reason, a fix or a name: they may repeat what the record holds, and a message takes only so much."""
_HALVES = re.compile("[\ud800-\udfff]")
_GIVEN_UP = "GivenUp"
_SOURCE = "DeadLetterQueueSourceArn"


class DeadLetter(Frozen):
    """One record that wasn't answered."""

    model_config = ConfigDict(extra="ignore")

    schema_version: int = SCHEMA_VERSION
    id: str = Field(description="the position of the record that died: the same however often it is told")
    origin: str = Field(description="the position of its first time; another than the id when it was replayed")
    source: SourceKind
    place: str = Field(description="the stream and its shard, or the queue")
    sequence: str = Field(description="Kinesis' sequence number, or SQS's message id")
    key: str = Field(default="", description="its partition key")
    record_id: str = Field(default="", description="its own id, where it could be read")
    model: str = Field(default="", description="the model that it asked, where it could be read")
    error: str = Field(description="name of the error")
    reason: str
    fix: str = ""
    attempts: int = Field(default=1, description="how often it was tried, replays included")
    arrived_at: str = ""
    died_at: str = ""
    data: str | None = Field(default=None, description="its bytes as base64")
    data_key: str | None = Field(default=None, description="where its bytes lie in the artifacts bucket")
    last_sequence: str | None = Field(default=None, description="of several records given up together, the last one")


@dataclass(frozen=True)
class Burial:
    """A dead letter, and the bytes of the record that don't fit into it (None: they do)."""

    letter: DeadLetter
    data: bytes | None


def bury(outcome: Outcome, now: str, key_of: str) -> Burial:
    """The dead letter of a record.

    Args:
        outcome: Of a record with a `death`.
        now: The time, ISO 8601 in UTC.
        key_of: Where the bytes go when they are too many for a message.
    """
    record, error, question, replay = outcome.record, outcome.death, outcome.question, outcome.replay
    data = unwrap(record)[0] if replay else record.data
    large = len(data) > MAX_INLINE_BYTES
    letter = DeadLetter(
        id=record.position,
        origin=outcome.origin,
        source=record.source,
        place=record.place,
        sequence=record.sequence,
        key=record.key,
        record_id=told(question.id) if question else "",
        model=told(question.model)[:200] if question else "",
        error=type(error).__name__,
        reason=told(error.reason) if error else "",
        fix=told(error.fix) if error else "",
        attempts=replay.attempts if replay else 1,
        arrived_at=record.arrived_at,
        died_at=now,
        data=None if large else base64.b64encode(data).decode(),
        data_key=key_of if large else None,
    )
    return Burial(letter, data if large else None)


def told(text: str) -> str:
    """A text as a message or a file can hold it: not too long, and without halves of surrogate pairs."""
    return _HALVES.sub("\ufffd", text[:MAX_TOLD_CHARACTERS])


def letter_of(body: str, message_id: str, attributes: Mapping[str, str]) -> DeadLetter:
    """A message of the dead-letter queue.

    Args:
        body: Its body.
        message_id: Its id.
        attributes: Its system attributes, `DeadLetterQueueSourceArn` and `SentTimestamp` among them.
    """
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        document = None
    if isinstance(document, dict) and "KinesisBatchInfo" in document:
        return _of_batch(document)
    if _SOURCE not in attributes and isinstance(document, dict) and "died_at" in document:
        return DeadLetter.model_validate(document)
    return _of_queue(body.encode(), message_id, attributes.get(_SOURCE, "").rpartition(":")[2] or "queue")


def _of_queue(body: bytes, message_id: str, queue: str) -> DeadLetter:
    """Of a message that its queue gave up; it may be one that was replayed."""
    record = Record("sqs", queue, message_id, message_id, body, "")
    try:
        data, replay = unwrap(record)
    except BadRequest:
        data, replay = body, None
    return DeadLetter(
        id=record.position,
        origin=replay.origin if replay else record.position,
        source="sqs",
        place=queue,
        sequence=message_id,
        key=message_id,
        error=_GIVEN_UP,
        reason="The queue gave the message up: it was delivered too often without being answered.",
        fix="See `shoal logs predict_stream`; mend what fails there, then replay it.",
        attempts=replay.attempts if replay else 1,
        data=base64.b64encode(data).decode(),
    )


def _of_batch(document: Mapping[str, Any]) -> DeadLetter:
    """Of Lambda's record of a batch that it gave up.

    Source: https://docs.aws.amazon.com/lambda/latest/dg/kinesis-on-failure-destination.html
    """
    batch = document["KinesisBatchInfo"]
    stream = str(batch["streamArn"]).rpartition("/")[2]
    place = f"{stream}/{batch['shardId']}"
    first, last = str(batch["startSequenceNumber"]), str(batch["endSequenceNumber"])
    condition = str((document.get("requestContext") or {}).get("condition", ""))
    return DeadLetter(
        id=f"{place}/{first}",
        origin=f"{place}/{first}",
        source="kinesis",
        place=place,
        sequence=first,
        last_sequence=last,
        error=_GIVEN_UP,
        reason=f"Lambda gave up a batch of {batch['batchSize']} ({condition}): the function failed on it every time.",
        fix="See `shoal logs predict_stream`, mend what fails there, and replay it while the stream keeps its records.",
        attempts=int((document.get("requestContext") or {}).get("approximateInvokeCount", 1)),
        arrived_at=str(batch.get("approximateArrivalOfFirstRecord", "")),
        died_at=str(document.get("timestamp", "")),
    )
