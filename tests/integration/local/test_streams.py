"""Kinesis, and mappings of a stream and of a queue, on a running cloud: order, poison, redrive, a power cut."""

from __future__ import annotations

import json
import time
from collections import Counter, defaultdict

import pytest
from botocore.exceptions import ClientError

from tests.integration.local.conftest import wait_until

STREAM = "probe-stream"


def put(cloud, texts, key=None):
    entries = [{"Data": text.encode(), "PartitionKey": key or text} for text in texts]
    return cloud.client("kinesis").put_records(StreamName=STREAM, Records=entries)["Records"]


def consumed(cloud):
    return cloud.noted("consumed.jsonl")


def lost(cloud):
    sqs = cloud.client("sqs")
    url = sqs.get_queue_url(QueueName="probe-lost")["QueueUrl"]
    return sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, VisibilityTimeout=0).get("Messages", [])


def test_records_come_in_order_and_what_kills_is_given_up_alone(cloud):
    by_key = {f"key-{k}": [f"{k}-{n}" for n in range(30)] for k in range(4)}
    for key, texts in by_key.items():
        put(cloud, texts[:15], key)
    (killer,) = put(cloud, ["kill"], "key-0")
    put(cloud, ["once stream"], "key-1")
    for key, texts in by_key.items():
        put(cloud, texts[15:], key)
    wanted = {text for texts in by_key.values() for text in texts} | {"once stream"}
    wait_until(lambda: wanted <= set(consumed(cloud)))
    seen = defaultdict(list)
    for text in dict.fromkeys(consumed(cloud)):
        seen[f"key-{text.split('-')[0]}"].append(text)
    assert {key: seen[key] for key in by_key} == by_key
    (told,) = wait_until(lambda: [json.loads(each["Body"]) for each in lost(cloud)])
    batch = told["KinesisBatchInfo"]
    assert (batch["batchSize"], batch["shardId"]) == (1, killer["ShardId"])
    assert batch["startSequenceNumber"] == batch["endSequenceNumber"] == killer["SequenceNumber"]
    assert told["requestContext"]["approximateInvokeCount"] == 2


def test_messages_come_and_what_fails_comes_again_and_is_redriven(cloud):
    sqs = cloud.client("sqs")
    url = sqs.get_queue_url(QueueName="probe-inbox")["QueueUrl"]
    bodies = [*(f"message {n}" for n in range(25)), "once queue", "never"]
    for body in bodies:
        sqs.send_message(QueueUrl=url, MessageBody=body)
    wait_until(lambda: set(bodies[:-1]) <= set(consumed(cloud)))
    assert Counter(text for text in consumed(cloud) if text.startswith("message")) == Counter(bodies[:25])
    wait_until(lambda: "never" in [each["Body"] for each in lost(cloud)])
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    left = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
    assert left == dict.fromkeys(names, "0")


def test_a_power_cut_loses_no_record_and_no_place(stopped_cloud):
    cloud = stopped_cloud
    cloud.up()
    put(cloud, [f"a-{n}" for n in range(50)])
    wait_until(lambda: len(set(consumed(cloud))) == 50)
    time.sleep(0.2)  # the checkpoint follows the function's answer
    texts = [f"b-{n}" for n in range(200)]
    put(cloud, texts)
    cloud.kill()
    cloud.up()
    wait_until(lambda: set(texts) <= set(consumed(cloud)))
    again = Counter(consumed(cloud))
    assert all(again[f"a-{n}"] == 1 for n in range(50))
    kinesis = cloud.client("kinesis")
    kept = []
    for shard in kinesis.list_shards(StreamName=STREAM)["Shards"]:
        iterator = kinesis.get_shard_iterator(
            StreamName=STREAM, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
        )["ShardIterator"]
        kept += [record["Data"].decode() for record in kinesis.get_records(ShardIterator=iterator)["Records"]]
    assert Counter(kept) == Counter([f"a-{n}" for n in range(50)] + texts)


def test_kinesis_answers_as_kinesis_does(cloud):
    kinesis = cloud.client("kinesis")
    one = kinesis.put_record(StreamName=STREAM, PartitionKey="k", Data=b"a-1")
    two = kinesis.put_record(StreamName=STREAM, PartitionKey="k", Data=b"a-2")
    assert one["ShardId"] == two["ShardId"]
    assert len(one["SequenceNumber"]) == 56 and int(one["SequenceNumber"]) < int(two["SequenceNumber"])

    def read(kind, **more):
        iterator = kinesis.get_shard_iterator(
            StreamName=STREAM, ShardId=one["ShardId"], ShardIteratorType=kind, **more
        )["ShardIterator"]
        return kinesis.get_records(ShardIterator=iterator)

    at = read("AT_SEQUENCE_NUMBER", StartingSequenceNumber=one["SequenceNumber"])
    assert [record["Data"] for record in at["Records"]] == [b"a-1", b"a-2"]
    assert at["MillisBehindLatest"] == 0
    after = read("AFTER_SEQUENCE_NUMBER", StartingSequenceNumber=one["SequenceNumber"])["Records"]
    assert [record["PartitionKey"] for record in after] == ["k"]
    arrived = after[0]["ApproximateArrivalTimestamp"]
    assert read("AT_TIMESTAMP", Timestamp=arrived)["Records"][-1]["Data"] == b"a-2"
    assert read("LATEST")["Records"] == []


@pytest.mark.parametrize(
    ("operation", "arguments", "code"),
    [
        ("put_record", {"StreamName": "nowhere", "PartitionKey": "k", "Data": b"x"}, "ResourceNotFoundException"),
        ("put_record", {"StreamName": STREAM, "PartitionKey": "k", "Data": b"x" * 2**20}, "InvalidArgumentException"),
        (
            "put_records",
            {"StreamName": STREAM, "Records": [{"PartitionKey": "k", "Data": b"x" * 900_000}] * 6},
            "InvalidArgumentException",
        ),
        ("put_records", {"StreamName": STREAM, "Records": [{"PartitionKey": "k", "Data": b""}] * 501}, "Validation"),
        ("get_records", {"ShardIterator": "nonsense"}, "InvalidArgumentException"),
        (
            "update_shard_count",
            {"StreamName": STREAM, "TargetShardCount": 4, "ScalingType": "UNIFORM_SCALING"},
            "Invalid",
        ),
        ("split_shard", {"StreamName": STREAM, "ShardToSplit": "shardId-0", "NewStartingHashKey": "1"}, "Invalid"),
    ],
    ids=["stream", "record", "request", "count", "iterator", "reshard", "split"],
)
def test_kinesis_refuses_what_it_refuses(cloud, operation, arguments, code):
    with pytest.raises(ClientError, match=code):
        getattr(cloud.client("kinesis"), operation)(**arguments)
