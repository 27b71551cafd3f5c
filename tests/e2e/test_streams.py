"""Records of a stream and messages of a queue on the whole cloud: each answered or a dead letter, exactly once."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import boto3
import pytest

from shoal._streams import Streams
from shoal.connection import Connection
from tests.e2e.cloud import LocalCloud
from tests.e2e.conftest import PENGUINS
from tests.e2e.test_faults import kill_one

RECORDS, KEYS, SENDERS = 100_000, 1_000, 2
SETTINGS = b"target: species\nrecipe: linear\nrounds: 1\nworkers: 1\n"
ROW = {"island": "Biscoe", "bill_length_mm": 46.1, "flipper_length_mm": 211, "body_mass_g": 4500}
POISON = (b"{broken", b'{"model": "nobody", "row": {}}', b'{"model": "streamed", "row": {"wrong": 1}}')
SECONDS = 120


@pytest.fixture(scope="module")
def streams(cloud: LocalCloud) -> Streams:
    """The cloud's streams; a model called `streamed` is there."""
    cloud.put("datasets/streamed/dataset.yaml", SETTINGS)
    cloud.put("datasets/streamed/penguins.csv", PENGUINS)
    cloud.succeeded("streamed")
    return Streams(connection(cloud))


def connection(cloud: LocalCloud) -> Connection:
    status = cloud.status
    session = boto3.session.Session("user", "user", region_name=status["region"])
    return Connection(
        api=status["api"], token=status["token"], bucket=status["bucket"], stack=status["stack"], session=session,
        aws_endpoint=status["aws_endpoint"], artifacts=status["artifacts_bucket"],
    )  # fmt: skip


def is_poison(number: int) -> bool:
    return number % 100 == 7


def data_of(number: int) -> bytes:
    if is_poison(number):
        return POISON[number // 100 % 3]
    return json.dumps(
        {"model": "streamed", "id": str(number), "row": ROW | {"body_mass_g": 3000 + number % 3000}}
    ).encode()


def put(client: Any, sender: int) -> dict[str, str]:
    """Put one sender's records, 500 at a time; position -> what it is."""
    found = {}
    numbers = list(range(sender, RECORDS, SENDERS))
    for start in range(0, len(numbers), 500):
        part = numbers[start : start + 500]
        entries = [{"Data": data_of(number), "PartitionKey": f"key-{number % KEYS}"} for number in part]
        answer = client.put_records(StreamName="shoal-requests", Records=entries)
        assert not answer["FailedRecordCount"]
        for number, each in zip(part, answer["Records"], strict=True):
            found[f"shoal-requests/{each['ShardId']}/{each['SequenceNumber']}"] = str(number)
    return found


def collected(answers: Iterator[dict[str, Any]], wanted: int) -> list[dict[str, Any]]:
    found = []
    for answer in answers:
        found.append(answer)
        if len(found) == wanted:
            break
    return found


def waited(look: Callable[[], list[Any]], wanted: int) -> list[Any]:
    """What is there, once it is as many as wanted."""
    deadline = time.monotonic() + SECONDS
    while len(found := look()) < wanted:
        assert time.monotonic() < deadline, found[-3:]
        time.sleep(0.1)
    assert len(found) == wanted
    return found


def dead(streams: Streams, put_at: dict[str, str]) -> list[dict[str, Any]]:
    """The dead letters of these records; read again while a busy machine doesn't manage to read them all at once."""
    for _ in range(10):
        letters = [each for each in streams.dead_letters(limit=2000)[0] if each["id"] in put_at]
        if len(letters) == RECORDS // 100:
            break
    return letters


def test_dead_letters_are_answered_once_what_was_wrong_is_mended(
    cloud: LocalCloud, streams: Streams, tmp_path: Path
) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps(ROW | {"bill_depth_mm": n, "sex": "female"}) + "\n" for n in range(30)))
    sent = json.loads(cloud.shoal("stream", "send", "late", str(rows), "--key", "sex", "--json").stdout)
    assert sent["ids"] == [f"rows.jsonl:{n}" for n in range(1, 31)]
    letters = waited(lambda: streams.dead_letters("late")[0], 30)
    assert [letter["record_id"] for letter in letters] == sent["ids"]
    assert {letter["error"] for letter in letters} == {"NotFound"}
    assert "late" in cloud.shoal("stream", "dead", "list", "--model", "late").stdout
    token = json.loads(cloud.shoal("token", "create", "looks", "--scope", "read", "--json").stdout)["token"]
    assert cloud.http("GET", "/streams/dead-letters", token=token).status == 200
    assert cloud.http("POST", "/streams/dead-letters/replay", b"{}", "application/json", token).status == 403

    cloud.put("datasets/late/dataset.yaml", SETTINGS)
    cloud.put("datasets/late/penguins.csv", PENGUINS)
    cloud.succeeded("late")
    answer = json.loads(cloud.shoal("stream", "dead", "replay", "--model", "late", "--json").stdout)
    assert answer == {"kept": {}, "replayed": 30}
    found = waited(lambda: [each for each in streams.answers() if each["model"] == "late"], 30)
    assert [each["id"] for each in found] == sent["ids"]
    assert all(each["origin"] in {letter["id"] for letter in letters} for each in found)
    assert streams.dead_letters("late") == ([], False)
    audited = json.loads(cloud.shoal("audit", "--json").stdout)["entries"][-1]
    assert (audited["action"], audited["who"], audited["details"]["letters"]) == ("stream.replayed", "root", 30)
    tail = cloud.shoal("stream", "tail").stdout
    assert "rows.jsonl:30  late 1  " in tail


def test_a_queue_is_answered_too(cloud: LocalCloud, streams: Streams) -> None:
    ids = streams.send("streamed", [ROW] * 25, to="queue")
    streams.send("streamed", [{"wrong": 1}], ids=["bad"], to="queue")
    found = waited(lambda: [each for each in streams.answers() if each["id"] in ids], 25)
    assert sorted(each["id"] for each in found) == sorted(ids)
    (letter,) = waited(lambda: [each for each in streams.dead_letters()[0] if each["record_id"] == "bad"], 1)
    assert (letter["place"], letter["error"]) == ("shoal-requests", "BadTable")


def test_a_cloud_that_is_killed_and_refuses_records_answers_each_once(tmp_path: Path) -> None:
    total = 2000
    cloud = LocalCloud(tmp_path, "refuse-stream-records=0.05;seed=1", "StreamOutput=both").up()
    try:
        cloud.put("datasets/streamed/dataset.yaml", SETTINGS)
        cloud.put("datasets/streamed/penguins.csv", PENGUINS)
        cloud.succeeded("streamed")
        streams = Streams(connection(cloud))
        rows = [ROW | {"body_mass_g": 3000 + n} | ({"wrong": 1} if n % 100 == 7 else {}) for n in range(total)]
        ids = streams.send("streamed", rows, key=lambda row: f"key-{row['body_mass_g'] % 200}")
        waited(lambda: list(streams.journal())[:1], 1)
        cloud.kill()
        cloud.up()
        streams = Streams(connection(cloud))
        good = {name for n, name in enumerate(ids) if n % 100 != 7}
        found = waited(lambda: list(streams.answers()), len(good))
        assert {each["id"] for each in found} == good
        journal = list(streams.journal())
        assert len({each["position"] for each in journal}) == len(journal) == total  # exactly once, nothing to drop
        assert {each["id"] for each in journal if "id" in each} == good
        last: dict[str, int] = {}
        for each in found:
            number = int(each["id"].rpartition("-")[2])
            assert last.get(each["key"], -1) < number
            last[each["key"]] = number
        letters = waited(lambda: streams.dead_letters(limit=1000)[0], total // 100)
        assert {letter["record_id"] for letter in letters} == set(ids) - good
    finally:
        cloud.down()


def test_100_000_records_with_poison_are_each_answered_or_dead_exactly_once(
    cloud: LocalCloud, streams: Streams
) -> None:
    began = time.monotonic()
    deadline = began + SECONDS
    with ThreadPoolExecutor(SENDERS) as pool:
        sending = [pool.submit(put, cloud.client("kinesis"), sender) for sender in range(SENDERS)]
        while not kill_one(cloud.workers("predict-stream")) and time.monotonic() < deadline:
            time.sleep(0.05)  # one dies as soon as there is one,
        put_at = {position: number for each in sending for position, number in each.result().items()}
    assert kill_one(cloud.workers("predict-stream"))  # and another one later
    assert len(put_at) == RECORDS
    expected = {number for position, number in put_at.items() if not is_poison(int(number))}
    following = streams.answers(follow=True, stopped=lambda: time.monotonic() > deadline)
    collected((answer for answer in following if answer["position"] in put_at), len(expected))
    found = [answer for answer in streams.answers() if answer["position"] in put_at]
    letters = dead(streams, put_at)

    assert len(found) == len(expected)
    assert {answer["id"] for answer in found} == expected
    assert all(put_at[answer["position"]] == answer["id"] for answer in found)
    assert len(letters) == RECORDS // 100
    assert {int(put_at[letter["id"]]) for letter in letters} == {n for n in range(RECORDS) if is_poison(n)}
    assert {letter["error"] for letter in letters} == {"BadRequest", "NotFound", "BadTable"}
    in_order: dict[tuple[str, int], list[int]] = defaultdict(list)
    for answer in found:
        in_order[answer["key"], int(answer["id"]) % SENDERS].append(int(answer["id"]))
    assert all(numbers == sorted(numbers) for numbers in in_order.values())
