"""Sources other than an upload, through the real handlers on S3, DynamoDB and Step Functions in memory."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import boto3
import pytest

from shoal_core.aws.audit import Audit
from tests.support.aws import REGION, Context, function, invoke, stack
from tests.support.pipeline import http_event, ingest, map_items, upload


@pytest.fixture(autouse=True)
def cloud() -> Iterator[None]:
    with stack():
        boto3.client("s3", region_name=REGION).create_bucket(Bucket="lake")
        yield


def put(bucket: str, key: str, data: bytes) -> None:
    boto3.client("s3", region_name=REGION).put_object(Bucket=bucket, Key=key, Body=data)


def document(key: str) -> Any:
    body = boto3.client("s3", region_name=REGION).get_object(Bucket="artifacts", Key=key)["Body"].read()
    return json.loads(gzip.decompress(body) if key.endswith(".gz") else body)


def source_executions() -> list[dict[str, Any]]:
    client = boto3.client("stepfunctions", region_name=REGION)
    (machine,) = [found for found in client.list_state_machines()["stateMachines"] if found["name"] == "source"]
    found = client.list_executions(stateMachineArn=machine["stateMachineArn"])["executions"]
    return [json.loads(client.describe_execution(executionArn=entry["executionArn"])["input"]) for entry in found]


def read(task: dict[str, Any]) -> dict[str, Any]:
    """All states of the source state machine, in order."""
    plan = invoke("read_source", {"step": "plan", "task": task})
    assert plan["ready"]
    for segment in map_items(plan):
        state = {"task": task, **segment, "done": False}
        while not state["done"]:
            state = invoke("read_source", {"step": "read", **state})
    return dict(invoke("read_source", {"step": "commit", "task": task}))


def newest_task() -> dict[str, Any]:
    return source_executions()[0]


def request_of(outcome: dict[str, Any]) -> dict[str, Any]:
    dataset, version = outcome["run_id"].split("-")[:2]
    return dict(document(f"datasets/{dataset}/{version}/request.json"))


def api(path: str) -> Any:
    return json.loads(invoke("api", http_event("GET", path))["body"])


def test_an_s3_prefix_becomes_a_version_of_its_objects() -> None:
    for name in ("cats/1.png", "cats/2.png", "dogs/1.png", "_SUCCESS", ".part.crc", "_delta_log/0.json"):
        put("lake", f"pets/{name}", name.encode())
    put("lake", "petsother/1.png", b"no")
    outcome = ingest("datasets/pets/dataset.yaml", b"source: {s3: 's3://lake/pets/'}\nseed: 3")
    assert outcome["status"] == "reading"
    assert api("/datasets/pets")["note"] == "Reading s3://lake/pets/."
    started = read(newest_task())
    assert started["status"] == "started"
    request = request_of(started)
    assert [(file["bucket"], file["key"], file["name"]) for file in request["files"]] == [
        ("lake", "pets/cats/1.png", "cats/1.png"),
        ("lake", "pets/cats/2.png", "cats/2.png"),
        ("lake", "pets/dogs/1.png", "dogs/1.png"),
    ]
    assert all(file["etag"] and file["version"] is None for file in request["files"])
    assert request["config"]["seed"] == 3
    (entry,) = Audit().entries()
    assert (entry.action, entry.who, entry.source) == ("dataset.begun", "AWS:AIDAEXAMPLE", "127.0.0.1")
    dataset = api("/datasets/pets")
    assert (dataset["status"], dataset["note"]) == ("preparing", "")
    assert [entry["key"] for entry in api(f"/runs/{started['run_id']}")["source"]] == ["datasets/pets/dataset.yaml"]


def test_an_unchanged_source_makes_no_new_version_and_a_changed_one_does() -> None:
    put("lake", "rows/a.csv", b"a,label\n1,x\n")
    config = b"source: {s3: 's3://lake/rows/'}"
    ingest("datasets/rows/dataset.yaml", config)
    first = read(newest_task())
    ingest("datasets/rows/dataset.yaml", config + b"\n")
    again = read(newest_task())
    assert (first["status"], again["status"], again["run_id"]) == ("started", "unchanged", first["run_id"])
    put("lake", "rows/a.csv", b"a,label\n2,x\n")
    ingest("datasets/rows/dataset.yaml", config + b"\n\n")
    assert read(newest_task())["run_id"] != first["run_id"]


def test_a_source_read_by_killed_and_repeated_workers_gives_the_same_version(monkeypatch: pytest.MonkeyPatch) -> None:
    from shoal_core.data import listings
    from shoal_core.registry import file_sets, sources

    for module in (listings, sources, file_sets):
        monkeypatch.setattr(module, "PART_FILES", 3)
    for number in range(11):
        put("lake", f"many/{number:02d}.txt", b"%d" % number)
    ingest("datasets/many/dataset.yaml", b"source: {s3: 's3://lake/many/'}")
    task = newest_task()
    invoke("read_source", {"step": "plan", "task": task})

    class Hurried(Context):
        def get_remaining_time_in_millis(self) -> int:
            return 1_000

    handler, calls, state = function("read_source").handler, 0, {"done": False}
    while not state["done"]:
        state = handler({"step": "read", "task": task, "segment": 0}, Hurried())
        handler({"step": "plan", "task": task}, Hurried())
        calls += 1
    assert calls > 3
    first = invoke("read_source", {"step": "commit", "task": task})
    again = invoke("read_source", {"step": "commit", "task": task})
    assert (first["status"], again["status"], again["run_id"]) == ("started", "unchanged", first["run_id"])
    request = request_of(first)
    assert [part["count"] for part in request["listing"]["parts"]] == [3, 3, 3, 2]
    assert request["listing"]["count"] == 11 and request["files"] == []
    monkeypatch.setattr(sources, "PART_FILES", 10_000)
    monkeypatch.setattr(file_sets, "PART_FILES", 10_000)
    ingest("datasets/many/dataset.yaml", b"source: {s3: 's3://lake/many/'} # in one part")
    assert read(newest_task())["run_id"] == first["run_id"]


def test_a_list_of_uris_becomes_a_version_of_what_it_names() -> None:
    put("lake", "a/1.csv", b"x,label\n1,a\n")
    put("lake", "b/2.csv", b"x,label\n2,b\n")
    listed = b'# mine\ns3://lake/a/1.csv\n\n{"uri": "s3://lake/b/2.csv", "name": "two.csv"}\n'
    assert ingest("datasets/listed/rows.uris", listed)["status"] == "reading"
    outcome = read(newest_task())
    assert [(file["key"], file["name"]) for file in request_of(outcome)["files"]] == [
        ("a/1.csv", "lake/a/1.csv"),
        ("b/2.csv", "two.csv"),
    ]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"s3://lake/a.csv\nhttp://x/y\n{broken\ns3://lake", "no S3 URI in line 2, 3, 4."),
        (b"# nothing\n", "lists nothing."),
        (b"\xff\xfe", "no S3 URI in line 1."),
        (b"s3://lake/" + b"x" * 9000, "no S3 URI in line 1."),
    ],
)
def test_bad_lines_are_named_by_number(data: bytes, reason: str) -> None:
    from shoal_core.errors import BadDataset

    ingest("datasets/listed/rows.uris", data)
    with pytest.raises(BadDataset, match=reason.replace(".", r"\.")):
        read(newest_task())


def test_uris_of_missing_objects_are_named_by_line() -> None:
    from shoal_core.errors import BadDataset

    put("lake", "here", b"1")
    ingest("datasets/listed/rows.uris", b"s3://lake/here\ns3://lake/gone\ns3://lake/here\ns3://lake/lost\n")
    with pytest.raises(BadDataset, match="no object is there for line 2, 4"):
        read(newest_task())


def table(name: str, items: list[dict[str, Any]]) -> Any:
    created = boto3.resource("dynamodb", region_name=REGION).create_table(
        TableName=name,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
    )
    for item in items:
        created.put_item(Item=item)
    return created


def rows_of(outcome: dict[str, Any]) -> list[dict[str, Any]]:
    client, rows = boto3.client("s3", region_name=REGION), []
    for file in request_of(outcome)["files"]:
        assert file["bucket"] == "artifacts"
        data = client.get_object(Bucket=file["bucket"], Key=file["key"])["Body"].read()
        rows += [json.loads(line, parse_float=Decimal) for line in data.splitlines()]
    return rows


def test_a_dynamodb_table_becomes_jsonl_of_all_its_types() -> None:
    items: list[dict[str, Any]] = [
        {
            "id": "a",
            "n": Decimal("12345678901234567890.123456789"),
            "tags": {"x", "ä"},
            "numbers": {Decimal(10), Decimal(9)},
            "binary": b"\x00\xff",
            "flag": True,
            "none": None,
            "map": {"b": [Decimal(1), "two"], "a": {}},
        },
        {"id": "b", "n": Decimal("-1E+30")},
    ]
    table("things", items)
    ingest("datasets/things/dataset.yaml", b"source: {dynamodb: things, segments: 3}\ntarget: id")
    rows = {row["id"]: row for row in rows_of(read(newest_task()))}
    assert rows["a"] == {
        "id": "a",
        "n": Decimal("12345678901234567890.123456789"),
        "tags": ["x", "ä"],
        "numbers": [9, 10],
        "binary": "AP8=",
        "flag": True,
        "none": None,
        "map": {"b": [1, "two"], "a": {}},
    }
    assert Decimal(rows["b"]["n"]) == Decimal("-1E+30")


def test_a_table_is_the_same_version_whatever_the_segments_and_another_when_an_item_changes() -> None:
    created = table("things", [{"id": str(number), "n": number} for number in range(50)])
    runs = []
    for segments in (1, 4):
        ingest("datasets/things/dataset.yaml", b"source: {dynamodb: things, segments: %d}" % segments)
        outcome = read(newest_task())
        runs.append(outcome["run_id"])
    assert runs[0] == runs[1]
    created.put_item(Item={"id": "7", "n": 8})
    ingest("datasets/things/dataset.yaml", b"source: {dynamodb: things}")
    assert read(newest_task())["run_id"] != runs[0]


def test_a_killed_scan_goes_on_where_it_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    from shoal_core.aws import scans
    from shoal_core.registry import sources

    table("things", [{"id": f"{number:03d}"} for number in range(60)])
    monkeypatch.setattr(sources, "ROWS_BYTES", 1)
    original = scans.client("dynamodb").scan
    asked = []

    def scan(**arguments: Any) -> Any:
        asked.append(arguments.get("ExclusiveStartKey"))
        if len(asked) == 4:
            raise RuntimeError("killed")
        return original(**{**arguments, "Limit": 10})

    monkeypatch.setattr(scans.client("dynamodb"), "scan", scan)
    ingest("datasets/things/dataset.yaml", b"source: {dynamodb: things, segments: 1}")
    task = newest_task()
    with pytest.raises(RuntimeError):
        read(task)
    outcome = read(task)
    assert asked[3] == asked[4] is not None
    assert sorted(row["id"] for row in rows_of(outcome)) == [f"{number:03d}" for number in range(60)]
    files = request_of(outcome)["files"]
    assert len(files) == 6
    assert len({file["key"] for file in files}) == 6


@pytest.mark.parametrize(
    ("config", "error", "message"),
    [
        (b"source: {s3: 's3://lake/none/'}", "BadDataset", "s3://lake/none/ holds nothing"),
        (b"source: {s3: 's3://nowhere/none/'}", "NotFound", "doesn't exist"),
        (b"source: {dynamodb: nowhere}", "NotFound", "DynamoDB table 'nowhere' doesn't exist"),
    ],
)
def test_a_source_that_fails_is_shown_as_a_failed_run(config: bytes, error: str, message: str) -> None:
    ingest("datasets/wrong/dataset.yaml", config)
    task = newest_task()
    with pytest.raises(Exception, match=message) as caught:
        read(task)
    assert type(caught.value).__name__ == error
    cause = json.dumps({"errorMessage": str(caught.value), "errorType": error})
    failure = {"Error": error, "Cause": cause}
    run_id = invoke("read_source", {"step": "fail", "task": task, "failure": failure})["run_id"]
    run = api(f"/runs/{run_id}")
    assert (run["status"], run["failure"]["error"]) == ("failed", error)
    assert message in run["failure"]["reason"]
    assert [entry["key"] for entry in run["source"]] == ["datasets/wrong/dataset.yaml"]
    assert api("/datasets/wrong")["status"] != "waiting"


def test_a_source_that_the_stack_may_not_read_tells_which_parameter_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    from botocore.exceptions import ClientError

    from shoal_core.aws import scans
    from shoal_core.aws.uploads import UploadStore
    from shoal_core.errors import NotPermitted

    def refuse(operation: str, code: str) -> Any:
        def refused(**arguments: Any) -> Any:
            raise ClientError({"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": 403}}, operation)

        return refused

    monkeypatch.setattr(scans.client("s3"), "head_object", refuse("HeadObject", "403"))
    with pytest.raises(NotPermitted, match="parameter SourceBuckets holding arn:aws:s3:::lake"):
        UploadStore("lake").describe("a")
    monkeypatch.setattr(scans.client("dynamodb"), "scan", refuse("Scan", "AccessDeniedException"))
    with pytest.raises(NotPermitted, match=r"parameter SourceTables .* table/things"):
        next(scans.SourceTables().pages("things", 0, 1, None))


def test_a_table_that_is_gone_is_named_whatever_dynamodb_calls_that() -> None:
    from shoal_core.aws.scans import SourceTables
    from shoal_core.errors import NotFound

    for ask in (SourceTables().size, SourceTables().is_recoverable):
        with pytest.raises(NotFound, match="DynamoDB table 'nobody' doesn't exist"):
            ask("nobody")


def rule_state() -> str:
    return str(boto3.client("events", region_name=REGION).describe_rule(Name="read-sources")["State"])


def test_a_schedule_reads_the_source_again_when_it_is_due(monkeypatch: pytest.MonkeyPatch) -> None:
    from datetime import UTC, datetime, timedelta

    from shoal_core.aws.handler import catalog
    from shoal_core.aws.sources import SourceStarter

    put("lake", "rows/a.csv", b"a,label\n1,x\n")
    assert rule_state() == "DISABLED"
    ingest("datasets/rows/dataset.yaml", b"source: {s3: 's3://lake/rows/'}\nschedule: rate(1 hour)")
    assert rule_state() == "ENABLED"
    first = read(newest_task())
    assert invoke("read_source", {"step": "due"}) == {"started": []}
    later = datetime.now(UTC) + timedelta(hours=1)
    starter = SourceStarter(catalog())
    (name,) = starter.start_due(later)
    assert starter.start_due(later) == []
    (task,) = [task for task in source_executions() if name.endswith(task["source_id"])]
    assert read(task) == {"status": "unchanged", "run_id": first["run_id"]}
    put("lake", "rows/b.csv", b"a,label\n1,x\n")
    (name,) = starter.start_due(later + timedelta(hours=2))
    (task,) = [task for task in source_executions() if name.endswith(task["source_id"])]
    assert read(task)["status"] == "started"
    # dataset.yaml without a schedule ends it, and nothing runs any more.
    event = upload("datasets/rows/dataset.yaml", b"source: {s3: 's3://lake/rows/'}\nseed: 1")
    event["Records"][0]["s3"]["object"]["sequencer"] = "0055AED6DCD90281FF"
    invoke("ingest_upload", event)
    assert starter.start_due(later + timedelta(days=9)) == []
    assert rule_state() == "DISABLED"


def test_a_repeated_event_of_a_scheduled_source_changes_nothing() -> None:
    put("lake", "rows/a.csv", b"a,label\n1,x\n")
    event = upload("datasets/rows/dataset.yaml", b"source: {s3: 's3://lake/rows/'}\nschedule: rate(1 hour)")
    outcomes = [invoke("ingest_upload", event)["outcomes"][0] for _ in range(2)]
    assert outcomes[0] == outcomes[1]
    assert len(source_executions()) == 1
