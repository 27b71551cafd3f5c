"""A search by the real handlers: begun over HTTP, its lanes, its winner, its page; stopped and resumed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

import boto3
import pytest

from shoal_core.errors import NotFound
from shoal_core.training.tuning.records import Budget, TuningRequest
from tests.support.aws import REGION, ROOT, invoke, stack
from tests.support.pipeline import finish_run, http_event, ingest, prepare_data, run_of, run_search

SPACE = {
    "recipes": {"linear": {}, "mlp": {"network.hidden": {"choice": [[16], [32]]}}},
    "training.learning_rate": {"log_uniform": [0.0005, 0.05]},
    "training.epochs": 8,
    "rounds": 2,
    "augment": "none",
}


@pytest.fixture(scope="module", autouse=True)
def committed() -> Iterator[dict[str, str]]:
    """A committed version of the penguins, whose own run isn't trained."""
    with stack():
        ingest("datasets/penguins/dataset.yaml", b"target: species\n")
        run = run_of(ingest("datasets/penguins/penguins.csv", (ROOT / "examples/penguins/penguins.csv").read_bytes()))
        prepare_data(run)
        yield run


def call(method: str, path: str, body: Any = None, **changes: Any) -> tuple[int, dict[str, Any]]:
    event = http_event(method, path, None if body is None else json.dumps(body), **changes)
    answer = invoke("api", event)
    return answer["statusCode"], json.loads(answer["body"])


def actions() -> list[tuple[str, str]]:
    return [(entry["action"], entry["subject"]) for entry in call("GET", "/audit")[1]["entries"]]


@pytest.fixture(scope="module")
def searched(committed: dict[str, str]) -> dict[str, Any]:
    """A search of six trials by two lanes, as its page and its API show it in the end."""
    asked = {"space": SPACE, "trials": 6, "lanes": 2, "eta": 2, "rungs": 2, "seed": 3}
    status, begun = call("POST", "/datasets/penguins/tunings", asked)
    assert status == 202 and begun["status"] == "running" and begun["trials"] == []
    assert call("POST", "/datasets/penguins/tunings", asked)[1]["tuning_id"] == begun["tuning_id"]
    answer = run_search(begun["tuning_id"])
    assert answer["next"] == "wait"
    middle = call("GET", f"/tunings/{begun['tuning_id']}")[1]
    assert middle["winner"]["model"] is None and middle["status"] == "running" and middle["stage"] == "finishing"
    winner = {name: committed[name] for name in ("dataset", "version")} | {"run_id": middle["winner"]["run_id"]}
    finish_run(winner)
    assert invoke("advance_tuning", {"step": "conclude", "state": answer})["next"] == "end"
    return call("GET", f"/tunings/{begun['tuning_id']}")[1]


def test_the_winner_is_a_version_of_the_model(searched: dict[str, Any]) -> None:
    assert searched["status"] == "succeeded" and searched["reason"] == "all 6 trials are done"
    assert (searched["rungs"], searched["done"], searched["parts"]) == ([6, 3], [6, 3], [2, 1])
    assert (searched["metric"], searched["higher_is_better"], searched["split"]) == ("accuracy", True, "validation")
    winner = searched["winner"]
    assert winner["status"] == "succeeded" and winner["model"] == {"name": "penguins", "version": 1}
    assert winner["metrics"]["accuracy"] > 0.9
    trial = searched["trials"][winner["trial"]]
    assert trial["state"] == "finished" and trial["curve"][-1]["round"] == trial["rounds"]
    best = max(entry["results"][-1]["metric"] for entry in searched["trials"])
    assert searched["best"] == winner["trial"] and searched["best_metric"] == best
    versions = call("GET", "/models/penguins")[1]["versions"]
    assert versions[0]["run_id"] == winner["run_id"]


def test_trials_cost_what_their_runs_used_and_only_the_winners_run_is_listed(searched: dict[str, Any]) -> None:
    assert all(trial["cost_usd"] > 0 and trial["seconds"] > 0 for trial in searched["trials"])
    assert searched["cost_usd"] > sum(trial["cost_usd"] for trial in searched["trials"])
    listed = {run["run_id"] for run in call("GET", "/runs")[1]["runs"]}
    ids = {trial["run_id"] for trial in searched["trials"]}
    assert listed & ids == {searched["winner"]["run_id"]}
    paused = next(trial for trial in searched["trials"] if trial["state"] == "paused")
    run = call("GET", f"/runs/{paused['run_id']}")[1]
    assert run["status"] == "paused" and run["settings"]["workers"] == 1 and run["metrics"] == {}
    # No trial but the winner has been evaluated on the test split.
    objects = boto3.client("s3", region_name=REGION).list_objects_v2(Bucket="artifacts", Prefix="runs/penguins-tuning")
    evaluated = {item["Key"].split("/")[1] for item in objects["Contents"] if "/evaluation/" in item["Key"]}
    assert evaluated == {searched["winner"]["run_id"]}


def test_the_page_tells_every_trial_and_is_kept(searched: dict[str, Any]) -> None:
    answer = invoke("api", http_event("GET", f"/tunings/{searched['tuning_id']}/report.html"))
    assert answer["statusCode"] == 200 and answer["headers"]["Content-Type"] == "text/html; charset=utf-8"
    assert "sandbox" in answer["headers"]["Content-Security-Policy"]
    page = answer["body"]
    assert page.count("<polyline") == 6 and "the winner alone is evaluated" in page and "network.hidden" in page
    s3 = boto3.client("s3", region_name=REGION)
    kept = s3.get_object(Bucket="artifacts", Key=f"tunings/{searched['tuning_id']}/report.html")["Body"].read().decode()
    assert kept.count("<polyline") == 6
    document = json.loads(
        s3.get_object(Bucket="artifacts", Key=f"tunings/{searched['tuning_id']}/report.json")["Body"].read()
    )
    assert document["winner"] == searched["winner"]


def test_who_began_it_is_in_the_record_once(searched: dict[str, Any]) -> None:
    assert actions().count(("tuning.begun", searched["tuning_id"])) == 1


def test_lists_are_light(searched: dict[str, Any]) -> None:
    status, found = call("GET", "/tunings", queryStringParameters={"dataset": "penguins"})
    assert status == 200
    one = next(entry for entry in found["tunings"] if entry["tuning_id"] == searched["tuning_id"])
    assert one["trials"] == [] and one["trials_begun"] == 6 and one["best_metric"] == searched["best_metric"]
    assert call("GET", "/tunings", queryStringParameters={"dataset": "none"})[1] == {"tunings": []}


def test_a_search_that_has_all_it_may_is_resumed_with_a_larger_budget_only(searched: dict[str, Any]) -> None:
    path = f"/tunings/{searched['tuning_id']}"
    status, problem = call("POST", f"{path}/resume", {})
    assert status == 409 and "all 6 trials are done" in problem["detail"] and "larger budget" in problem["fix"]
    status, problem = call("POST", f"{path}/stop")
    assert status == 409 and "nothing to stop" in problem["detail"]


def test_a_stopped_search_goes_on_when_it_is_resumed() -> None:
    begun = call("POST", "/datasets/penguins/tunings", {"space": SPACE, "trials": 2, "lanes": 1, "rungs": 2})[1]
    tuning_id, path = begun["tuning_id"], f"/tunings/{begun['tuning_id']}"
    status, stopped = call("POST", f"{path}/stop")
    assert status == 200 and stopped["status"] == "stopping"
    assert call("POST", f"{path}/stop")[1]["status"] == "stopping"
    assert run_search(tuning_id)["next"] == "end"
    assert call("GET", path)[1]["status"] == "stopped"
    status, resumed = call("POST", f"{path}/resume", {"lanes": 2, "minutes": 5})
    assert status == 202 and (resumed["status"], resumed["attempt"], resumed["lanes"]) == ("running", 2, 2)
    assert resumed["budget"] == {"trials": 2, "minutes": 5.0, "dollars": None}
    assert run_search(tuning_id, 2)["next"] == "wait"
    found = call("GET", path)[1]
    assert found["trials_begun"] == 2 and found["winner"] is not None
    assert [action for action, subject in actions() if subject == tuning_id] == [
        "tuning.begun", "tuning.stopped", "tuning.resumed",
    ]  # fmt: skip


def test_a_search_whose_execution_was_ended_is_resumed_and_one_that_runs_is_not() -> None:
    tuning_id = call("POST", "/datasets/penguins/tunings", {"space": SPACE, "seed": 99})[1]["tuning_id"]
    status, problem = call("POST", f"/tunings/{tuning_id}/resume", {})
    assert status == 409 and "is under way" in problem["detail"] and problem["fix"]
    machines = boto3.client("stepfunctions", region_name=REGION)
    machine = os.environ["SHOAL_TUNING_STATE_MACHINE_ARN"]
    names = {found["name"]: found for found in machines.list_executions(stateMachineArn=machine)["executions"]}
    machines.stop_execution(executionArn=names[tuning_id]["executionArn"])
    status, resumed = call("POST", f"/tunings/{tuning_id}/resume", {})
    assert status == 202 and (resumed["attempt"], resumed["budget"]["trials"]) == (2, 9)
    names = {found["name"]: found for found in machines.list_executions(stateMachineArn=machine)["executions"]}
    started = machines.describe_execution(executionArn=names[f"{tuning_id}-c2"]["executionArn"])
    assert json.loads(started["input"]) == {"attempt": 2, "tuning_id": tuning_id}


def test_a_trial_that_fails_tells_why_and_the_rest_goes_on() -> None:
    space = {"recipes": {"mlp": {"network.hidden": {"choice": [[16], "wide"]}}}, "training.epochs": 1}
    begun = call("POST", "/datasets/penguins/tunings", {"space": space, "trials": 2, "lanes": 1, "rungs": 1})[1]
    assert run_search(begun["tuning_id"])["next"] == "wait"
    found = call("GET", f"/tunings/{begun['tuning_id']}")[1]
    (failed,) = [trial for trial in found["trials"] if trial["state"] == "failed"]
    assert failed["failure"]["error"] == "BadConfig" and "hidden" in failed["failure"]["reason"]
    assert found["trials_failed"] == 1 and found["winner"]["trial"] == 1 - failed["number"]
    run = call("GET", f"/runs/{failed['run_id']}")[1]
    assert run["status"] == "failed" and run["failure"]["reason"] == failed["failure"]["reason"]


@pytest.mark.parametrize(
    ("path", "body", "status", "detail"),
    [
        ("/datasets/nobody/tunings", {}, 404, "nobody"),
        ("/datasets/penguins/tunings", {"version": "none"}, 404, "none"),
        ("/datasets/penguins/tunings", {"space": {"training.epochs": {"choice": [0]}}}, 400, "training.epochs"),
        ("/datasets/penguins/tunings", {"space": {"workers": 3}}, 400, "workers"),
        ("/datasets/penguins/tunings", {"trials": 0}, 400, "trials"),
        ("/datasets/penguins/tunings", {"lanes": 41}, 400, "lanes"),
        ("/datasets/penguins/tunings", {"trails": 4}, 400, "trails"),
        ("/tunings/none/stop", None, 404, "none"),
        ("/tunings/none/resume", {}, 404, "none"),
    ],
)
def test_what_cant_be_searched_is_a_problem(path: str, body: Any, status: int, detail: str) -> None:
    found, problem = call("POST", path, body)
    assert found == status and detail in problem["detail"] and problem["fix"]


def test_nobody_saying_what_to_try_is_what_suits_the_data() -> None:
    begun = call("POST", "/datasets/penguins/tunings", {})[1]
    assert begun["budget"]["trials"] == 9 and begun["space"] == {}
    event = {"step": "plan", "state": {"tuning_id": begun["tuning_id"], "attempt": 1}}
    answer = invoke("advance_tuning", event)
    assert answer["items_key"] == f"tunings/{begun['tuning_id']}/lanes.json"
    assert invoke("advance_tuning", event) == answer
    assert set(call("GET", f"/tunings/{begun['tuning_id']}")[1]["space"]["recipes"]) == {"mlp", "linear"}


def test_the_event_is_of_a_search_of_the_digits_which_isnt_there() -> None:
    event = json.loads((ROOT / "events/advance_tuning.json").read_text())
    version = json.loads((ROOT / "events/start_training.json").read_text())["version"]
    request = TuningRequest(dataset="digits", version=version, budget=Budget(trials=9))
    assert event == {"step": "plan", "state": {"tuning_id": request.tuning_id, "attempt": 1}}
    with pytest.raises(NotFound, match=request.tuning_id):
        invoke("advance_tuning", event)


def test_whoever_may_only_read_cant_search() -> None:
    event = http_event("POST", "/datasets/penguins/tunings", "{}")
    event["requestContext"]["authorizer"]["lambda"] |= {"token": "reader", "scopes": "read"}
    assert invoke("api", event)["statusCode"] == 403
    for path in ("/tunings/x/stop", "/tunings/x/resume"):
        event = http_event("POST", path, "{}")
        event["requestContext"]["authorizer"]["lambda"] |= {"token": "reader", "scopes": "read"}
        assert json.loads(invoke("api", event)["body"])["detail"].endswith(f"'data:write', which POST {path} needs.")
