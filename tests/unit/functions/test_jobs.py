"""Training jobs and quotes through the real handlers: Start Training, Follow Job and the API."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import boto3
import pytest

from shoal_core.aws import quote_routes
from shoal_core.errors import JobFailed
from tests.support.aws import REGION, ROOT, forget, invoke
from tests.support.pipeline import http_event, ingest, run_of, run_training
from tests.unit.functions.conftest import Trained

JOBS = (
    '{"stack":"shoal","region":"us-east-1","image":"","instance":"ml.m5.large","count":1,"spot":false,"hours":24,'
    '"key":"","subnets":"","groups":"","endpoint":""}'
)
CONFIG = b"target: species\nrounds: 2\nworkers: 1\ntraining: {epochs: 2}\n"


@pytest.fixture(scope="module")
def flock(trained: Trained) -> Iterator[dict[str, str]]:
    """A run that has registered a version, in a stack that has training jobs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHOAL_SAGEMAKER", JOBS)
        forget()
        penguins = (ROOT / "examples/penguins/penguins.csv").read_bytes()
        s3 = boto3.client("s3", region_name=REGION)
        s3.put_object(Bucket="uploads", Key="datasets/jobs/penguins.csv", Body=penguins)
        run = run_of(ingest("datasets/jobs/dataset.yaml", CONFIG))
        run_training(run)
        yield run
    forget()


@pytest.fixture(autouse=True)
def lambdas(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lambda's Invoke: the handler itself, or the error as Lambda tells it."""

    def answered(function: str, task: dict[str, Any]) -> dict[str, Any]:
        try:
            return dict(invoke("start_training", task))
        except Exception as error:  # noqa: BLE001 - as Lambda does
            return {"errorType": type(error).__name__, "errorMessage": str(error)}

    monkeypatch.setattr(quote_routes, "invoke", answered)


def call(method: str, path: str, body: Any = None) -> tuple[int, dict[str, Any]]:
    answer = invoke("api", http_event(method, path, None if body is None else json.dumps(body)))
    return answer["statusCode"], json.loads(answer["body"])


def requested(flock: dict[str, str], **overrides: Any) -> dict[str, str]:
    status, started = call("POST", "/datasets/jobs/runs", {"overrides": overrides})
    assert status == 202
    return {name: started[name] for name in ("run_id", "dataset", "version")}


def seen(job: dict[str, Any], status: str, **fields: Any) -> dict[str, Any]:
    """What DescribeTrainingJob answers, as the state machine hands it on."""
    return {
        "job": job,
        "described": {
            "TrainingJobName": job["TrainingJobName"],
            "TrainingJobStatus": status,
            "ResourceConfig": job["ResourceConfig"],
            "CreationTime": "2026-11-21T12:00:00",
            **fields,
        },
    }


def test_a_run_as_a_job_is_followed_and_made_again_where_aws_lost_it(flock: dict[str, str]) -> None:
    run = requested(flock, compute={"service": "sagemaker", "spot": True})
    state = invoke("start_training", run)
    assert (state["finished"], state["job_in_vpc"], state["wait_seconds"]) == (False, False, 1)
    assert state["job"]["EnableManagedSpotTraining"] is True
    assert "RoleArn" not in state["job"]

    looked = invoke("follow_job", {**run, **seen(state["job"], "InProgress", SecondaryStatus="Training"), "looks": 9})
    assert (looked["finished"], looked["again"], looked["looks"]) == (False, False, 10)
    assert looked["job"] == state["job"]
    lost = seen(state["job"], "Failed", FailureReason="InternalServerError: again", BillableTimeInSeconds=60)
    assert invoke("follow_job", {**run, **lost})["again"]
    second = invoke("start_training", run)["job"]["TrainingJobName"]
    assert (second[:-1], second[-1]) == (state["job"]["TrainingJobName"][:-1], "2")

    failed = seen({**state["job"], "TrainingJobName": second}, "Failed", FailureReason="ClientError: no image")
    with pytest.raises(JobFailed, match="no image"):
        invoke("follow_job", {**run, **failed})
    shown = call("GET", f"/runs/{run['run_id']}")[1]
    first, last = shown["jobs"]
    assert (first["status"], first["seconds"], first["cost_usd"]) == ("Failed", 60, pytest.approx(0.115 / 60))
    assert last["detail"] == "ClientError: no image"
    assert shown["settings"]["compute"]["service"] == "sagemaker"
    refused = call("PUT", f"/runs/{run['run_id']}/workers", {"workers": 2})
    assert (refused[0], "SageMaker" in refused[1]["detail"]) == (409, True)


def test_a_run_on_lambda_has_no_job(flock: dict[str, str]) -> None:
    assert "job" not in invoke("start_training", requested(flock, seed=3))


def test_a_script_comes_from_the_uploads(flock: dict[str, str]) -> None:
    asked = {"compute": "sagemaker", "training": {"script": "1234/train.py"}}
    s3 = boto3.client("s3", region_name=REGION)
    s3.put_object(Bucket="uploads", Key="scripts/jobs/1234/train.py", Body=b"print()")
    job = invoke("start_training", requested(flock, **asked))["job"]
    assert json.loads(job["HyperParameters"]["sagemaker_program"]) == "train.py"


def test_a_quote_is_of_both_and_starts_nothing(flock: dict[str, str]) -> None:
    runs = len(call("GET", "/runs")[1]["runs"])
    status, quote = call("POST", "/datasets/jobs/quote", {"overrides": {"compute": "auto"}})
    assert (status, quote["service"]) == (200, "lambda")
    assert [entry["service"] for entry in quote["quotes"]] == ["lambda", "sagemaker"]
    assert "1 ml.m5.large" in quote["quotes"][1]["how"]
    asked = {"overrides": {"compute": {"service": "sagemaker", "count": 2}}, "version": flock["version"]}
    assert "2 ml.m5.large" in call("POST", "/datasets/jobs/quote", asked)[1]["why"]
    assert len(call("GET", "/runs")[1]["runs"]) == runs
    assert call("POST", "/datasets/nobody/quote", {})[0] == 404
    status, problem = call("POST", "/datasets/jobs/quote", {"overrides": {"split": {}}})
    assert (status, "says what the data are" in problem["detail"]) == (400, True)
