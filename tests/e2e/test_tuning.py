"""A search on a real embedded cloud: lanes, killed workers, a stop and a resume, and the winner that serves."""

from __future__ import annotations

import json
import time
from typing import Any

import psutil

from tests.e2e.cloud import DEADLINE, LocalCloud
from tests.e2e.conftest import PENGUINS

SPACE = """
recipes: {mlp: {network.hidden: {choice: [[16], [32, 16]]}}, linear: {}}
training.learning_rate: {log_uniform: [0.001, 0.05]}
training.epochs: 8
rounds: 2
"""


def kill_one(cloud: LocalCloud, function: str) -> bool:
    for worker in cloud.workers(function):
        try:
            worker.kill()
        except psutil.NoSuchProcess:
            continue
        return True
    return False


def wait(cloud: LocalCloud, tuning_id: str, condition: Any) -> dict[str, Any]:
    deadline = time.monotonic() + DEADLINE
    found: dict[str, Any] = {}
    while time.monotonic() < deadline:
        found = cloud.get(f"/tunings/{tuning_id}")
        if condition(found):
            return found
        time.sleep(0.05)
    raise AssertionError(f"{tuning_id}: {found}\n{cloud.log()}")


def test_a_search_survives_killed_workers_and_a_stop_and_its_winner_serves(cloud: LocalCloud, tmp_path: Any) -> None:
    cloud.put("datasets/searched/dataset.yaml", b"target: species\nrounds: 1\ntraining: {epochs: 1}\n")
    cloud.put("datasets/searched/penguins.csv", PENGUINS)
    cloud.succeeded("searched")
    space = tmp_path / "space.yaml"
    space.write_text(SPACE)
    asked = ("--trials", "6", "--lanes", "2", "--eta", "2", "--rungs", "2", "--space", str(space), "--seed", "1")
    begun = json.loads(cloud.shoal("tune", "searched", *asked, "--no-watch", "--json").stdout)
    tuning_id = begun["tuning_id"]

    # A lane's worker dies; what it did is done again, and the lane goes on.
    wait(cloud, tuning_id, lambda found: found["trials_begun"] >= 2)
    killed = 0
    while not killed:
        killed += kill_one(cloud, "train-shard")
    kill_one(cloud, "advance-tuning")

    # It stops between two jobs, and goes on where it was.
    wait(cloud, tuning_id, lambda found: found["done"][0] >= 1)
    assert cloud.http("POST", f"/tunings/{tuning_id}/stop").status == 200
    stopped = wait(cloud, tuning_id, lambda found: found["status"] == "stopped")
    assert 1 <= stopped["done"][0] < 6 and stopped["winner"] is None
    page = tmp_path / "report.html"
    shown = cloud.shoal("tune", "--resume", tuning_id, "--report", str(page)).stdout
    assert f"search {tuning_id}, dataset searched" in shown and "rungs 6/6" in shown and "cost $0.00" in shown
    assert "all 6 trials are done" in shown and "only the winner is evaluated on the test split" in shown

    found = cloud.get(f"/tunings/{tuning_id}")
    assert found["status"] == "succeeded" and found["attempt"] == 2
    assert (found["rungs"], found["trials_failed"]) == ([6, 3], 0)
    assert all(trial["results"] and trial["cost_usd"] > 0 for trial in found["trials"])
    assert page.read_text().count("<polyline") == 6
    winner = found["winner"]
    assert winner["model"] == {"name": "searched", "version": 2} and winner["metrics"]["accuracy"] > 0.8
    versions = cloud.get("/models/searched")
    assert versions["aliases"]["production"] == 2  # better than one epoch
    row = {
        "instances": [{"bill_length_mm": 39.1, "bill_depth_mm": 18.7, "flipper_length_mm": 181, "body_mass_g": 3750}]
    }
    answer = cloud.http("POST", "/models/searched/predict", json.dumps(row).encode(), "application/json").body
    assert answer["predictions"][0]["label"] == "Adelie" and answer["version"] == 2

    # Undisturbed, and by one lane, the first of these trials come to the same.
    asked = ("--trials", "3", "--lanes", "1", *asked[4:])
    alone = json.loads(cloud.shoal("tune", "searched", *asked, "--json").stdout)
    for before, after in zip(found["trials"], alone["trials"], strict=False):
        assert before["values"] == after["values"] and before["results"][0] == after["results"][0]
        assert before["curve"][0] == after["curve"][0]


def test_a_trial_whose_worker_dies_every_time_has_failed_and_the_rest_goes_on(cloud: LocalCloud) -> None:
    cloud.put("datasets/doomed-trial/dataset.yaml", b"target: species\nrounds: 1\ntraining: {epochs: 1}\n")
    cloud.put("datasets/doomed-trial/penguins.csv", PENGUINS)
    cloud.succeeded("doomed-trial")
    space = {"recipe": "linear", "training.batch_size": {"choice": [16, 32]}, "training.epochs": 1, "rounds": 1}
    asked = json.dumps({"space": space, "trials": 2, "lanes": 1, "rungs": 1}).encode()
    answer = cloud.http("POST", "/datasets/doomed-trial/tunings", asked, "application/json")
    assert answer.status == 202, answer

    def failed(found: dict[str, Any]) -> bool:
        over = bool(found["trials_failed"])
        if not over and found["trials_begun"]:
            kill_one(cloud, "train-shard")
        return over

    wait(cloud, answer.body["tuning_id"], failed)
    found = wait(cloud, answer.body["tuning_id"], lambda found: found["status"] != "running")
    assert found["status"] == "succeeded" and found["winner"]["trial"] == 1
    failure = found["trials"][0]["failure"]
    assert failure["error"] == "Runtime.ExitError" and failure["fix"]
