"""Distributed Maps on the embedded cloud: an item's own failure reaches the user, whatever the Map itself tells."""

from __future__ import annotations

import json
import re
import uuid
from typing import Any

import pytest

from shoal.local.deploy.state_machines import all_states
from tests.e2e.cloud import LocalCloud
from tests.e2e.conftest import PENGUINS
from tests.integration.local.conftest import wait_until

SETTINGS = b"target: species\nrounds: 1\n"
TOLERANCE = {"Error": "States.ExceedToleratedFailureThreshold", "Cause": "The specified tolerated failure threshold"}
OWN = {"Error": "BadTable", "Cause": json.dumps({"errorType": "BadTable", "errorMessage": "Row 7 is odd. Fix: Mend."})}


def prepared(cloud: LocalCloud, name: str) -> dict[str, str]:
    cloud.put(f"datasets/{name}/dataset.yaml", SETTINGS)
    cloud.put(f"datasets/{name}/penguins.csv", PENGUINS)
    run = cloud.succeeded(name)
    return {key: run[key] for key in ("run_id", "dataset", "version")}


def forget(cloud: LocalCloud, run: dict[str, str], pattern: str) -> None:
    """Delete what a run's stages made of its data, where the name matches."""
    s3, bucket = cloud.client("s3"), cloud.status["artifacts_bucket"]
    prefix = f"datasets/{run['dataset']}/{run['version']}/"
    for entry in s3.list_objects_v2(Bucket=bucket, Prefix=prefix)["Contents"]:
        if re.match(pattern, entry["Key"].removeprefix(prefix)):
            s3.delete_object(Bucket=bucket, Key=entry["Key"])


def machine_of(cloud: LocalCloud) -> str:
    machines = cloud.client("stepfunctions").list_state_machines()["stateMachines"]
    return next(machine["stateMachineArn"] for machine in machines if machine["name"].endswith("-training"))


def execute(cloud: LocalCloud, machine: str, state: dict[str, Any]) -> dict[str, Any]:
    """Start an execution and wait for its end."""
    client = cloud.client("stepfunctions")
    arn = client.start_execution(stateMachineArn=machine, name=uuid.uuid4().hex, input=json.dumps(state))
    found: dict[str, Any] = {}

    def ended() -> bool:
        found.update(client.describe_execution(executionArn=arn["executionArn"]))
        return found["status"] != "RUNNING"

    wait_until(ended)
    return found


@pytest.mark.parametrize(
    ("stage", "forgotten", "gone"),
    [
        ("write-shard", "(pieces|packs|train|validation|test)/|assignment|manifest|report", "penguins.csv"),
        ("pack-shard", "pieces/.*tensors|(packs|train|validation|test)/|manifest|report", "piece-0000"),
    ],
)
def test_a_failed_item_ends_the_run_with_its_own_reason(
    stage: str, forgotten: str, gone: str, cloud: LocalCloud
) -> None:
    run = prepared(cloud, f"{stage}-fails")
    forget(cloud, run, forgotten)
    s3 = cloud.client("s3")
    versions = s3.list_object_versions(Bucket=cloud.status["bucket"], Prefix=f"datasets/{run['dataset']}/p")
    for version in versions["Versions"]:
        s3.delete_object(Bucket=cloud.status["bucket"], Key=version["Key"], VersionId=version["VersionId"])
    ended = execute(cloud, machine_of(cloud), run)
    assert ended["status"] == "FAILED", ended
    shown = cloud.get(f"/runs/{run['run_id']}")
    assert (shown["status"], shown["failure"]["error"]) == ("failed", "NotFound")
    assert gone in shown["failure"]["reason"]


@pytest.fixture(scope="module")
def after_the_map(cloud: LocalCloud) -> str:
    """The deployed machine from where a Map has ended; where it would go on, it ends."""
    client = cloud.client("stepfunctions")
    found = client.describe_state_machine(stateMachineArn=machine_of(cloud))
    definition = json.loads(found["definition"])
    assert {name for name, _ in all_states(definition)} >= {"Write Shard", "Record Write Shard Failure"}
    wanted = ("Find Failed Items", "Are Shards Written", "Tell Item's Failure", "Record Failure", "Publish Run Failed")
    states = {name: definition["States"][name] for name in (*wanted, "Run Failed")}
    states["Assign Samples"] = {"Type": "Succeed"}
    made = client.create_state_machine(
        name=f"after-{uuid.uuid4().hex[:8]}",
        definition=json.dumps({"StartAt": wanted[0], "States": states}),
        roleArn=found["roleArn"],
    )
    return str(made["stateMachineArn"])


@pytest.mark.parametrize("map_failed", [False, True], ids=["Map went on", "Map failed"])
@pytest.mark.parametrize("recorded", [False, True], ids=["nothing recorded", "failure recorded"])
def test_a_run_fails_for_what_its_item_recorded_else_for_what_its_map_told(
    map_failed: bool, recorded: bool, cloud: LocalCloud, after_the_map: str
) -> None:
    run_id = f"map-{uuid.uuid4().hex[:8]}"
    state: dict[str, Any] = {"run_id": run_id, "dataset": "map", "version": "0123456789ab"}
    key = {"pk": {"S": f"RUN#{run_id}"}, "sk": {"S": "RUN"}}
    table, name = cloud.client("dynamodb"), f"{cloud.status['stack']}-catalog"
    attributes = {"item_failure": {"S": json.dumps({**state, "item": 7, "failure": OWN})}} if recorded else {}
    table.put_item(TableName=name, Item=key | attributes)
    ended = execute(cloud, after_the_map, state | ({"failure": TOLERANCE} if map_failed else {}))
    kept = table.get_item(TableName=name, Key=key)["Item"]
    if not (map_failed or recorded):
        assert ended["status"] == "SUCCEEDED" and "status" not in kept
        return
    expected = OWN if recorded else TOLERANCE
    assert ended["status"] == "FAILED", ended
    assert (kept["status"]["S"], kept["error"]["S"]) == ("failed", expected["Error"])
    assert json.loads(kept["cause"]["S"]) == expected
    table.delete_item(TableName=name, Key=key)
