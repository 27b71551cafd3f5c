"""Runs by request and other workers, through the real handlers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import boto3
import pytest

from shoal_core.errors import RoundUnfinished
from tests.support.aws import REGION, ROOT, invoke, stack
from tests.support.pipeline import http_event, ingest, run_of, run_training

CONFIG = b"target: species\nrounds: 1\nworkers: 3\ntraining: {epochs: 2}\n"


@pytest.fixture(scope="module")
def flock() -> Iterator[dict[str, str]]:
    """The run of an upload in three training shards; it has registered version 1."""
    with stack():
        penguins = (ROOT / "examples/penguins/penguins.csv").read_bytes()
        boto3.client("s3", region_name=REGION).put_object(
            Bucket="uploads", Key="datasets/flock/penguins.csv", Body=penguins
        )
        run = run_of(ingest("datasets/flock/dataset.yaml", CONFIG))
        run_training(run)
        yield run


def call(method: str, path: str, body: Any = None, **changes: Any) -> tuple[int, dict[str, Any]]:
    answer = invoke("api", http_event(method, path, None if body is None else json.dumps(body), **changes))
    return answer["statusCode"], json.loads(answer["body"])


def executions() -> dict[str, Any]:
    machines = boto3.client("stepfunctions", region_name=REGION)
    (arn,) = [
        machine["stateMachineArn"]
        for machine in machines.list_state_machines()["stateMachines"]
        if machine["name"] == "training"
    ]
    found = machines.list_executions(stateMachineArn=arn)["executions"]
    return {
        each["name"]: json.loads(machines.describe_execution(executionArn=each["executionArn"])["input"])
        for each in found
    }


def registered(run: dict[str, Any], state: dict[str, Any]) -> dict[str, Any]:
    """The version that a run which is done with training becomes."""
    invoke("optimize_model", run)
    for shard in state["evaluation_shards"]:
        invoke("evaluate_model", {**run, **shard})
    invoke("evaluate_model", run)
    invoke("register_model", run)
    versions = call("GET", "/models/flock")[1]["versions"]
    return next(version for version in versions if version["run_id"] == run["run_id"])


def audit(action: str) -> list[dict[str, Any]]:
    return [entry for entry in call("GET", "/audit")[1]["entries"] if entry["action"] == action]


def test_a_run_by_request_trains_with_its_own_settings_and_other_workers(flock: dict[str, str]) -> None:
    asked = {"overrides": {"training": {"epochs": 1}, "rounds": 3, "workers": 2, "promote": {"mode": "never"}}}
    status, started = call("POST", "/datasets/flock/runs", asked)
    assert status == 202 and not started["unchanged"]
    run = {name: started[name] for name in ("run_id", "dataset", "version")}
    assert run["version"] == flock["version"]
    assert executions()[run["run_id"]] == {**run, "committed": True, "execution": 1}
    assert call("POST", "/datasets/flock/runs", asked) == (202, {**started, "unchanged": True})
    (entry,) = [entry for entry in audit("run.requested") if entry["subject"] == run["run_id"]]
    assert (entry["who"], entry["details"]["overrides"]) == ("root", asked["overrides"])
    assert call("PUT", f"/runs/{run['run_id']}/workers", {"workers": 3})[1]["detail"].endswith("hasn't begun to train.")

    state = invoke("start_training", {**run, "committed": True})
    shown = call("GET", f"/runs/{run['run_id']}")[1]
    assert (shown["request"], shown["source"]) == (asked, [])
    assert (shown["settings"]["rounds"], shown["settings"]["workers"], shown["settings"]["most_workers"]) == (3, 2, 3)
    assert call("PUT", f"/runs/{run['run_id']}/workers", {"workers": 4})[0] == 400
    changed = {"run_id": run["run_id"], "before": 2, "workers": 3}
    assert call("PUT", f"/runs/{run['run_id']}/workers", {"workers": 3}) == (200, changed)
    assert call("PUT", f"/runs/{run['run_id']}/workers", {"workers": 3}) == (200, {**changed, "before": 3})
    assert [entry["details"] for entry in audit("run.workers")] == [{"before": 2, "workers": 3}]

    workers = []
    while not state["finished"]:
        workers.append(len(state["workers"]))
        trained_by = [{**item, "retries": 1} for item in state["workers"]]
        for item in state["workers"]:
            invoke("train_shard", {**run, "round": state["round"], **item})
        event = {name: state[name] for name in ("execution", "events")}
        state = invoke("merge_round", {**run, **event, "round": state["round"], "trained": trained_by})
    assert workers == [2, 3, 3]
    assert (state["events"], state["continue_anew"]) == (1_000 + 3 * 11 + 8 * (7 + 3), False)
    shown = call("GET", f"/runs/{run['run_id']}")[1]
    assert [entry["workers"] for entry in shown["rounds"]] == workers and shown["progress"]["workers"] == 3

    assert registered(run, state)["promotion"]["decision"] == "candidate"
    assert call("GET", "/models/flock")[1]["aliases"] == {"production": 1, "candidate": 2}
    status, problem = call("PUT", f"/runs/{run['run_id']}/workers", {"workers": 1})
    assert (status, problem["detail"]) == (409, f"Run {run['run_id']!r} has succeeded: its workers are done.")


def test_a_full_history_goes_on_in_the_next_execution_and_older_data_never_serve(flock: dict[str, str]) -> None:
    asked = {"training": {"epochs": 1}, "rounds": 2, "workers": 1, "promote": {"mode": "always"}}
    started = call("POST", "/datasets/flock/runs", {"overrides": asked})[1]
    run = {name: started[name] for name in ("run_id", "dataset", "version")}
    state = invoke("start_training", {**run, "execution": 3})
    assert (state["execution"], state["events"], state["continue_anew"]) == (3, 1_000, False)
    invoke("train_shard", {**run, "round": 1, "worker": 0})
    ended = {**run, "execution": 3, "events": 14_990, "round": 1, "trained": [{"worker": 0, "retries": 0}]}
    state = invoke("merge_round", ended)
    following = {**run, "committed": True, "execution": 4}
    assert state["continue_anew"] and not state["finished"]
    assert state["next_execution"]["name"] == f"{run['run_id']}-c4"
    assert json.loads(state["next_execution"]["input"]) == following
    assert invoke("merge_round", ended) == state
    state = invoke("start_training", following)
    assert (state["round"], state["execution"], state["events"]) == (2, 4, 1_000)
    invoke("train_shard", {**run, "round": 2, "worker": 0})
    state = invoke("merge_round", {**ended, "round": 2})
    assert state["finished"]

    serving = call("GET", "/models/flock")[1]["aliases"]["production"]
    boto3.client("dynamodb", region_name=REGION).update_item(
        TableName="catalog",
        Key={"pk": {"S": "MODEL#flock"}, "sk": {"S": "MODEL"}},
        UpdateExpression="SET production_order = :later",
        ExpressionAttributeValues={":later": {"S": "9999"}},
    )
    assert registered(run, state)["promotion"]["decision"] == "late"
    assert call("GET", "/models/flock")[1]["aliases"]["production"] == serving


def test_a_worker_whose_time_is_over_goes_on_where_it_stopped(
    flock: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {"training": {"epochs": 1}, "rounds": 2, "workers": 1, "seed": 5}
    started = call("POST", "/datasets/flock/runs", {"overrides": asked})[1]
    run = {name: started[name] for name in ("run_id", "dataset", "version")}
    invoke("start_training", run)
    monkeypatch.setattr("tests.support.aws.Context.get_remaining_time_in_millis", lambda self: 30_000)
    for done in (1, 2):
        with pytest.raises(RoundUnfinished, match=f"has taken {done} of"):
            invoke("train_shard", {**run, "round": 1, "worker": 0})
    monkeypatch.undo()
    assert invoke("train_shard", {**run, "round": 1, "worker": 0})["worker"] == 0
    assert invoke("merge_round", {**run, "round": 1})["round"] == 2


@pytest.mark.parametrize(
    ("path", "body", "status", "detail"),
    [
        ("/datasets/flock/runs", {"overrides": {"split": {"test": 0.1}}}, 400, "'split' says what the data are"),
        ("/datasets/flock/runs", {"overrides": {"epochs": 1}}, 400, "unknown field 'epochs'"),
        ("/datasets/flock/runs", {"override": {}}, 400, "body.override"),
        ("/datasets/flock/runs", {"version": "000000000000"}, 404, "no version '000000000000'"),
        ("/datasets/nobody/runs", {}, 404, "Dataset 'nobody' doesn't exist"),
    ],
)
def test_what_cannot_be_trained_is_refused(
    path: str, body: dict[str, Any], status: int, detail: str, flock: dict[str, str]
) -> None:
    found, problem = call("POST", path, body)
    assert (found, detail in problem["detail"]) == (status, True), problem
    assert problem["fix"]


def test_workers_of_a_run_that_isnt_there(flock: dict[str, str]) -> None:
    assert call("PUT", "/runs/none/workers", {"workers": 2})[0] == 404
    assert call("PUT", f"/runs/{flock['run_id']}/workers", {"workers": 0})[0] == 400


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [("POST", "/datasets/flock/runs", "{}"), ("PUT", "/runs/x/workers", '{"workers": 2}')],
)
def test_whoever_only_reads_may_not_start_or_change_runs(
    method: str, path: str, body: str, flock: dict[str, str]
) -> None:
    event = http_event(method, path, body)
    event["requestContext"]["authorizer"]["lambda"]["scopes"] = "read"
    answer = invoke("api", event)
    assert answer["statusCode"] == 403 and "data:write" in answer["body"]
