"""The SDK's streams and `shoal stream`, against moto's Kinesis and SQS: order, repeats, refusals, errors."""

from __future__ import annotations

import json
from typing import Any

import boto3
import pytest
from click.testing import CliRunner

import shoal
from shoal._streams import _Entry, _requests, _Seen
from shoal.cli import cli
from shoal.errors import BadRequest, NotFound, ServiceFailed


@pytest.fixture
def aws(cloud: dict[str, str]) -> Any:
    """Clients of the cloud; its stack has streams and a queue."""
    session = boto3.session.Session("key", "secret", region_name="us-east-1")

    def client(service: str) -> Any:
        return session.client(service, endpoint_url=cloud["aws_endpoint"])

    for name in ("requests", "predictions"):
        client("kinesis").create_stream(StreamName=f"{cloud['stack']}-{name}", ShardCount=2)
    client("sqs").create_queue(QueueName=f"{cloud['stack']}-requests")
    return client


def sent(aws: Any, cloud: dict[str, str]) -> list[tuple[str, dict[str, Any]]]:
    kinesis, found = aws("kinesis"), []
    for shard in ("shardId-000000000000", "shardId-000000000001"):
        iterator = kinesis.get_shard_iterator(
            StreamName=f"{cloud['stack']}-requests", ShardId=shard, ShardIteratorType="TRIM_HORIZON"
        )["ShardIterator"]
        for record in kinesis.get_records(ShardIterator=iterator)["Records"]:
            found.append((record["PartitionKey"], json.loads(record["Data"])))
    return found


def answer(number: int, key: str = "k", **more: Any) -> dict[str, Any]:
    return {
        "id": f"r{number}",
        "model": "digits",
        "version": 1,
        "predictions": [{"label": "3", "probability": 0.5}],
        "key": key,
        "position": f"s/shardId-0/{number}",
        "arrived_at": "2026-11-21T08:00:00.000Z",
        "answered_at": "2026-11-21T08:00:01.500Z",
    } | more


def test_rows_images_and_windows_are_sent_as_records(aws, cloud):
    ids = shoal.stream().send("m", [{"a": 1}, b"\x89PNG", {"rows": [{"t": 1}]}], ids=["x", "y", "z"], version=2)
    assert ids == ["x", "y", "z"]
    found = {document["id"]: (key, document) for key, document in sent(aws, cloud)}
    assert found["x"] == ("x", {"model": "m", "id": "x", "version": 2, "row": {"a": 1}})
    assert found["y"][1]["image"] == "iVBORw=="
    assert found["z"][1]["rows"] == [{"t": 1}]


def test_a_key_is_a_column_or_a_function(aws, cloud):
    stream = shoal.stream()
    stream.send("m", [{"a": 1, "who": "ann"}], key="who")
    stream.send("m", [{"a": 1}], key=lambda row: f"n{row['a']}")
    assert {key for key, _ in sent(aws, cloud)} == {"ann", "n1"}
    for key in ("nobody", lambda row: ""):
        with pytest.raises(BadRequest):
            stream.send("m", [{"a": 1}], key=key)


def test_a_request_holds_each_key_once():
    entries = [_Entry(str(n), f"k{n % 3}", b"x") for n in range(7)]
    assert [[entry.id for entry in request] for request in _requests(entries)] == [
        ["0", "1", "2"], ["3", "4", "5"], ["6"],
    ]  # fmt: skip
    assert [len(each) for each in _requests(_Entry(str(n), str(n), b"") for n in range(1001))] == [500, 500, 1]


def test_refused_records_are_sent_again_and_at_last_told(aws, cloud, monkeypatch):
    stream = shoal.stream()
    tries: list[int] = []

    class Refusing:
        def put_records(self, StreamName: str, Records: list[Any]) -> dict[str, Any]:
            tries.append(len(Records))
            taken = len(tries) % 2
            results = [{} if n < taken else {"ErrorCode": "Throttled"} for n in range(len(Records))]
            return {"FailedRecordCount": len(Records) - taken, "Records": results}

    monkeypatch.setattr("shoal._streams.time.sleep", lambda seconds: None)
    stream.__dict__["_kinesis"] = Refusing()
    stream.send("m", [{"a": n} for n in range(3)])
    assert tries == [3, 2, 2, 1, 1]
    monkeypatch.setattr("shoal._streams.ATTEMPTS", 1)
    with pytest.raises(ServiceFailed, match="refuses 3 records"):
        stream.send("m", [{"a": n} for n in range(3)])


def test_what_is_too_large_is_refused_by_name(aws, cloud):
    with pytest.raises(BadRequest, match=r"'big'.*a stream takes"):
        shoal.stream().send("m", [b"\x00" * 800_000], ids=["big"])
    with pytest.raises(BadRequest, match="a queue takes"):
        shoal.stream().send("m", [b"\x00" * 200_000], to="queue")


def test_messages_go_to_the_queue(aws, cloud):
    assert len(shoal.stream().send("m", [{"a": n} for n in range(23)], to="queue")) == 23
    url = aws("sqs").get_queue_url(QueueName=f"{cloud['stack']}-requests")["QueueUrl"]
    attributes = aws("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    assert attributes["ApproximateNumberOfMessages"] == "23"


def test_answers_come_once_and_in_order(aws, cloud):
    kinesis, name = aws("kinesis"), f"{cloud['stack']}-predictions"
    for numbers in ([1, 2], [1, 2, 3], [4]):
        lines = "".join(json.dumps(answer(n)) + "\n" for n in numbers)
        kinesis.put_record(StreamName=name, PartitionKey="k", Data=lines.encode())
    kinesis.put_record(StreamName=name, PartitionKey="other", Data=json.dumps(answer(1, "other")).encode())
    found = list(shoal.stream().answers())
    assert [each["id"] for each in found if each["key"] == "k"] == ["r1", "r2", "r3", "r4"]
    assert len(found) == 5
    assert list(shoal.stream().answers(start="now")) == []
    assert list(shoal.stream().answers(follow=True, stopped=lambda: True)) == []
    text = CliRunner().invoke(cli, ["stream", "tail"]).output
    assert "r4  digits 1  3 50.0%  1,500 ms" in text
    lines = CliRunner().invoke(cli, ["stream", "tail", "--json"]).output.splitlines()
    assert len([json.loads(line) for line in lines]) == 5


def test_repeats_are_known_by_their_position_within_a_key():
    seen = _Seen()
    told = [answer(1), answer(2), answer(1), answer(1, "other"), answer(3), answer(3)]
    assert [seen.is_new(each) for each in told] == [True, True, False, True, True, False]
    queued = [answer(1, position="q/m-1"), answer(1, position="q/m-2"), answer(1, position="q/m-1")]
    assert [seen.is_new(each) for each in queued] == [True, True, False]


def test_a_stack_without_streams_says_so(cloud):
    with pytest.raises(NotFound, match="has no stream") as refused:
        shoal.stream().send("m", [{"a": 1}])
    assert "Streaming=on" in refused.value.fix
    with pytest.raises(NotFound):
        list(shoal.stream().answers())


def test_the_command_sends_files_and_stdin(aws, cloud, tmp_path):
    (tmp_path / "rows.csv").write_text("a,who\n1,x\n2,y\n")
    (tmp_path / "rows.jsonl").write_text('{"a": 3, "who": "x"}\n\n[{"a": 4, "who": "x"}]\n')
    files = [str(tmp_path / name) for name in ("rows.csv", "rows.jsonl")]
    command = ["stream", "send", "m", *files, "-", "--key", "who", "--json"]
    done = CliRunner().invoke(cli, command, input='{"a": 5, "who": "y"}\n')
    assert json.loads(done.output)["ids"] == ["rows.csv:1", "rows.csv:2", "rows.jsonl:1", "rows.jsonl:3", "stdin:1"]
    rows = [document["row"] for key, document in sent(aws, cloud) if key == "x"]
    assert rows == [{"a": "1", "who": "x"}, {"a": 3, "who": "x"}, {"a": 4, "who": "x"}]
    refused = CliRunner().invoke(cli, ["stream", "send", "m", "nothing.csv"])
    assert refused.exit_code == 2
    assert "isn't a file" in refused.output
    refused = CliRunner().invoke(cli, ["stream", "send", "m", "-"], input="{broken\n")
    assert "stdin, line 1 isn't valid JSON" in refused.output
