"""Every JSON of events/ is fed to its handler, after a real run: each state finds its work done and says the same."""

from __future__ import annotations

import json
from typing import Any

import boto3
import pytest

from shoal_core.errors import BadRequest
from tests.support.aws import REGION, ROOT, TOKEN, invoke, template
from tests.unit.functions.conftest import Trained

FUNCTIONS = sorted(path.name for path in (ROOT / "functions").iterdir() if (path / "app.py").exists())
STATES = [
    "plan_shards",
    "write_shard",
    "assign_samples",
    "pack_shard",
    "commit_dataset",
    "start_training",
    "train_shard",
    "merge_round",
    "optimize_model",
    "evaluate_model",
    "register_model",
]


def event(name: str) -> dict[str, Any]:
    return dict(json.loads((ROOT / "events" / f"{name}.json").read_text()))


def artifacts() -> dict[str, str]:
    """Key -> ETag of everything in the artifacts bucket."""
    pages = boto3.client("s3", region_name=REGION).get_paginator("list_objects_v2").paginate(Bucket="artifacts")
    return {entry["Key"]: entry["ETag"] for page in pages for entry in page.get("Contents", ())}


def test_every_function_has_an_event_and_a_place_in_the_template() -> None:
    events = sorted(path.stem for path in (ROOT / "events").glob("*.json"))
    folders = sorted(
        resource["Properties"]["CodeUri"].split("/")[1]
        for resource in template()["Resources"].values()
        if resource["Type"] == "AWS::Serverless::Function"
    )
    assert events == FUNCTIONS == folders


def test_the_events_name_the_run_of_the_example(trained: Trained) -> None:
    assert {name: event("plan_shards")[name] for name in trained.run} == trained.run


@pytest.mark.parametrize("name", STATES)
def test_a_state_that_runs_again_changes_nothing(name: str, trained: Trained) -> None:
    before = artifacts()
    answer = invoke(name, event(name))
    assert artifacts() == before
    assert answer["run_id"] == trained.run["run_id"]
    if name == "register_model":
        assert answer == trained.registered


def test_features_are_computed_for_runs_with_a_backbone_only(trained: Trained) -> None:
    before = artifacts()
    with pytest.raises(BadRequest, match="has no backbone"):
        invoke("compute_features", event("compute_features"))
    assert artifacts() == before


def test_a_repeated_upload_event_starts_no_second_run(trained: Trained) -> None:
    (outcome,) = invoke("ingest_upload", event("ingest_upload"))["outcomes"]
    assert outcome["status"] == "unchanged"
    assert outcome["run_id"] == trained.run["run_id"]
    machines = boto3.client("stepfunctions", region_name=REGION)
    (machine,) = [found for found in machines.list_state_machines()["stateMachines"] if found["name"] == "training"]
    executions = machines.list_executions(stateMachineArn=machine["stateMachineArn"])["executions"]
    assert [execution["name"] for execution in executions] == [trained.run["run_id"]]


def test_an_event_of_a_model_that_is_gone_is_ignored(trained: Trained) -> None:
    (outcome,) = invoke("import_model", event("import_model"))["outcomes"]
    assert outcome["status"] == "ignored"


def test_api_shows_the_run(trained: Trained) -> None:
    answer = invoke("api", event("api"))
    run = json.loads(answer["body"])
    assert answer["statusCode"] == 200
    assert run["status"] == "succeeded"
    assert run["model"] == {"name": "digits", "version": 1}
    assert run["metrics"]["accuracy"] >= 0.97
    assert len(run["rounds"]) == run["progress"]["round"] > 3
    assert run["settings"]["workers"] == 2
    assert run["progress"]["shards_done"] == run["progress"]["shards_total"] == 4
    assert run["progress"]["packs_done"] == run["progress"]["packs_total"] == 6
    assert run["stages"][0]["name"] == "Plan Shards"
    assert all(stage["gb_seconds"] > 0 and stage["cost_usd"] > 0 for stage in run["stages"])


def test_predict_answers_with_a_class_and_probabilities(trained: Trained) -> None:
    answer = invoke("predict", event("predict"))
    body = json.loads(answer["body"])
    assert answer["statusCode"] == 200
    assert (body["model"], body["version"], body["task"]) == ("digits", 1, "classification")
    (prediction,) = body["predictions"]
    assert prediction["label"] == "2"
    assert sum(prediction["probabilities"].values()) == pytest.approx(1, abs=1e-5)


def test_predict_stream_answers_into_the_stream_of_predictions(trained: Trained) -> None:
    assert invoke("predict_stream", event("predict_stream")) == {"batchItemFailures": []}
    kinesis = boto3.client("kinesis", region_name=REGION)
    iterator = kinesis.get_shard_iterator(
        StreamName="predictions", ShardId="shardId-000000000000", ShardIteratorType="TRIM_HORIZON"
    )["ShardIterator"]
    (record,) = kinesis.get_records(ShardIterator=iterator)["Records"]
    answer = json.loads(record["Data"])
    assert (answer["id"], answer["model"], answer["version"]) == ("two", "digits", 1)
    assert answer["predictions"][0]["label"] == "2"
    assert record["PartitionKey"] == answer["key"] == "camera-1"


@pytest.mark.parametrize(
    ("header", "allowed"),
    [
        (f"Bearer {TOKEN}", True),
        (f"bearer {TOKEN}", True),
        ("Bearer TOKEN", False),
        (TOKEN, False),
        ("Bearer ", False),
        ("", False),
    ],
)
def test_authorize_takes_the_secret_and_nothing_else(header: str, allowed: bool, trained: Trained) -> None:
    request = event("authorize")
    request["headers"]["authorization"] = header
    answer = invoke("authorize", request)
    assert answer["isAuthorized"] is allowed
    assert answer.get("context") == (
        {"token": "root", "scopes": "admin", "per_minute": 0, "per_day": 0, "per_month": 0} if allowed else None
    )
