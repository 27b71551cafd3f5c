"""Kinesis' data plane: records go to a log on disk; streams and shards are moto's.

moto keeps records in memory, loses some under threads, and takes longer with each one that a shard holds.
API: https://docs.aws.amazon.com/kinesis/latest/APIReference/API_Operations.html
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import math
import random
import threading
import time
from collections.abc import Callable
from typing import Any

from moto.kinesis.models import Shard, Stream, kinesis_backends

from shoal.local.aws_request import AwsRequest
from shoal.local.aws_response import AwsResponse, WsgiApp, bytes_response, call, error_response
from shoal.local.streaming.iterators import make_iterator, read_iterator
from shoal.local.streaming.records import RecordLog, StreamRecord, number_of, sequence_of

MAX_RECORD_BYTES = 1024**2
"""A record and its key; a stream may be set to take more, which none here is."""
MAX_REQUEST_BYTES = 5 * 1024**2
MAX_REQUEST_RECORDS = 500
MAX_PAGE_RECORDS = 10_000
MAX_PAGE_BYTES = 10 * 1024**2
ITERATOR_SECONDS = 300
_HASH_SPACE = 2**128
_THROTTLED = "ProvisionedThroughputExceededException"
# What would move records between shards, or push them: nothing here does, and moto's own would lose the log.
_REFUSED = frozenset(
    {
        "SplitShard",
        "MergeShards",
        "UpdateShardCount",
        "UpdateStreamMode",
        "RegisterStreamConsumer",
        "SubscribeToShard",
        "StartStreamEncryption",
    }
)


class _Refusal(Exception):
    """An error in Kinesis' words."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


class KinesisFront:
    """Answers Kinesis' requests.

    Args:
        app: Moto's WSGI application.
        log: The records.
        account: Account id.
        region: Region.
        refusals: Probability in [0, 1] that a record of PutRecords is refused as throttled, for tests.
        seed: Seed of these refusals.
    """

    def __init__(
        self, app: WsgiApp, log: RecordLog, account: str, region: str, refusals: float = 0.0, seed: int = 0
    ) -> None:
        self._app = app
        self._log = log
        self._account, self._region = account, region
        self._refusals = refusals
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self._operations: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "PutRecord": self._put_record,
            "PutRecords": self._put_records,
            "GetShardIterator": self._shard_iterator,
            "GetRecords": self._get_records,
        }

    def answer(self, request: AwsRequest) -> AwsResponse:
        """Answer one request."""
        operation = self._operations.get(request.operation)
        if request.operation in _REFUSED:
            message = f"The embedded cloud doesn't honour {request.operation}."
            return error_response(request, "InvalidArgumentException", message)
        if operation is None:
            response = call(self._app, request.environ)
            if response.ok and request.operation == "DeleteStream":
                self._log.forget(_name(request.json))
            return response
        if "cbor" in request.header("Content-Type"):
            return error_response(request, "SerializationException", "The embedded cloud's Kinesis speaks JSON only.")
        try:
            answer = operation(request.json)
        except _Refusal as refusal:
            return error_response(request, refusal.code, refusal.message)
        body = json.dumps(answer, separators=(",", ":")).encode()
        return bytes_response(200, body, {"Content-Type": "application/x-amz-json-1.1"})

    def stream(self, name: str) -> Stream:
        """A stream of moto's. Raises `_Refusal`."""
        found: Stream | None = kinesis_backends[self._account][self._region].streams.get(name)
        if found is None:
            raise _Refusal("ResourceNotFoundException", f"Stream {name} under account {self._account} not found.")
        return found

    def _put_record(self, parameters: dict[str, Any]) -> dict[str, Any]:
        stream = self.stream(_name(parameters))
        shard, key, data = _checked(stream, parameters)
        (number,) = self._log.put(stream.stream_name, [(shard, key, data)], stream.retention_period_hours)
        return {"ShardId": shard, "SequenceNumber": sequence_of(number), "EncryptionType": "NONE"}

    def _put_records(self, parameters: dict[str, Any]) -> dict[str, Any]:
        stream, entries = self.stream(_name(parameters)), parameters.get("Records") or []
        if not 1 <= len(entries) <= MAX_REQUEST_RECORDS:
            raise _Refusal(
                "ValidationException",
                f"1 validation error detected: Value at 'records' failed to satisfy constraint: "
                f"Member must have length less than or equal to {MAX_REQUEST_RECORDS}",
            )
        records = [_checked(stream, entry) for entry in entries]
        if sum(len(data) + len(key.encode()) for _, key, data in records) > MAX_REQUEST_BYTES:
            raise _Refusal("InvalidArgumentException", "Records size exceeds 5 MB limit")
        taken = self._taken(len(records))
        kept = [record for record, keep in zip(records, taken, strict=True) if keep]
        numbers = iter(self._log.put(stream.stream_name, kept, stream.retention_period_hours) if kept else ())
        results: list[dict[str, Any]] = []
        for (shard, _, _), keep in zip(records, taken, strict=True):
            if keep:
                results.append({"ShardId": shard, "SequenceNumber": sequence_of(next(numbers))})
            else:
                message = f"Rate exceeded for shard {shard} in stream {stream.stream_name}"
                results.append({"ErrorCode": _THROTTLED, "ErrorMessage": message})
        return {"FailedRecordCount": len(records) - len(kept), "Records": results, "EncryptionType": "NONE"}

    def _taken(self, count: int) -> list[bool]:
        if not self._refusals:
            return [True] * count
        with self._lock:
            return [self._random.random() >= self._refusals for _ in range(count)]

    def _shard_iterator(self, parameters: dict[str, Any]) -> dict[str, Any]:
        stream = self.stream(_name(parameters))
        shard = str(parameters.get("ShardId", ""))
        if shard not in stream.shards:
            raise _Refusal("ResourceNotFoundException", f"Shard {shard} in stream {stream.stream_name} not found.")
        after = self._start(stream.stream_name, shard, parameters)
        return {"ShardIterator": make_iterator(stream.stream_name, shard, after)}

    def _start(self, stream: str, shard: str, parameters: dict[str, Any]) -> int:
        kind = parameters.get("ShardIteratorType")
        if kind == "TRIM_HORIZON":
            return 0
        if kind == "LATEST":
            return self._log.last(stream, shard)
        if kind == "AT_TIMESTAMP":
            return self._log.last(stream, shard, float(parameters["Timestamp"]))
        try:
            number = number_of(str(parameters["StartingSequenceNumber"]))
        except (KeyError, ValueError) as error:
            raise _Refusal("InvalidArgumentException", f"StartingSequenceNumber is wrong: {error}") from error
        if kind not in ("AT_SEQUENCE_NUMBER", "AFTER_SEQUENCE_NUMBER"):
            raise _Refusal("InvalidArgumentException", f"Invalid ShardIteratorType: {kind}")
        return number - 1 if kind == "AT_SEQUENCE_NUMBER" else number

    def _get_records(self, parameters: dict[str, Any]) -> dict[str, Any]:
        try:
            stream, shard, after, made = read_iterator(str(parameters.get("ShardIterator", "")))
        except ValueError as error:
            raise _Refusal("InvalidArgumentException", "Invalid ShardIterator.") from error
        if time.time() - made > ITERATOR_SECONDS:
            raise _Refusal("ExpiredIteratorException", "Iterator expired: it was made more than 5 minutes ago.")
        self.stream(stream)
        limit = min(int(parameters.get("Limit") or MAX_PAGE_RECORDS), MAX_PAGE_RECORDS)
        page: list[StreamRecord] = []
        size = 0
        for record in self._log.read(stream, shard, after, limit):
            size += len(record.data) + len(record.key)
            if page and size > MAX_PAGE_BYTES:
                break
            page.append(record)
        last = page[-1].number if page else after
        behind = self._log.read(stream, shard, last, 1)
        return {
            "Records": [_shown(record) for record in page],
            "NextShardIterator": make_iterator(stream, shard, last),
            "MillisBehindLatest": int(1000 * (time.time() - behind[0].arrived)) + 1 if behind else 0,
        }


def _name(parameters: dict[str, Any]) -> str:
    return str(parameters.get("StreamName") or str(parameters.get("StreamARN", "")).rpartition("/")[2])


def _checked(stream: Stream, entry: dict[str, Any]) -> tuple[str, str, bytes]:
    """(shard, key, data) of a record that is to be put."""
    key = entry.get("PartitionKey")
    if not isinstance(key, str) or not 1 <= len(key) <= 256:
        raise _Refusal("ValidationException", "1 validation error detected: PartitionKey has 1 to 256 characters")
    try:
        data = base64.b64decode(entry.get("Data", ""), validate=True)
    except (binascii.Error, ValueError, TypeError) as error:
        raise _Refusal("SerializationException", f"Data isn't base64: {error}") from error
    if len(data) + len(key.encode()) > MAX_RECORD_BYTES:
        message = f"Record size of {len(data)} bytes exceeds the maximum record size of {MAX_RECORD_BYTES} bytes"
        raise _Refusal("InvalidArgumentException", message)
    explicit = entry.get("ExplicitHashKey")
    return shard_for(stream, key, str(explicit) if explicit is not None else None), key, data


def shard_for(stream: Stream, key: str, explicit: str | None = None) -> str:
    """The id of the open shard that takes a key: by its MD5, or by the hash that is given."""
    try:
        place = int(explicit) if explicit else int.from_bytes(hashlib.md5(key.encode()).digest(), "big")  # noqa: S324
    except ValueError as error:
        raise _Refusal("InvalidArgumentException", f"ExplicitHashKey {explicit!r} isn't a number") from error
    shards: list[Shard] = list(stream.shards.values())
    found = next(
        (shard for shard in shards if shard.is_open and shard.starting_hash <= place <= shard.ending_hash), None
    )
    if found is None or not 0 <= place < _HASH_SPACE:
        raise _Refusal("InvalidArgumentException", f"ExplicitHashKey {explicit!r} is out of range")
    return str(found.shard_id)


def _shown(record: StreamRecord) -> dict[str, Any]:
    return {
        "SequenceNumber": record.sequence,
        # Rounded down: a read at this time begins with this record.
        "ApproximateArrivalTimestamp": math.floor(record.arrived * 1000) / 1000,
        "Data": base64.b64encode(record.data).decode(),
        "PartitionKey": record.key,
        "EncryptionType": "NONE",
    }
