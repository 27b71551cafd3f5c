"""Streams: records sent to be answered, their answers, and the dead letters among them."""

from __future__ import annotations

import json
import random
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from botocore.exceptions import BotoCoreError, ClientError

from shoal._models import to_instance, to_json
from shoal.connection import Connection, aws_error
from shoal.errors import BadRequest, NotFound, ServiceFailed

MAX_RECORD_BYTES = 1_000_000
MAX_REQUEST_BYTES = 4_500_000
MAX_REQUEST_RECORDS = 500
MAX_MESSAGE_BYTES = 250_000
MESSAGES_AT_ONCE = 10
ATTEMPTS = 12
FIRST_WAIT = 0.05
POLL_SECONDS = 0.25
REMEMBERED = 200_000
_STREAMING = "Deploy the stack with the parameter Streaming=on, or use the queue (`--queue`)."
Start = Literal["beginning", "now"]


@dataclass(frozen=True)
class _Entry:
    """One record to send."""

    id: str
    key: str
    data: bytes

    @property
    def size(self) -> int:
        return len(self.data) + len(self.key.encode())


class Streams:
    """Records in, answers out.

    Args:
        connection: The cloud. Its AWS credentials send records and read answers; its token replays dead letters.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.requests = f"{connection.stack}-requests"
        self.predictions = f"{connection.stack}-predictions"

    def send(
        self,
        model: str,
        instances: Iterable[Any],
        *,
        key: str | Callable[[Any], str] | None = None,
        ids: Iterable[str] | None = None,
        version: int | str | None = None,
        to: Literal["stream", "queue"] = "stream",
    ) -> list[str]:
        """Send instances, a record each, in order.

        Args:
            model: Who shall answer.
            instances: Rows {column: value}, windows {"rows": [...]}, images (a path, bytes, an array); read as they are
                sent, so they may be many.
            key: Answers of one key keep the order of their records: a column's name, or what tells the key of an
                instance. None: each record is on its own, which is fastest.
            ids: What the answers are called; made up when None.
            version: A version's number, or an alias; the one in production when None.
            to: The stream, or the queue, which every stack has, and which knows no order.

        Returns:
            The ids, in order.

        Raises:
            BadRequest: An instance can't be sent; those before it are.
            NotFound: The stack has no stream.
            ServiceFailed: The stream refuses records for long.
        """
        sent: list[str] = []
        entries = _entries(model, instances, key, ids, version)
        if to == "queue":
            for batch in _messages(entries):
                self._send_messages(batch)
                sent += [entry.id for entry in batch]
            return sent
        for request in _requests(entries):
            self._put(request)
            sent += [entry.id for entry in request]
        return sent

    def _put(self, request: Sequence[_Entry]) -> None:
        """Put records of different keys: those that are refused again, before any later record."""
        records = [{"Data": entry.data, "PartitionKey": entry.key} for entry in request]
        for attempt in range(ATTEMPTS):
            if attempt:
                time.sleep(random.uniform(0.5, 1) * min(5.0, FIRST_WAIT * 2**attempt))
            try:
                answer = self._kinesis.put_records(StreamName=self.requests, Records=records)
            except (BotoCoreError, ClientError) as error:
                raise self._error(error, self.requests) from error
            results = zip(records, answer["Records"], strict=True)
            records = [record for record, result in results if result.get("ErrorCode")]
            if not records:
                return
        raise ServiceFailed(
            f"Stream {self.requests!r} refuses {len(records)} records.", "It is throttled; send more slowly."
        )

    def _send_messages(self, batch: Sequence[_Entry]) -> None:
        sqs = self._connection.aws("sqs")
        try:
            url = sqs.get_queue_url(QueueName=self.requests)["QueueUrl"]
            entries = [{"Id": str(place), "MessageBody": entry.data.decode()} for place, entry in enumerate(batch)]
            answer = sqs.send_message_batch(QueueUrl=url, Entries=entries)
        except (BotoCoreError, ClientError) as error:
            raise aws_error(error, f"queue {self.requests!r}") from error
        if answer.get("Failed"):
            raise ServiceFailed(f"Queue {self.requests!r} refused a message: {answer['Failed'][0].get('Message', '')}.")

    def answers(
        self, *, start: Start = "beginning", follow: bool = False, stopped: Callable[[], bool] = lambda: False
    ) -> Iterator[dict[str, Any]]:
        """Answers from the stream of predictions, each once; those of one key in order.

        A function that died while it answered is started again with the same records, so an answer may be in the
        stream twice: what has the position of an earlier one, or one before it, is left out.

        Args:
            start: From the oldest record that the stream keeps, or from now on.
            follow: Whether to wait for more, for ever.
            stopped: Asked between reads; true ends it.

        Yields:
            `id`, `model`, `version`, `task`, `predictions`, `key`, `position`, `arrived_at`, `answered_at`.

        Raises:
            NotFound: The stack has no stream.
        """
        seen = _Seen()
        for data in self._records(start, follow, stopped):
            for line in data.splitlines():
                answer = json.loads(line)
                if seen.is_new(answer):
                    yield answer

    def _records(self, start: Start, follow: bool, stopped: Callable[[], bool]) -> Iterator[bytes]:
        kind = "TRIM_HORIZON" if start == "beginning" else "LATEST"
        try:
            shards = [shard["ShardId"] for shard in self._kinesis.list_shards(StreamName=self.predictions)["Shards"]]
            waiting = {
                shard: self._kinesis.get_shard_iterator(
                    StreamName=self.predictions, ShardId=shard, ShardIteratorType=kind
                )["ShardIterator"]
                for shard in shards
            }
            while waiting and not stopped():
                moved = False
                for shard, iterator in list(waiting.items()):
                    page = self._kinesis.get_records(ShardIterator=iterator)
                    for record in page["Records"]:
                        yield record["Data"]
                    moved = moved or bool(page["Records"])
                    following = page.get("NextShardIterator")
                    ended = not follow and not page["Records"] and not page["MillisBehindLatest"]
                    if following is None or ended:
                        del waiting[shard]
                    else:
                        waiting[shard] = following
                if not moved and waiting:
                    time.sleep(POLL_SECONDS)
        except (BotoCoreError, ClientError) as error:
            raise self._error(error, self.predictions) from error

    def journal(self) -> Iterator[dict[str, Any]]:
        """Outcomes that were written to S3 (StreamOutput `s3` or `both`, and those of the queue without streams).

        Yields:
            Answers, and of records that died `error`, `reason` and `fix`; of one shard in order, each once.
        """
        bucket, s3 = self._connection.artifacts, self._connection.s3
        try:
            for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix="streams/"):
                for entry in page.get("Contents", ()):
                    if entry["Key"].endswith(".jsonl"):
                        for line in s3.get_object(Bucket=bucket, Key=entry["Key"])["Body"].read().splitlines():
                            yield json.loads(line)
        except (BotoCoreError, ClientError) as error:
            raise aws_error(error, f"s3://{bucket}/streams/") from error

    def dead_letters(self, model: str | None = None, limit: int = 100) -> tuple[list[dict[str, Any]], bool]:
        """Records that weren't answered, in order, and whether there are more.

        Args:
            model: Only those that asked this model.
            limit: At most so many, up to 2,000.
        """
        query = {"limit": str(limit)} | ({"model": model} if model else {})
        page = self._connection.request("GET", "/streams/dead-letters", query=query)
        return list(page["letters"]), bool(page["more"])

    def replay(self, ids: Sequence[str] | None = None, model: str | None = None) -> dict[str, Any]:
        """Put records of dead letters back, in order, after what was wrong is mended.

        Args:
            ids: Only these letters.
            model: Only letters whose record asked this model.

        Returns:
            `replayed`, how many records are back, and `kept`, why other letters stay, by id.

        Raises:
            NotFound: No letter has one of the ids.
        """
        wish = {name: value for name, value in (("ids", list(ids) if ids else None), ("model", model)) if value}
        replayed, kept = 0, dict[str, str]()
        while True:
            answer = self._connection.request(
                "POST", "/streams/dead-letters/replay", body=json.dumps(wish).encode(), content_type="application/json"
            )
            replayed += int(answer["replayed"])
            kept |= answer["kept"]
            if ids or not answer["more"] or not answer["replayed"]:
                return {"replayed": replayed, "kept": kept}

    @cached_property
    def _kinesis(self) -> Any:  # noqa: ANN401 - boto3 makes its client classes at run time
        return self._connection.aws("kinesis")

    def _error(self, error: Exception, stream: str) -> Exception:
        found = aws_error(error, f"stream {stream!r}")
        if isinstance(found, NotFound):
            return NotFound(f"Stack {self._connection.stack!r} has no stream {stream!r}.", _STREAMING)
        return found


class _Seen:
    """Which answers were told: the last sequence number of each shard's key, and positions in queues, both bounded."""

    def __init__(self) -> None:
        self._last: OrderedDict[tuple[str, str], int] = OrderedDict()

    def is_new(self, answer: dict[str, Any]) -> bool:
        """Whether an answer wasn't told yet; notes it."""
        place, _, sequence = str(answer.get("position", "")).rpartition("/")
        number = int(sequence) if sequence.isdigit() else 1
        name = (place, str(answer.get("key", ""))) if sequence.isdigit() else (place, sequence)
        if self._last.get(name, 0) >= number:
            return False
        self._last[name] = number
        self._last.move_to_end(name)
        if len(self._last) > REMEMBERED:
            self._last.popitem(last=False)
        return True


def _entries(
    model: str,
    instances: Iterable[Any],
    key: str | Callable[[Any], str] | None,
    ids: Iterable[str] | None,
    version: int | str | None,
) -> Iterator[_Entry]:
    names = iter(ids) if ids is not None else None
    prefix = uuid.uuid4().hex[:12]
    for number, instance in enumerate(instances):
        name = next(names, None) if names is not None else f"{prefix}-{number}"
        if name is None:
            raise BadRequest(f"There are {number} ids for more instances.", "Give as many as there are instances.")
        document: dict[str, Any] = {"model": model, "id": name} | ({"version": version} if version is not None else {})
        data = to_json(document | _payload(instance))
        partition = name if key is None else _key(key, instance)
        if len(data) + len(partition.encode()) > MAX_RECORD_BYTES:
            raise BadRequest(
                f"Record {name!r} has {len(data):,} bytes; a stream takes {MAX_RECORD_BYTES:,}.",
                "Send a smaller image or fewer rows, or use `shoal predict`.",
            )
        yield _Entry(name, partition, data)


def _payload(instance: Any) -> dict[str, Any]:  # noqa: ANN401 - see Streams.send
    entry = to_instance(instance)
    if set(entry) == {"b64"}:
        return {"image": entry["b64"]}
    return {"rows": entry["rows"]} if set(entry) == {"rows"} else {"row": entry}


def _key(key: str | Callable[[Any], str], instance: Any) -> str:  # noqa: ANN401
    if callable(key):
        found = key(instance)
    elif isinstance(instance, dict) and key in instance:
        found = str(instance[key])
    else:
        raise BadRequest(f"An instance has no column {key!r} to take its key from.", "Name a column of every row.")
    if not 1 <= len(found) <= 256:
        raise BadRequest(f"A key has {len(found)} characters; 1 to 256 are allowed.", "Choose another key.")
    return found


def _requests(entries: Iterable[_Entry]) -> Iterator[list[_Entry]]:
    """Entries in order, in requests that hold each key once: PutRecords may refuse one record and take a later one."""
    request: list[_Entry] = []
    keys: set[str] = set()
    size = 0
    for entry in entries:
        full = len(request) == MAX_REQUEST_RECORDS or size + entry.size > MAX_REQUEST_BYTES
        if request and (full or entry.key in keys):
            yield request
            request, keys, size = [], set(), 0
        request.append(entry)
        keys.add(entry.key)
        size += entry.size
    if request:
        yield request


def _messages(entries: Iterable[_Entry]) -> Iterator[list[_Entry]]:
    batch: list[_Entry] = []
    size = 0
    for entry in entries:
        if entry.size > MAX_MESSAGE_BYTES:
            raise BadRequest(
                f"Record {entry.id!r} has {entry.size:,} bytes; a queue takes {MAX_MESSAGE_BYTES:,}.",
                "Send a smaller image or fewer rows, or use the stream.",
            )
        if batch and (len(batch) == MESSAGES_AT_ONCE or size + entry.size > MAX_MESSAGE_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(entry)
        size += entry.size
    if batch:
        yield batch
