"""Data that isn't uploaded, through the real cloud: its state machine, its permissions, its restart."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import shoal
from tests.e2e.cloud import LocalCloud, local_cloud
from tests.e2e.conftest import PENGUINS
from tests.e2e.test_data_faults import Killer, manifest_of
from tests.integration.local.conftest import wait_until

PARAMETERS = "SourceBuckets=arn:aws:s3:::lake,arn:aws:s3:::other;SourceTables=arn:aws:dynamodb:us-east-1:*:table/things"


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCloud]:
    with local_cloud(tmp_path_factory.mktemp("lake"), parameters=PARAMETERS) as cloud:
        for bucket in ("lake", "other", "secret"):
            cloud.client("s3").create_bucket(Bucket=bucket)
            cloud.client("s3").put_object(Bucket=bucket, Key="penguins/all.csv", Body=PENGUINS)
        yield cloud


def request_of(cloud: LocalCloud, run: dict[str, Any]) -> dict[str, Any]:
    key = f"datasets/{run['dataset']}/{run['version']}/request.json"
    body = cloud.client("s3").get_object(Bucket=cloud.status["artifacts_bucket"], Key=key)["Body"].read()
    return dict(json.loads(body))


def test_an_s3_prefix_is_read_by_the_state_machine_and_trained_on(lake: LocalCloud) -> None:
    lake.put("datasets/birds/dataset.yaml", b"source: {s3: 's3://lake/penguins/'}\ntarget: species\nrounds: 2\n")
    run = lake.succeeded("birds")
    (file,) = request_of(lake, run)["files"]
    assert (file["bucket"], file["key"], file["name"]) == ("lake", "penguins/all.csv", "all.csv")
    assert lake.get("/datasets/birds")["note"] == ""


def test_its_shards_are_loaded_as_arrays(lake: LocalCloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lake.succeeded("birds")
    monkeypatch.setenv("SHOAL_HOME", str(lake.home))
    samples = lake.get("/datasets/birds")["samples"]
    for name, count in samples.items():
        split = shoal.load("birds", split=name, cache=tmp_path / "cache")
        arrays = split.arrays()
        assert len(split) == count == len(arrays["target"])
        assert set(arrays["target"].tolist()) <= set(range(len(split.classes)))
        shuffled = np.concatenate([batch["numbers"] for batch in split.batches(16, shuffle=True)])
        assert np.array_equal(np.sort(shuffled, axis=None), np.sort(arrays["numbers"], axis=None), equal_nan=True)
    told = lake.shoal("download", "birds", "--split", "test", "--to", str(tmp_path / "out"))
    assert "shards in" in told.stdout
    assert [path.name for path in (tmp_path / "out/test").iterdir()] == ["shard-00000.safetensors"]


def test_a_list_of_uris_names_objects_of_several_buckets(lake: LocalCloud) -> None:
    lake.put("datasets/listed/all.uris", b"s3://lake/penguins/all.csv\ns3://other/penguins/all.csv\n")
    run = lake.wait(lambda run: bool(run["version"]), "listed")
    assert [file["bucket"] for file in request_of(lake, run)["files"]] == ["lake", "other"]


def test_a_segment_that_fails_ends_with_its_own_reason(lake: LocalCloud) -> None:
    lake.put("datasets/absent/all.uris", b"s3://lake/penguins/all.csv\ns3://lake/penguins/no.csv\n")
    failure = lake.failed("absent")
    assert (failure["error"], failure["stage"]) == ("BadDataset", "Ingest Upload")
    assert "2" in failure["reason"] and "absent/all.uris" in failure["reason"]


def test_a_table_is_scanned_in_segments(lake: LocalCloud) -> None:
    table = lake.client("dynamodb")
    table.create_table(
        TableName="things",
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
    )
    for number in range(60):
        label = {"S": "ab"[number % 2]}
        table.put_item(TableName="things", Item={"id": {"S": str(number)}, "x": {"N": str(number)}, "label": label})
    lake.put("datasets/things/dataset.yaml", b"source: {dynamodb: things, segments: 3}\n")
    run = lake.wait(lambda run: bool(run["version"]), "things")
    assert sorted(row["x"] for row in rows_of(lake, run)) == list(range(60))


def rows_of(cloud: LocalCloud, run: dict[str, Any]) -> list[dict[str, Any]]:
    rows = []
    for file in request_of(cloud, run)["files"]:
        body = cloud.client("s3").get_object(Bucket=file["bucket"], Key=file["key"])["Body"].read()
        rows += [json.loads(line) for line in body.splitlines()]
    return rows


def turn_recovery_on(cloud: LocalCloud) -> None:
    recovery = {"PointInTimeRecoveryEnabled": True}
    cloud.client("dynamodb").update_continuous_backups(TableName="things", PointInTimeRecoverySpecification=recovery)


def test_an_export_needs_recovery_and_gives_what_a_scan_gives(lake: LocalCloud) -> None:
    lake.put("datasets/exported/dataset.yaml", b"source: {dynamodb: things, by: export}\n")
    failure = lake.failed("exported")
    assert "no point-in-time recovery" in failure["reason"] and "by: scan" in failure["fix"]
    turn_recovery_on(lake)
    lake.put("datasets/exported/dataset.yaml", b"source: {dynamodb: things, by: export}\n# again\n")
    run = lake.wait(lambda run: bool(run["version"]), "exported")
    assert run["version"] == lake.runs("things")[0]["version"]
    assert sorted(row["x"] for row in rows_of(lake, run)) == list(range(60))
    (export,) = lake.client("dynamodb").list_exports()["ExportSummaries"]
    described = lake.client("dynamodb").describe_export(ExportArn=export["ExportArn"])["ExportDescription"]
    assert (described["ExportStatus"], described["ItemCount"]) == ("COMPLETED", 60)


@pytest.mark.parametrize("by", ["scan", "export"])
def test_a_killed_reader_changes_no_byte(by: str, lake: LocalCloud) -> None:
    lake.succeeded("things")
    turn_recovery_on(lake)
    name = f"killed-{by}"
    killer = Killer(lake, "read-source")
    killer.start()
    lake.put(f"datasets/{name}/dataset.yaml", f"source: {{dynamodb: things, by: {by}}}\n".encode())
    run = lake.succeeded(name)
    killer.stop()
    assert killer.killed
    assert run["version"] == lake.runs("things")[0]["version"]
    killed, undisturbed = (
        json.loads(manifest_of(lake, {"dataset": each, "version": run["version"]})) for each in (name, "things")
    )
    # The settings say how the table was read; what was made of it is the same.
    assert killed.pop("config") != undisturbed.pop("config")
    assert killed == undisturbed


@pytest.mark.parametrize(
    ("source", "fix"),
    [
        ("{s3: 's3://secret/penguins/'}", "SourceBuckets holding arn:aws:s3:::secret"),
        ("{dynamodb: shoal-catalog}", "SourceTables holding its ARN, which ends in table/shoal-catalog"),
    ],
)
def test_what_the_parameters_do_not_name_is_refused_with_the_parameter(source: str, fix: str, lake: LocalCloud) -> None:
    name = source[1:3]
    lake.put(f"datasets/denied-{name}/dataset.yaml", f"source: {source}\n".encode())
    failure = lake.failed(f"denied-{name}")
    assert failure["error"] == "NotPermitted"
    assert fix in failure["fix"]


def look(cloud: LocalCloud) -> Any:
    """What the rule's function does when the timer fires."""
    answer = cloud.client("lambda").invoke(FunctionName="shoal-read-source", Payload=b'{"step": "due"}')
    return json.loads(answer["Payload"].read())


def make_due(cloud: LocalCloud, dataset: str) -> None:
    """Turn the clock: the dataset's next reading was to begin a while ago."""
    wait_until(lambda: all(state == "SUCCEEDED" for state in executions(cloud, dataset)))
    cloud.client("dynamodb").update_item(
        TableName="shoal-catalog",
        Key={"pk": {"S": f"DATASET#{dataset}"}, "sk": {"S": "SCHEDULE"}},
        UpdateExpression="SET sort = :due",
        ExpressionAttributeValues={":due": {"S": datetime.now(UTC).isoformat()}},
    )


def executions(cloud: LocalCloud, dataset: str) -> list[str]:
    """Statuses of the readings of a dataset's source."""
    client = cloud.client("stepfunctions")
    machine = cloud.status["state_machine"].replace("-training", "-source")
    found = client.list_executions(stateMachineArn=machine)["executions"]
    return [entry["status"] for entry in found if entry["name"].startswith(f"{dataset}-")]


def test_a_schedule_that_comes_due_starts_a_version_and_survives_a_restart(tmp_path: Path) -> None:
    cloud = LocalCloud(tmp_path, parameters=PARAMETERS).up()
    try:
        cloud.client("s3").create_bucket(Bucket="lake")
        cloud.client("s3").put_object(Bucket="lake", Key="penguins/all.csv", Body=PENGUINS)
        config = b"source: {s3: 's3://lake/penguins/'}\nschedule: rate(1 day)\ntarget: species\nrounds: 1\n"
        cloud.put("datasets/birds/dataset.yaml", config)
        cloud.wait(lambda run: True, "birds")
        assert cloud.client("events").describe_rule(Name="shoal-read-sources")["State"] == "ENABLED"
        cloud.down()
        cloud.faults = "schedule-period=1"
        cloud.up()
        assert cloud.client("events").describe_rule(Name="shoal-read-sources")["State"] == "ENABLED"
        assert look(cloud) == {"started": []}
        # What is due tomorrow becomes due: the timer finds it, and what has changed is a new version.
        cloud.client("s3").put_object(Bucket="lake", Key="penguins/all.csv", Body=PENGUINS.rpartition(b"\nGentoo")[0])
        make_due(cloud, "birds")
        wait_until(lambda: len(cloud.runs("birds")) == 2)
        versions = {run["version"] for run in cloud.runs("birds")}
        assert len(versions) == 2
        # Due again, but unchanged: the same version.
        make_due(cloud, "birds")
        wait_until(lambda: len(executions(cloud, "birds")) == 3)
        assert {run["version"] for run in cloud.runs("birds")} == versions
        # The last schedule takes the rule with it: nothing runs when nothing happens.
        cloud.put("datasets/birds/dataset.yaml", b"source: {s3: 's3://lake/penguins/'}\ntarget: island\nrounds: 1\n")
        wait_until(lambda: len(cloud.runs("birds")) == 3)
        assert look(cloud) == {"started": []}
        assert cloud.client("events").describe_rule(Name="shoal-read-sources")["State"] == "DISABLED"
    finally:
        cloud.down()
