"""Batch jobs through the real handlers: from the upload's event to what the API shows."""

from __future__ import annotations

import io
import json
import zipfile
from typing import Any

import boto3
import pytest

from tests.support.aws import REGION, ROOT, invoke
from tests.support.pipeline import http_event, ingest, upload
from tests.unit.functions.conftest import Trained
from tests.unit.functions.test_events import artifacts, event

HELD_OUT = sorted((ROOT / "examples/digits/held-out").glob("*.png"))


def photos(*extra: tuple[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in [*((path.name, path.read_bytes()) for path in HELD_OUT), *extra]:
            archive.writestr(zipfile.ZipInfo(name), data)
    return buffer.getvalue()


def call(path: str, status: int = 200, **changes: Any) -> dict[str, Any]:
    answer = invoke("api", http_event("GET", path, **changes))
    assert answer["statusCode"] == status, answer
    return dict(json.loads(answer["body"]))


def run(model: str, job: str) -> dict[str, Any]:
    """All states of one job, in the state machine's order."""
    state = {"model": model, "job": job}
    plan = invoke("plan_batch", state)
    body = boto3.client("s3", region_name=REGION).get_object(Bucket="artifacts", Key=plan["items_key"])["Body"]
    for item in json.loads(body.read()):
        invoke("predict_batch", {**state, **item})
    return dict(invoke("commit_batch", state))


def executions() -> list[str]:
    machines = boto3.client("stepfunctions", region_name=REGION)
    (machine,) = [found for found in machines.list_state_machines()["stateMachines"] if found["name"] == "batch"]
    return [
        entry["name"] for entry in machines.list_executions(stateMachineArn=machine["stateMachineArn"])["executions"]
    ]


@pytest.fixture(scope="module")
def done(trained: Trained) -> dict[str, Any]:
    """The job that the events of events/ are about: the held-out digits and two files that are no digits."""
    outcome = ingest("batch/digits/held-out/held-out.zip", photos(("note.txt", b"hello"), ("broken.png", b"\x89PNG")))
    assert outcome == {"status": "started", "run_id": "digits/held-out", "reason": ""}
    return run("digits", "held-out")


def test_every_record_has_a_prediction_or_an_error_in_its_place(done: dict[str, Any]) -> None:
    batch = call("/batches/digits/held-out")
    assert (batch["status"], batch["version"], batch["stage"]) == ("succeeded", 1, "Commit Batch")
    assert (batch["records"], batch["errors"]) == (len(HELD_OUT) + 2, 2)
    assert batch["codes"] == {"bad_image": 1, "not_an_image": 1}
    assert [stage["name"] for stage in batch["stages"]] == ["Plan Batch", "Predict Batch", "Commit Batch"]
    assert batch["cost_usd"] > 0
    assert batch["output"]["digest"] == done["digest"]
    body = boto3.client("s3", region_name=REGION).get_object(Bucket="artifacts", Key=batch["output"]["predictions"])
    lines = [json.loads(line) for line in body["Body"].read().splitlines()]
    assert [line["file"] for line in lines] == [*(path.name for path in HELD_OUT), "note.txt", "broken.png"]
    right = [line["prediction"]["label"] == line["file"][0] for line in lines[: len(HELD_OUT)]]
    assert sum(right) >= len(right) - 1
    assert [error["code"] for error in call("/batches/digits/held-out/errors")["errors"]] == [
        "not_an_image",
        "bad_image",
    ]
    assert all(line["error"]["fix"] for line in lines[len(HELD_OUT) :])


def test_the_answers_are_those_of_the_predict_function(done: dict[str, Any]) -> None:
    batch = call("/batches/digits/held-out")
    body = boto3.client("s3", region_name=REGION).get_object(Bucket="artifacts", Key=batch["output"]["predictions"])
    lines = [json.loads(line) for line in body["Body"].read().splitlines()]
    request = event("predict")
    body = json.loads(invoke("predict", request)["body"])
    (name,) = [path.name for path in HELD_OUT if request["body"] == _base64(path.read_bytes())]
    (line,) = [line for line in lines if line["file"] == name]
    (prediction,) = body["predictions"]
    assert line["prediction"]["label"] == prediction["label"]
    assert line["prediction"]["probability"] == pytest.approx(prediction["probability"], abs=1e-6)


def _base64(data: bytes) -> str:
    import base64

    return base64.b64encode(data).decode()


@pytest.mark.parametrize("name", ["plan_batch", "predict_batch", "commit_batch"])
def test_a_state_that_runs_again_changes_nothing(name: str, done: dict[str, Any]) -> None:
    before, records = artifacts(), call("/batches/digits/held-out")["records"]
    answer = invoke(name, event(name))
    assert (answer["model"], answer["job"]) == ("digits", "held-out")
    assert artifacts() == before
    assert call("/batches/digits/held-out")["records"] == records


def test_a_repeated_event_starts_no_second_job_and_another_upload_does(done: dict[str, Any]) -> None:
    first = upload("batch/digits/again/photos.zip", photos())
    outcomes = [invoke("ingest_upload", first)["outcomes"][0] for _ in range(2)]
    assert [outcome["run_id"] for outcome in outcomes] == ["digits/again"] * 2
    second = ingest("batch/digits/again/photos.zip", photos())
    assert (second["status"], second["run_id"]) == ("started", "digits/again-2")
    digests = [run("digits", job)["digest"] for job in ("again", "again-2")]
    assert digests[0] == digests[1] != done["digest"]
    assert sum(name.startswith("digits-again") for name in executions()) == 2
    begun = [entry["subject"] for entry in call("/audit")["entries"] if entry["action"] == "batch.begun"]
    assert [name for name in begun if "again" in name] == ["digits/again", "digits/again-2"]
    # A name that somebody has taken is skipped.
    assert ingest("batch/digits/taken-2/photos.zip", photos())["run_id"] == "digits/taken-2"
    assert ingest("batch/digits/taken/photos.zip", photos())["run_id"] == "digits/taken"
    assert ingest("batch/digits/taken/photos.zip", photos())["run_id"] == "digits/taken-3"


def test_loose_files_wait_for_batch_yaml(done: dict[str, Any]) -> None:
    event_of_file = upload("batch/digits/loose/a/1.png", HELD_OUT[0].read_bytes())
    assert invoke("ingest_upload", event_of_file)["outcomes"][0]["status"] == "waiting"
    upload("batch/digits/loose/b/2.png", HELD_OUT[1].read_bytes())
    batch = call("/batches/digits/loose")
    assert batch["status"] == "waiting"
    assert "batch/digits/loose/batch.yaml" in batch["note"]
    assert "digits/loose" in [entry["id"] for entry in call("/batches")["batches"]]
    assert ingest("batch/digits/loose/batch.yaml", b"probabilities: all\n")["run_id"] == "digits/loose"
    assert run("digits", "loose")["records"] == 2
    batch = call("/batches/digits/loose")
    assert batch["status"] == "succeeded"
    late = invoke(
        "ingest_upload",
        {**event_of_file, "Records": [{**event_of_file["Records"][0], "eventTime": "2026-11-21T09:00:00.000Z"}]},
    )
    assert late["outcomes"][0]["status"] == "ignored"


def test_settings_beside_an_archive_hold_for_it_in_any_order_of_the_events(done: dict[str, Any]) -> None:
    settings = upload("batch/digits/settings/batch.yaml", b"probabilities: all\n")
    archive = upload("batch/digits/settings/photos.zip", photos())
    outcomes = [invoke("ingest_upload", each)["outcomes"][0] for each in (settings, archive)]
    assert [outcome["run_id"] for outcome in outcomes] == ["digits/settings"] * 2
    run("digits", "settings")
    key = call("/batches/digits/settings")["output"]["predictions"]
    line = boto3.client("s3", region_name=REGION).get_object(Bucket="artifacts", Key=key)["Body"].read().splitlines()[0]
    assert len(json.loads(line)["prediction"]["probabilities"]) == 10


@pytest.mark.parametrize(
    ("key", "data", "error", "reason"),
    [
        ("batch/digits/photos.zip", b"x", "BadName", "names no batch job"),
        ("batch/digits/bad name/photos.zip", b"x", "BadName", "isn't allowed"),
        ("batch/digits/j/batch.yaml", b"verison: 2\n", "BadConfig", "unknown field 'verison'"),
        ("batch/digits/j2/batch.yaml", b"version: none\n", "BadConfig", "isn't allowed"),
        ("batch/digits/j4/batch.yaml", b"#" * 65_537, "BadConfig", "has 65,537 bytes"),
        ("batch/digits/j3/batch.yml", b"", "BadConfig", "isn't read"),
    ],
)
def test_what_is_wrong_with_an_upload_is_shown(
    key: str, data: bytes, error: str, reason: str, done: dict[str, Any]
) -> None:
    outcome = ingest(key, data)
    assert outcome["status"] == "refused"
    (failed,) = [entry for entry in call("/batches")["batches"] if entry["id"] == outcome["run_id"]]
    assert failed["status"] == "failed"
    assert failed["failure"]["error"] == error
    assert reason in failed["failure"]["reason"]
    assert failed["failure"]["fix"]


def test_jobs_that_do_not_exist_are_not_found(trained: Trained) -> None:
    for path in ("/batches/digits/nothing", "/batches/digits/nothing/errors"):
        assert call(path, 404)["status"] == 404
    call("/batches", 400, rawQueryString="limit=0", queryStringParameters={"limit": "0"})
