"""The upload contract, through the real handler on S3, DynamoDB and Step Functions in memory."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import boto3
import pytest

from tests.support.aws import REGION, invoke, stack
from tests.support.pipeline import http_event, ingest, run_of, upload

CSV = b"size,colour,label\n" + b"".join(b"%d,red,%s\n" % (number, b"ab"[number % 2 :][:1]) for number in range(40))


@pytest.fixture(autouse=True)
def cloud() -> Iterator[None]:
    with stack():
        yield


def executions() -> list[dict[str, Any]]:
    client = boto3.client("stepfunctions", region_name=REGION)
    (machine,) = [found for found in client.list_state_machines()["stateMachines"] if found["name"] == "training"]
    found = client.list_executions(stateMachineArn=machine["stateMachineArn"])["executions"]
    return [client.describe_execution(executionArn=execution["executionArn"]) for execution in found]


def api(path: str) -> Any:
    return json.loads(invoke("api", http_event("GET", path))["body"])


def archive(*names: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as opened:
        for name in names:
            opened.writestr(name, name)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "file", ["images.zip", "a.tar", "b.tar.gz", "c.tgz", "T.CSV", "rows.jsonl", "späte Äpfel+1.csv"]
)
def test_an_archive_or_a_table_starts_at_once(file: str) -> None:
    outcome = ingest(f"datasets/flowers/{file}", CSV)
    assert outcome["status"] == "started"
    (execution,) = executions()
    assert execution["name"] == outcome["run_id"]
    assert json.loads(execution["input"]) == run_of(outcome)
    run = api(f"/runs/{outcome['run_id']}")
    assert run["status"] == "running"
    assert [source["key"] for source in run["source"]] == [f"datasets/flowers/{file}"]


def test_loose_files_wait_for_dataset_yaml_which_commits_them_all() -> None:
    for name in ("red/1.png", "red/2.png", "blue/1.png"):
        assert ingest(f"datasets/flowers/{name}", name.encode())["status"] == "waiting"
    assert executions() == []
    (dataset,) = api("/datasets")["datasets"]
    assert (dataset["name"], dataset["status"]) == ("flowers", "waiting")
    assert "dataset.yaml" in dataset["note"]

    outcome = ingest("datasets/flowers/dataset.yaml", b"seed: 3")
    assert outcome["status"] == "started"
    (dataset,) = api("/datasets")["datasets"]
    assert dataset["status"] == "preparing"
    request = _request(outcome)
    assert sorted(file["key"] for file in request["files"]) == [
        "datasets/flowers/blue/1.png",
        "datasets/flowers/red/1.png",
        "datasets/flowers/red/2.png",
    ]
    assert request["config"]["seed"] == 3


def _request(outcome: dict[str, Any]) -> dict[str, Any]:
    run = run_of(outcome)
    body = boto3.client("s3", region_name=REGION).get_object(
        Bucket="artifacts", Key=f"datasets/{run['dataset']}/{run['version']}/request.json"
    )["Body"]
    return dict(json.loads(body.read()))


def test_a_loose_files_event_that_comes_after_its_dataset_yaml_leaves_nothing_waiting() -> None:
    late = upload("datasets/flowers/red/1.png", b"1")
    assert ingest("datasets/flowers/dataset.yaml", b"")["status"] == "started"
    assert invoke("ingest_upload", late)["outcomes"][0]["status"] == "ignored"
    assert api("/datasets")["datasets"][0]["status"] == "preparing"


def test_dataset_yaml_before_its_table_gives_the_table_its_settings() -> None:
    assert ingest("datasets/flowers/dataset.yaml", b"target: label")["status"] == "waiting"
    outcome = ingest("datasets/flowers/flowers.csv", CSV)
    assert outcome["status"] == "started"
    assert _request(outcome)["config"]["target"] == "label"


def test_a_table_ends_the_waiting_of_its_dataset_yaml() -> None:
    ingest("datasets/flowers/dataset.yaml", b"target: label")
    assert api("/datasets/flowers")["status"] == "waiting"
    ingest("datasets/flowers/flowers.csv", CSV)
    dataset = api("/datasets/flowers")
    assert (dataset["status"], dataset["note"]) == ("preparing", "")


def test_a_table_leaves_loose_files_waiting() -> None:
    ingest("datasets/flowers/red/1.png", b"1")
    ingest("datasets/flowers/flowers.csv", CSV)
    assert api("/datasets/flowers")["status"] == "waiting"


def test_a_note_that_is_written_late_leaves_nothing_waiting() -> None:
    """The race of a loose file's event with that of its dataset.yaml: the earlier upload's note comes last."""
    from shoal_core.aws.catalog import Catalog

    ingest("datasets/flowers/flowers.csv", CSV)
    catalog = Catalog()
    catalog.dataset_not_waiting("flowers", "2026-11-21T08:00:01+00:00#2")
    catalog.dataset_waiting("flowers", "note", "2026-11-21T08:00:00.900000+00:00#1")
    assert api("/datasets/flowers")["status"] == "preparing"
    catalog.dataset_waiting("flowers", "note", "2026-11-21T08:00:01.001000+00:00#3")
    assert api("/datasets/flowers")["note"] == "note"


def test_new_settings_for_the_same_table_are_a_new_version() -> None:
    first = ingest("datasets/flowers/flowers.csv", CSV)
    second = ingest("datasets/flowers/dataset.yaml", b"target: colour")
    assert second["status"] == "started"
    assert second["run_id"] != first["run_id"]
    assert [entry["run_id"] for entry in api("/datasets/flowers")["versions"]][::-1] == [
        first["run_id"],
        second["run_id"],
    ]


def test_the_same_bytes_again_make_no_new_run_whatever_the_file_is_called() -> None:
    first = ingest("datasets/flowers/flowers.csv", CSV)
    again = ingest("datasets/flowers/flowers.csv", CSV)
    renamed = ingest("datasets/flowers/other.csv", CSV)
    assert (again["status"], renamed["status"]) == ("unchanged", "unchanged")
    assert {first["run_id"], again["run_id"], renamed["run_id"]} == {first["run_id"]}
    assert len(executions()) == 1


def test_other_bytes_are_a_new_version_and_the_newest_upload_is_the_latest() -> None:
    ingest("datasets/flowers/flowers.csv", CSV)
    second = ingest("datasets/flowers/flowers.csv", CSV + b"9,red,a\n")
    assert api("/datasets/flowers")["latest_version"] == run_of(second)["version"]
    assert len(executions()) == 2


def test_a_late_event_doesnt_become_the_latest_version() -> None:
    old = upload("datasets/flowers/flowers.csv", CSV)
    old["Records"][0]["eventTime"] = "2026-11-21T07:00:00.000Z"
    new = ingest("datasets/flowers/flowers.csv", CSV + b"9,red,a\n")
    (outcome,) = invoke("ingest_upload", old)["outcomes"]
    assert outcome["status"] == "started"
    assert api("/datasets/flowers")["latest_version"] == run_of(new)["version"]


@pytest.mark.filterwarnings("ignore:No application metrics")  # threads share what a worker has for itself
def test_one_upload_told_of_many_times_at_once_makes_one_run() -> None:
    event = upload("datasets/flowers/flowers.csv", CSV)

    def deliver(_: int) -> str:
        try:
            return str(invoke("ingest_upload", event)["outcomes"][0]["run_id"])
        except Exception as error:  # noqa: BLE001 - whatever it is, Lambda delivers again
            return type(error).__name__

    invoke("ingest_upload", upload("datasets/other/dataset.yaml", b""))  # the module is imported by one thread
    with ThreadPoolExecutor(8) as pool:
        answers = set(pool.map(deliver, range(16)))
    assert len(answers - {"IdempotencyAlreadyInProgressError"}) == 1
    assert len(executions()) == 1


@pytest.mark.parametrize(
    ("key", "data", "reason", "fix"),
    [
        ("datasets/digits.zip", b"x", "no dataset name", "datasets/NAME/digits.zip"),
        ("datasets/my flowers/f.csv", CSV, "'my flowers' isn't allowed", "letters, digits"),
        ("datasets/blümchen/f.csv", CSV, "'blümchen' isn't allowed", "letters, digits"),
        ("datasets/" + "n" * 900 + "/f.csv", CSV, "isn't allowed", "1 to 64"),
        ("datasets/../f.csv", CSV, "'..' isn't allowed", "letters, digits"),
        ("datasets/flowers/f.csv", b"", "is empty", "a file with content"),
        ("datasets/flowers/dataset.yaml", b"wrokers: 2", "unknown field 'wrokers'", "workers"),
        ("datasets/flowers/dataset.yaml", b"[unclosed", "isn't valid YAML", "field: value"),
        ("datasets/flowers/dataset.yml", b"workers: 2", "isn't read", "dataset.yaml"),
        ("datasets/flowers/dataset.yaml", b"workers: 1000", "workers", "1 to 40"),
    ],
)
def test_a_refused_upload_is_a_failed_run_with_reason_and_fix(key: str, data: bytes, reason: str, fix: str) -> None:
    outcome = ingest(key, data)
    assert outcome["status"] == "refused"
    assert executions() == []
    run = api(f"/runs/{outcome['run_id']}")
    assert run["status"] == "failed"
    assert run["failure"]["stage"] == "Ingest Upload"
    assert reason in run["failure"]["reason"]
    assert fix in run["failure"]["fix"]
    assert [entry["run_id"] for entry in api("/runs")["runs"]] == [outcome["run_id"]]


def test_an_object_with_a_1000_character_key_is_taken() -> None:
    outcome = ingest("datasets/flowers/" + "x" * 980 + ".csv", CSV)
    assert outcome["status"] == "started"


@pytest.mark.parametrize("key", ["datasets/", "datasets/flowers/", "datasets/flowers/red/"])
def test_folder_markers_are_ignored(key: str) -> None:
    assert ingest(key, b"")["status"] == "ignored"


def test_an_object_that_is_gone_is_ignored() -> None:
    event = upload("datasets/flowers/f.csv", CSV)
    boto3.client("s3", region_name=REGION).delete_object(
        Bucket="uploads", Key="datasets/flowers/f.csv", VersionId=event["Records"][0]["s3"]["object"]["versionId"]
    )
    assert invoke("ingest_upload", event)["outcomes"][0]["status"] == "ignored"


def test_an_archive_may_be_replaced_by_one_of_another_name() -> None:
    ingest("datasets/flowers/a.zip", archive("red/1.png"))
    ingest("datasets/flowers/b.zip", archive("red/2.png"))
    outcome = ingest("datasets/flowers/dataset.yaml", b"seed: 1")
    assert [file["key"] for file in _request(outcome)["files"]] == ["datasets/flowers/b.zip"]


def _fail(run_id: str) -> None:
    """End a run as the state machine's Record Failure does."""
    boto3.client("dynamodb", region_name=REGION).update_item(
        TableName="catalog",
        Key={"pk": {"S": f"RUN#{run_id}"}, "sk": {"S": "RUN"}},
        UpdateExpression="SET #status = :failed, #error = :error, finished_at = :now",
        ExpressionAttributeNames={"#status": "status", "#error": "error"},
        ExpressionAttributeValues={
            ":failed": {"S": "failed"},
            ":error": {"S": "Unavailable"},
            ":now": {"S": "2026-11-21T09:00:00.000Z"},
        },
    )


def test_a_failed_run_is_tried_again_when_its_bytes_are_uploaded_again() -> None:
    event = upload("datasets/flowers/flowers.csv", CSV)
    (first,) = invoke("ingest_upload", event)["outcomes"]
    _fail(first["run_id"])
    event["Records"][0]["s3"]["object"]["sequencer"] = "0055AED6DCD90281E6"  # the same upload, told of once more
    (repeated,) = invoke("ingest_upload", event)["outcomes"]
    assert (repeated["status"], repeated["run_id"]) == ("unchanged", first["run_id"])

    second = ingest("datasets/flowers/flowers.csv", CSV)
    assert (second["status"], second["run_id"]) == ("started", f"{first['run_id']}-2")
    assert ingest("datasets/flowers/flowers.csv", CSV)["status"] == "unchanged"
    _fail(second["run_id"])
    third = ingest("datasets/flowers/flowers.csv", CSV)
    assert third["run_id"] == f"{first['run_id']}-3"
    assert len(executions()) == 3
    (version,) = api("/datasets/flowers")["versions"]
    assert (version["run_id"], version["status"]) == (third["run_id"], "preparing")
    _fail(third["run_id"])
    assert api("/datasets")["datasets"][0]["status"] == "failed"


@pytest.mark.parametrize(
    "file", ["a.csv.gz", "a.csv.zst", "rows.jsonl.gz", "rows.JSON", "table.parquet", "t.tsv.gz", "n.ndjson.zst"]
)
def test_compressed_tables_json_and_parquet_start_at_once(file: str) -> None:
    assert ingest(f"datasets/flowers/{file}", CSV)["status"] == "started"


@pytest.mark.parametrize(
    "file",
    ["year=2026/month=1/part.parquet", "good/1.txt", "1.txt", "labels.csv", "Annotations.jsonl", "metadata.csv.gz",
     "photos/labels.csv", "more/a.zip"],
)  # fmt: skip
def test_partitions_texts_and_labels_wait(file: str) -> None:
    assert ingest(f"datasets/flowers/{file}", CSV)["status"] == "waiting"
    outcome = ingest("datasets/flowers/dataset.yaml", b"")
    assert outcome["status"] == "started"
    assert [entry["key"] for entry in _request(outcome)["files"]] == [f"datasets/flowers/{file}"]


def test_the_file_of_labels_that_dataset_yaml_names_belongs_to_the_set() -> None:
    ingest("datasets/flowers/dataset.yaml", b"labels: {file: truth.csv}")
    assert ingest("datasets/flowers/truth.csv", CSV)["status"] == "waiting"
    ingest("datasets/flowers/1.png", b"1")
    outcome = ingest("datasets/flowers/dataset.yaml", b"labels: {file: truth.csv}")
    assert [entry["key"].rpartition("/")[2] for entry in _request(outcome)["files"]] == ["1.png", "truth.csv"]


def test_patterns_make_one_version_of_several_tables() -> None:
    ingest("datasets/flowers/dataset.yaml", b"files: '*.csv'")
    assert "files that match *.csv" in api("/datasets/flowers")["note"]
    for name in ("a.csv", "b.csv", "c.zip", "deep/d.csv"):
        assert ingest(f"datasets/flowers/{name}", CSV + name.encode())["status"] == "waiting"
    assert executions() == []
    names = {}
    for files in ("'*.csv'", "'**.csv'", "['a.*', 'deep/*']", "'*.none'"):
        outcome = ingest("datasets/flowers/dataset.yaml", b"files: " + files.encode())
        found = _request(outcome)["files"] if outcome["status"] == "started" else []
        names[files] = [entry["key"].removeprefix("datasets/flowers/") for entry in found]
    assert names == {
        "'*.csv'": ["a.csv", "b.csv"],
        "'**.csv'": ["a.csv", "b.csv", "deep/d.csv"],
        "['a.*', 'deep/*']": ["a.csv", "deep/d.csv"],
        "'*.none'": [],
    }


def test_a_large_set_is_named_by_its_listing_and_never_read(monkeypatch: pytest.MonkeyPatch) -> None:
    from shoal_core.aws.uploads import UploadStore
    from shoal_core.registry import file_sets

    for number in range(7):
        ingest(f"datasets/flowers/red/{number}.png", b"%d" % number)
    monkeypatch.setattr(file_sets, "PART_FILES", 3)
    monkeypatch.setattr(file_sets, "MAX_READ_FILES", 3)

    def no_reading(store: UploadStore, key: str, version: str | None = None) -> None:
        raise AssertionError("a large set isn't read")

    monkeypatch.setattr(UploadStore, "fingerprint", no_reading)
    first = ingest("datasets/flowers/dataset.yaml", b"")
    again = ingest("datasets/flowers/dataset.yaml", b"# again")
    assert (first["status"], again["status"], again["run_id"]) == ("started", "unchanged", first["run_id"])
    request = _request(first)
    assert request["files"] == []
    assert [part["count"] for part in request["listing"]["parts"]] == [3, 3, 1]
    late = upload("datasets/flowers/red/0.png", b"0")
    assert invoke("ingest_upload", late)["outcomes"][0]["status"] in ("ignored", "waiting")
    # An overwritten object is another version of the set; the first stays pinned to what was there.
    ingest("datasets/flowers/red/0.png", b"other")
    assert ingest("datasets/flowers/dataset.yaml", b"# third")["run_id"] != first["run_id"]


def test_a_replay_commits_the_version_with_mended_and_added_files() -> None:
    for name in ("red/1.png", "red/2.png", "blue/1.png"):
        ingest(f"datasets/flowers/{name}", name.encode())
    first = ingest("datasets/flowers/dataset.yaml", b"seed: 3")
    version = run_of(first)["version"]
    for name in ("red/2.png", "blue/9.png"):
        assert ingest(f"datasets/flowers/replay/r1/{name}", b"mended")["status"] == "waiting"
    replay = f"version: '{version}'".encode()
    outcome = ingest("datasets/flowers/replay/r1/replay.yaml", replay)
    assert outcome["status"] == "started"
    request = _request(outcome)
    assert [(entry["key"].removeprefix("datasets/flowers/"), entry["name"]) for entry in request["files"]] == [
        ("blue/1.png", None),
        ("replay/r1/blue/9.png", "blue/9.png"),
        ("red/1.png", None),
        ("replay/r1/red/2.png", "red/2.png"),
    ]
    assert request["config"]["seed"] == 3
    # The same set uploaded in full is the same version: names and bytes count, not the way they came.
    ingest("datasets/flowers/red/2.png", b"mended")
    ingest("datasets/flowers/blue/9.png", b"mended")
    assert ingest("datasets/flowers/dataset.yaml", b"seed: 3 # all")["run_id"] == outcome["run_id"]
    assert ingest("datasets/flowers/dataset.yaml", b"seed: 4")["status"] == "started"


def test_an_empty_replay_runs_the_version_again_once() -> None:
    first = ingest("datasets/flowers/flowers.csv", CSV)
    replay = b"version: '%s'" % run_of(first)["version"].encode()
    event = upload("datasets/flowers/replay/again/replay.yaml", replay)
    (outcome,) = invoke("ingest_upload", event)["outcomes"]
    assert (outcome["status"], outcome["run_id"]) == ("started", f"{first['run_id']}-2")
    (again,) = invoke("ingest_upload", event)["outcomes"]
    assert again["run_id"] == outcome["run_id"]
    assert len(executions()) == 2


@pytest.mark.parametrize("data", [b"", b"version: 7", b"version: '000000000000'", b"versio: '0'", b"{", b"\xff"])
def test_a_replay_of_no_version_is_refused(data: bytes) -> None:
    ingest("datasets/flowers/flowers.csv", CSV)
    outcome = ingest("datasets/flowers/replay/r1/replay.yaml", data)
    assert outcome["status"] == "refused"
    assert "version" in outcome["reason"]


def audited() -> list[tuple[str, str, str, str]]:
    from shoal_core.aws.audit import Audit
    from shoal_core.registry.audit import verify

    entries = list(Audit().entries())
    assert verify(entries).valid
    return [(entry.action, entry.subject, entry.who, entry.source) for entry in entries]


def test_who_began_a_version_and_from_where_is_recorded_once() -> None:
    event = upload("datasets/flowers/rows.csv", CSV)
    (outcome,) = invoke("ingest_upload", event)["outcomes"]
    invoke("ingest_upload", event)
    assert ingest("datasets/flowers/again.csv", CSV)["status"] == "unchanged"
    run = run_of(outcome)
    expected = ("dataset.begun", f"flowers/{run['version']}", "AWS:AIDAEXAMPLE", "127.0.0.1")
    assert audited() == [expected]


def test_what_waits_or_is_refused_begins_nothing() -> None:
    ingest("datasets/flowers/red/1.png", b"x")
    ingest("datasets/flowers/empty.csv", b"")
    assert audited() == []


def test_a_run_that_cant_be_recorded_isnt_started_and_the_event_comes_again(monkeypatch: pytest.MonkeyPatch) -> None:
    from shoal_core.aws.audit import Audit
    from shoal_core.errors import Unavailable

    def fail(*_: object, **__: object) -> None:
        raise Unavailable("The audit record is written by too many at once.", "Try again.")

    event = upload("datasets/flowers/rows.csv", CSV)
    with monkeypatch.context() as patch, pytest.raises(Unavailable):
        patch.setattr(Audit, "record", fail)
        invoke("ingest_upload", event)
    assert executions() == []
    (outcome,) = invoke("ingest_upload", event)["outcomes"]
    assert outcome["run_id"] and len(executions()) == 1 and len(audited()) == 1


def test_uploads_at_once_make_one_chain(monkeypatch: pytest.MonkeyPatch) -> None:
    from shoal_core.aws import audit as audit_module
    from shoal_core.aws import table as table_module
    from shoal_core.registry.audit import AuditLog
    from tests.unit.aws.test_catalog import OneAtATime

    begun = [(f"d{number}", f"{number:012x}") for number in range(24)]
    client = OneAtATime(table_module.client("dynamodb"))
    log: AuditLog = audit_module.Audit(patience=60)

    def begin(named: tuple[str, str]) -> None:
        subject = "/".join(named)
        for _ in range(2):  # an event that comes twice
            log.record("dataset.begun", subject, "AWS:AIDAEXAMPLE", "127.0.0.1", once=f"run {subject}")

    with monkeypatch.context() as patch, ThreadPoolExecutor(12) as pool:
        patch.setattr(table_module, "client", lambda service: client)
        list(pool.map(begin, begun))
    assert sorted(entry[1] for entry in audited()) == sorted("/".join(named) for named in begun)
