"""The streams' exits on AWS: the ledger in the catalog's table, answers to Kinesis, dead letters to SQS.

```
pk                       sk         what
STREAM#<stream>/<shard>  ANSWERED   the last sequence number whose record is settled
STREAM#<position>        SETTLED    a message, or a dead letter that was replayed, that is settled; expires
```
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import cache
from typing import Any

from shoal_core.aws.clients import client, service_errors
from shoal_core.aws.clock import now
from shoal_core.aws.config import environment
from shoal_core.aws.handler import artifacts
from shoal_core.aws.table import Table, Value
from shoal_core.errors import Unavailable
from shoal_core.serving.streams.dead_letters import DeadLetter
from shoal_core.serving.streams.exits import Exits
from shoal_core.serving.streams.packing import Keyed
from shoal_core.serving.streams.replaying import Entrances

MARK_SECONDS = 15 * 24 * 3600
"""A queue keeps a message for 14 days at the most."""
LEDGER_SECONDS = 400 * 24 * 3600
"""A stream keeps a record for 365 days at the most."""
_ATTEMPTS = 8
_FIRST_WAIT = 0.05
_LETTERS_AT_ONCE, _LETTER_BYTES_AT_ONCE = 10, 240 * 1024
_RETRIED = "Nothing to do: it is retried."


class StreamLedger:
    """Implements `committing.Ledger` in the catalog's table."""

    def __init__(self, table: Table | None = None, clock: Callable[[], float] = time.time) -> None:
        self._table = table or Table()
        self._clock = clock

    def last(self, place: str) -> str | None:
        """See `committing.Ledger.last`."""
        item = self._table.get(f"STREAM#{place}", "ANSWERED")
        return str(item["answered"]) if item else None

    def advance(self, place: str, before: str | None, after: str) -> bool:
        """See `committing.Ledger.advance`. Kept as text: DynamoDB's numbers have 38 digits, Kinesis' have 56."""
        values: dict[str, Value] = {
            ":after": after,
            ":now": now(),
            ":expires": int(self._clock()) + LEDGER_SECONDS,
        }
        return self._table.update(
            f"STREAM#{place}",
            "ANSWERED",
            "SET answered = :after, updated_at = :now, expires_at = :expires",
            values if before is None else {**values, ":before": before},
            condition="attribute_not_exists(answered)" if before is None else "answered = :before",
        )

    def known(self, positions: Collection[str]) -> set[str]:
        """See `committing.Ledger.known`."""
        keys = [(f"STREAM#{position}", "SETTLED") for position in positions]
        return {str(item["pk"]).removeprefix("STREAM#") for item in self._table.get_all(keys)}

    def mark(self, positions: Collection[str]) -> None:
        """See `committing.Ledger.mark`."""
        expires = int(self._clock()) + MARK_SECONDS
        self._table.put_all(
            {"pk": f"STREAM#{position}", "sk": "SETTLED", "expires_at": expires} for position in positions
        )


class KinesisStream:
    """Implements `committing.AnswerStream`: puts records, refused ones again until they are all there."""

    def __init__(self, name: str, sleep: Callable[[float], None] = time.sleep) -> None:
        self.name = name
        self._sleep = sleep

    def put(self, request: Sequence[Keyed]) -> None:
        """Put records, each of another key (see `packing`). Raises `Unavailable` when some are refused for long."""
        entries = [{"Data": record.data, "PartitionKey": record.key} for record in request]
        for attempt in range(_ATTEMPTS):
            if attempt:
                self._sleep(random.uniform(0.5, 1) * _FIRST_WAIT * 2**attempt)
            with service_errors(f"Stream {self.name}"):
                answer = client("kinesis").put_records(StreamName=self.name, Records=entries)
            if not answer["FailedRecordCount"]:
                return
            entries = [
                entry for entry, result in zip(entries, answer["Records"], strict=True) if result.get("ErrorCode")
            ]
        raise Unavailable(f"Stream {self.name} refuses {len(entries)} records.", _RETRIED)

    def read(self, shard: str, first: str, last: str) -> Iterator[dict[str, Any]]:
        """The records of a shard from one sequence number to another, as GetRecords has them; fewer when some expired.

        Raises:
            Unavailable: Kinesis doesn't answer.
        """
        with service_errors(f"Stream {self.name}"):
            iterator = client("kinesis").get_shard_iterator(
                StreamName=self.name,
                ShardId=shard,
                ShardIteratorType="AT_SEQUENCE_NUMBER",
                StartingSequenceNumber=first,
            )["ShardIterator"]
            while iterator:
                page = client("kinesis").get_records(ShardIterator=iterator)
                for record in page["Records"]:
                    if int(record["SequenceNumber"]) > int(last):
                        return
                    yield record
                    if record["SequenceNumber"] == last:
                        return
                if not page["Records"] and not page["MillisBehindLatest"]:
                    return
                iterator = page.get("NextShardIterator")


class Queue:
    """One SQS queue, in batches."""

    def __init__(self, url: str, sleep: Callable[[float], None] = time.sleep) -> None:
        self.url = url
        self.name = url.rpartition("/")[2]
        self._sleep = sleep

    def send_bodies(self, bodies: Iterable[str]) -> None:
        """Send messages, refused ones again. Raises `Unavailable`."""
        for batch in _batches(bodies):
            entries = [{"Id": str(number), "MessageBody": body} for number, body in enumerate(batch)]
            self._all("send_message_batch", entries)

    def receive(self, visibility_seconds: int, wait_seconds: int) -> list[dict[str, Any]]:
        """At most ten messages, which nobody else sees for a while."""
        with service_errors(f"Queue {self.name}"):
            answer = client("sqs").receive_message(
                QueueUrl=self.url,
                MaxNumberOfMessages=10,
                VisibilityTimeout=visibility_seconds,
                WaitTimeSeconds=wait_seconds,
                AttributeNames=["All"],
            )
        return list(answer.get("Messages", ()))

    def show(self, handles: Sequence[str]) -> None:
        """Make received messages visible again."""
        self._by_tens("change_message_visibility_batch", handles, VisibilityTimeout=0)

    def delete(self, handles: Sequence[str]) -> None:
        """Delete received messages."""
        self._by_tens("delete_message_batch", handles)

    def _by_tens(self, operation: str, handles: Sequence[str], **more: Any) -> None:  # noqa: ANN401
        for start in range(0, len(handles), _LETTERS_AT_ONCE):
            part = handles[start : start + _LETTERS_AT_ONCE]
            self._all(
                operation, [{"Id": str(number), "ReceiptHandle": handle, **more} for number, handle in enumerate(part)]
            )

    def _all(self, operation: str, entries: list[dict[str, Any]]) -> None:
        """Do something with all entries of a batch, those that SQS failed on again."""
        for attempt in range(_ATTEMPTS):
            if attempt:
                self._sleep(random.uniform(0.5, 1) * _FIRST_WAIT * 2**attempt)
            with service_errors(f"Queue {self.name}"):
                answer = getattr(client("sqs"), operation)(QueueUrl=self.url, Entries=entries)
            failed = {entry["Id"] for entry in answer.get("Failed", ())}
            if not failed:
                return
            entries = [entry for entry in entries if entry["Id"] in failed]
        raise Unavailable(f"Queue {self.name} refuses {len(entries)} messages.", _RETRIED)


class DeadLetterQueue(Queue):
    """Implements `committing.DeadLetterBox`."""

    def send(self, letters: Sequence[DeadLetter]) -> None:
        """See `committing.DeadLetterBox.send`. As ASCII: SQS refuses some characters, such as U+FFFF."""
        self.send_bodies(json.dumps(letter.model_dump(mode="json", exclude_none=True)) for letter in letters)


def _batches(bodies: Iterable[str]) -> Iterator[list[str]]:
    """Bodies in order, as many as one SendMessageBatch takes."""
    batch: list[str] = []
    size = 0
    for body in bodies:
        length = len(body.encode())
        if batch and (len(batch) == _LETTERS_AT_ONCE or size + length > _LETTER_BYTES_AT_ONCE):
            yield batch
            batch, size = [], 0
        batch.append(body)
        size += length
    if batch:
        yield batch


@cache
def exits() -> Exits:
    """Where `predict_stream` sends outcomes; as its environment says."""
    settings = environment()
    stream = KinesisStream(settings.predictions_stream) if settings.predictions_stream else None
    journal = settings.stream_journal == "true" or stream is None
    return Exits(StreamLedger(), DeadLetterQueue(settings.dead_letter_queue), artifacts(), stream, journal)


@cache
def entrances() -> Entrances:
    """Where the API puts replayed records; as its environment says."""
    settings = environment()
    stream = KinesisStream(settings.requests_stream) if settings.requests_stream else None
    return Entrances(stream, Queue(settings.requests_queue), artifacts())
