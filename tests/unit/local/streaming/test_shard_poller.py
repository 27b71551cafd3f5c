"""A shard's records come to the function as Lambda brings them: in order, retried, halved, given up, gone on with."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from shoal.local.compute.errors import TooManyRequests
from shoal.local.compute.spec import InvokeResult
from shoal.local.state import StateStore
from shoal.local.streaming.mappings import EventSourceMapping, failed_ids
from shoal.local.streaming.records import RecordLog, sequence_of
from shoal.local.streaming.shard_poller import FunctionRole, ShardPoller, bounded

SHARD = "shardId-000000000000"
MAPPING = EventSourceMapping(
    id="mapping",
    source_arn="arn:aws:kinesis:us-east-1:123456789012:stream/requests",
    function_name="answer",
    batch_size=10,
    on_failure="arn:aws:sqs:us-east-1:123456789012:failures",
)
ROLE = FunctionRole("arn:aws:lambda:us-east-1:123456789012:function:answer", "arn:aws:iam::123456789012:role/answer")
FAILED = InvokeResult(200, b'{"errorType": "Boom"}', "Unhandled", request_id="id")


class Lambda:
    """A function: what it is given, and what it answers."""

    def __init__(self, answer: Callable[[list[int]], InvokeResult | Exception | None] = lambda numbers: None) -> None:
        self.answer = answer
        self.batches: list[list[int]] = []
        self.events: list[dict[str, Any]] = []

    def invoke(self, name: str, payload: bytes) -> InvokeResult:
        assert name == "answer"
        event = json.loads(payload)
        self.events.append(event)
        numbers = [int(entry["kinesis"]["sequenceNumber"]) - int(sequence_of(0)) for entry in event["Records"]]
        self.batches.append(numbers)
        found = self.answer(numbers)
        if isinstance(found, Exception):
            raise found
        return found or InvokeResult(200, b'{"batchItemFailures": []}')


class Setting:
    def __init__(self, folder: Any) -> None:
        self.store = StateStore(folder)
        self.log = RecordLog(self.store)
        self.told: list[dict[str, Any]] = []
        self.pollers: list[ShardPoller] = []

    def put(self, count: int, keys: int = 1) -> None:
        self.log.put("requests", [(SHARD, f"k{n % keys}", b"data-%d" % n) for n in range(count)], 24)

    def start(self, function: Lambda, lane: int = 0, **settings: Any) -> ShardPoller:
        def send(queue: str, body: str) -> None:
            assert queue == "failures"
            self.told.append(json.loads(body))

        mapping = replace(MAPPING, **settings)
        poller = ShardPoller(mapping, SHARD, lane, self.log, ROLE, function, send, retry_seconds=(0.001, 0.002))
        self.pollers.append(poller)
        poller.start()
        return poller

    def checkpoint(self, lane: int = 0) -> int | None:
        return self.log.checkpoint("mapping", "requests", SHARD, lane)

    def until(self, number: int, lane: int = 0) -> None:
        deadline = time.monotonic() + 20
        while (self.checkpoint(lane) or 0) < number:
            assert time.monotonic() < deadline, self.checkpoint(lane)
            time.sleep(0.002)

    def stop(self) -> None:
        for poller in self.pollers:
            poller.stop()
        self.log.wake()
        for poller in self.pollers:
            poller.join()
        self.pollers.clear()


@pytest.fixture
def setting(tmp_path):
    found = Setting(tmp_path)
    yield found
    found.stop()
    found.store.close()


def test_records_come_in_order_in_batches_in_lambdas_own_form(setting):
    setting.put(25)
    function = Lambda()
    setting.start(function)
    setting.until(25)
    assert function.batches == [list(range(1, 11)), list(range(11, 21)), list(range(21, 26))]
    entry = function.events[0]["Records"][0]
    assert entry["eventID"] == f"{SHARD}:{sequence_of(1)}"
    assert len(entry["kinesis"]["sequenceNumber"]) == 56
    assert entry["kinesis"] | {"approximateArrivalTimestamp": 0} == {
        "kinesisSchemaVersion": "1.0",
        "partitionKey": "k0",
        "sequenceNumber": sequence_of(1),
        "data": "ZGF0YS0w",
        "approximateArrivalTimestamp": 0,
    }
    assert (entry["eventSource"], entry["eventName"], entry["invokeIdentityArn"]) == (
        "aws:kinesis", "aws:kinesis:record", ROLE.role_arn,
    )  # fmt: skip


def test_a_partial_response_checkpoints_before_its_lowest_number(setting):
    setting.put(10)
    tries = []

    def answer(numbers):
        tries.append(numbers)
        failures = [{"itemIdentifier": sequence_of(n)} for n in (7, 4) if n in numbers and len(tries) < 3]
        return InvokeResult(200, json.dumps({"batchItemFailures": failures}).encode())

    setting.start(Lambda(answer), partial=True)
    setting.until(10)
    assert tries == [list(range(1, 11)), list(range(4, 11)), list(range(4, 11))]
    assert setting.told == []


def test_without_asking_for_it_a_partial_response_means_nothing(setting):
    setting.put(3)
    function = Lambda(lambda numbers: InvokeResult(200, b'{"batchItemFailures": [{"itemIdentifier": "1"}]}'))
    setting.start(function)
    setting.until(3)
    assert len(function.batches) == 1


def test_a_batch_that_fails_is_halved_down_to_the_record_that_kills(setting):
    setting.put(10)
    function = Lambda(lambda numbers: FAILED if 6 in numbers else None)
    setting.start(function, bisect=True, max_retries=2)
    setting.until(10)
    managed = [number for batch in function.batches if 6 not in batch for number in batch]
    assert managed == [1, 2, 3, 4, 5, 7, 8, 9, 10]
    assert function.batches.count([6]) == 3  # halving doesn't count against the retries
    (told,) = setting.told
    assert told["KinesisBatchInfo"] | {"approximateArrivalOfFirstRecord": 0, "approximateArrivalOfLastRecord": 0} == {
        "shardId": SHARD,
        "startSequenceNumber": sequence_of(6),
        "endSequenceNumber": sequence_of(6),
        "approximateArrivalOfFirstRecord": 0,
        "approximateArrivalOfLastRecord": 0,
        "batchSize": 1,
        "streamArn": MAPPING.source_arn,
    }
    assert told["requestContext"]["condition"] == "RetryAttemptsExhausted"
    assert told["requestContext"]["approximateInvokeCount"] == 3
    assert told["responseContext"]["functionError"] == "Unhandled"


def test_without_halving_the_whole_batch_is_given_up_after_its_retries(setting):
    setting.put(12)
    function = Lambda(lambda numbers: FAILED if 1 in numbers else None)
    setting.start(function, max_retries=0)
    setting.until(12)
    assert function.batches == [list(range(1, 11)), [11, 12]]
    assert setting.told[0]["KinesisBatchInfo"]["batchSize"] == 10


def test_for_ever_means_until_it_is_managed(setting):
    setting.put(2)
    left = [30]

    def answer(numbers):
        left[0] -= 1
        return FAILED if left[0] else None

    function = Lambda(answer)
    setting.start(function)
    setting.until(2)
    assert len(function.batches) == 30


def test_throttling_is_no_attempt(setting):
    setting.put(1)
    answers = iter([TooManyRequests("busy", "wait"), None])
    function = Lambda(lambda numbers: next(answers))
    setting.start(function, max_retries=0)
    setting.until(1)
    assert len(function.batches) == 2 and setting.told == []


def test_old_records_are_given_up_unseen(setting):
    setting.put(2)
    with setting.store.transaction() as db:
        db.execute("UPDATE stream_records SET arrived = arrived - 100")
    setting.put(1)
    function = Lambda()
    setting.start(function, max_age_s=60)
    setting.until(3)
    assert function.batches == [[3]]
    assert setting.told[0]["requestContext"]["condition"] == "RecordAgeExceeded"
    assert setting.told[0]["KinesisBatchInfo"]["batchSize"] == 2


def test_it_goes_on_where_it_was(setting, tmp_path):
    setting.put(15)
    stuck = threading.Event()

    def answer(numbers):
        if 11 in numbers:
            stuck.set()
            return FAILED
        return None

    setting.start(Lambda(answer))
    assert stuck.wait(20)
    setting.stop()
    function = Lambda()
    setting.start(function)
    setting.until(15)
    assert function.batches == [[11, 12, 13, 14, 15]]


@pytest.mark.parametrize(
    ("start", "expected"), [("TRIM_HORIZON", [1, 2, 3, 4]), ("LATEST", [4]), ("AT_TIMESTAMP", [3, 4])]
)
def test_where_a_mapping_begins(setting, start, expected):
    setting.put(2)
    with setting.store.transaction() as db:
        db.execute("UPDATE stream_records SET arrived = arrived - 100")
    setting.put(1)
    function = Lambda()
    setting.start(function, start=start, start_at=time.time() - 50)
    setting.put(1)
    setting.until(4)
    assert [number for batch in function.batches for number in batch] == expected


def test_a_window_gathers(setting):
    function = Lambda()
    setting.start(function, window_s=0.3)
    for _ in range(3):
        setting.put(1)
        time.sleep(0.02)
    setting.until(3)
    assert function.batches == [[1, 2, 3]]


def test_lanes_share_a_shard_by_key(setting):
    setting.put(60, keys=12)
    functions = [Lambda(), Lambda()]
    for lane, function in enumerate(functions):
        setting.start(function, lane, parallelization=2)
    for lane in range(2):
        setting.until(58, lane)
    seen = [
        [entry["kinesis"]["partitionKey"] for event in each.events for entry in event["Records"]] for each in functions
    ]
    assert not set(seen[0]) & set(seen[1])
    assert sorted(number for each in functions for batch in each.batches for number in batch) == list(range(1, 61))


def test_an_event_stays_within_six_megabytes(setting):
    setting.log.put("requests", [(SHARD, "k", b"x" * 1_000_000)] * 7, 24)
    found = setting.log.read("requests", SHARD, 0, 10)
    assert len(bounded(found, 10)) == 4
    assert len(bounded(found[:1], 10)) == 1
    function = Lambda()
    setting.start(function)
    setting.until(7)
    assert function.batches == [[1, 2, 3, 4], [5, 6, 7]]


@pytest.mark.parametrize(
    ("payload", "failed"),
    [
        (b"", set()),
        (b"null", set()),
        (b"{}", set()),
        (b'{"batchItemFailures": []}', set()),
        (b'{"batchItemFailures": null}', set()),
        (b'{"batchItemFailures": [{"itemIdentifier": "b"}]}', {"b"}),
        (b'{"batchItemFailures": [{"itemIdentifier": ""}]}', {"a", "b"}),
        (b'{"batchItemFailures": [{"itemIdentifier": null}]}', {"a", "b"}),
        (b'{"batchItemFailures": [{"id": "b"}]}', {"a", "b"}),
        (b'{"batchItemFailures": [{"itemIdentifier": "c"}]}', {"a", "b"}),
        (b'{"batchItemFailures": 3}', {"a", "b"}),
        (b'"done"', {"a", "b"}),
    ],
)
def test_answers_are_read_as_lambda_reads_them(payload, failed):
    assert failed_ids(InvokeResult(200, payload), ["a", "b"], True) == failed
    assert failed_ids(FAILED, ["a", "b"], True) == {"a", "b"}


def test_records_older_than_the_stream_keeps_them_go(setting):
    setting.put(1)
    with setting.store.transaction() as db:
        db.execute("UPDATE stream_records SET arrived = arrived - 90000")
    setting.log._trimmed = 0.0
    setting.put(1)
    assert [record.number for record in setting.log.read("requests", SHARD, 0, 10)] == [2]
    setting.log.forget("requests")
    assert setting.log.read("requests", SHARD, 0, 10) == []
