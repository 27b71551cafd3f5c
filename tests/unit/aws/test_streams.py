"""The ledger, the stream and the queues on AWS's API: what is refused is sent again, and nothing twice."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from shoal_core.aws import streams
from shoal_core.aws.streams import DeadLetterQueue, KinesisStream, Queue, StreamLedger
from shoal_core.errors import Unavailable
from shoal_core.serving.streams.dead_letters import DeadLetter
from shoal_core.serving.streams.packing import pack
from tests.support.aws import REGION, stack


@pytest.fixture
def cloud() -> Iterator[None]:
    with stack():
        boto3.client("kinesis", region_name=REGION).create_stream(StreamName="answers", ShardCount=1)
        yield


def made_queue(name: str) -> str:
    return str(boto3.client("sqs", region_name=REGION).create_queue(QueueName=name)["QueueUrl"])


def test_the_ledger_moves_only_from_where_it_was(cloud):
    ledger, place = StreamLedger(), "requests/shardId-000000000000"
    number = "4" + "9" * 55
    assert ledger.last(place) is None
    assert ledger.advance(place, None, number)
    assert not ledger.advance(place, None, "5")
    assert not ledger.advance(place, "5", "6")
    assert ledger.last(place) == number
    assert ledger.advance(place, number, "7")
    marks = [f"queue/{n}" for n in range(130)]
    ledger.mark(marks)
    assert ledger.known([*marks, "queue/other"]) == set(marks)
    assert ledger.known([]) == set()


class Refusing:
    """Kinesis that refuses every second record for a while."""

    def __init__(self, times: int) -> None:
        self.times = times
        self.taken: list[str] = []

    def put_records(self, StreamName: str, Records: list[dict[str, Any]]) -> dict[str, Any]:
        self.times -= 1
        refused = [self.times >= 0 and place % 2 == 0 for place in range(len(Records))]
        self.taken += [each["PartitionKey"] for each, no in zip(Records, refused, strict=True) if not no]
        results = [{"ErrorCode": "ProvisionedThroughputExceededException"} if no else {} for no in refused]
        return {"FailedRecordCount": sum(refused), "Records": results}


def test_refused_records_are_put_again_until_they_are_taken(monkeypatch):
    kinesis = Refusing(3)
    monkeypatch.setattr(streams, "client", lambda service: kinesis)
    waits: list[float] = []
    KinesisStream("answers", waits.append).put(pack((str(n), "x") for n in range(8)))
    assert sorted(kinesis.taken) == [str(n) for n in range(8)]
    assert waits == sorted(waits) and len(waits) == 3
    monkeypatch.setattr(streams, "client", lambda service: Refusing(100))
    with pytest.raises(Unavailable, match="refuses 1 records"):
        KinesisStream("answers", lambda seconds: None).put(pack([("a", "x")]))


def test_a_stream_that_isnt_there_is_no_outage(cloud):
    with pytest.raises(ClientError, match="ResourceNotFound"):
        KinesisStream("nowhere").put(pack([("a", "x")]))


def test_records_are_read_from_one_sequence_number_to_another(cloud):
    stream = KinesisStream("answers")
    for n in range(5):
        stream.put(pack([("key", f"{n}")]))
    found = [record["Data"] for record in stream.read("shardId-000000000000", "2", "4")]
    assert found == [b"1\n", b"2\n", b"3\n"]
    assert len(list(stream.read("shardId-000000000000", "4", "99"))) == 2


def letter(number: int, data: str = "") -> DeadLetter:
    return DeadLetter(
        id=f"p/{number}", origin=f"p/{number}", source="sqs", place="p", sequence=str(number), error="E", reason="R",
        died_at="now", data=data,
    )  # fmt: skip


def test_letters_are_sent_received_shown_and_deleted(cloud):
    url = made_queue("letters")
    queue = DeadLetterQueue(url)
    queue.send([letter(n, "x" * 100_000) for n in range(23)])
    seen: dict[str, str] = {}
    while messages := queue.receive(60, 0):
        seen |= {json.loads(each["Body"])["id"]: each["ReceiptHandle"] for each in messages}
    assert len(seen) == 23
    queue.show(list(seen.values()))
    handles = []
    while messages := queue.receive(60, 0):
        handles += [each["ReceiptHandle"] for each in messages]
    assert len(handles) == 23
    queue.delete(handles)
    queue.show([])
    assert Queue(url).receive(0, 0) == []


def test_a_letter_may_hold_any_character(cloud):
    url = made_queue("letters")
    bodies: list[str] = []
    queue = DeadLetterQueue(url)
    queue.send_bodies = bodies.extend  # type: ignore[method-assign]
    queue.send([letter(1).model_copy(update={"key": "\uffff", "reason": "é"})])
    assert bodies[0].isascii()
    assert DeadLetter.model_validate_json(bodies[0]).key == "\uffff"
