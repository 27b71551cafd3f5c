"""Runs by request that outgrow an execution's history: they go on in the next one, to the same bytes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import psutil
import pytest

from tests.e2e.cloud import LocalCloud, local_cloud
from tests.e2e.conftest import PENGUINS

# 1,000 events before the first round and 25 for each of two workers: four rounds an execution.
PARAMETERS = "HistoryEvents=1100"
SETTINGS = "target: species\nworkers: 2\nrounds: {}\ntraining: {{epochs: 10, patience: 0}}\n"
ROUNDS = 6


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory, cloud: LocalCloud) -> Iterator[LocalCloud]:
    """A cloud of short executions, with a dataset whose own run had one round; the whole run is in the other cloud."""
    cloud.put("datasets/whole/dataset.yaml", SETTINGS.format(ROUNDS).encode())
    cloud.put("datasets/whole/penguins.csv", PENGUINS)
    with local_cloud(tmp_path_factory.mktemp("short"), parameters=PARAMETERS) as running:
        running.put("datasets/birds/dataset.yaml", SETTINGS.format(1).encode())
        running.put("datasets/birds/penguins.csv", PENGUINS)
        running.succeeded("birds")
        yield running


def executions(cloud: LocalCloud, run_id: str) -> dict[str, str]:
    """Name without the run's id -> status."""
    machines = cloud.client("stepfunctions")
    (arn,) = [
        machine["stateMachineArn"]
        for machine in machines.list_state_machines()["stateMachines"]
        if machine["name"].endswith("-training")
    ]
    found = machines.list_executions(stateMachineArn=arn)["executions"]
    return {each["name"].removeprefix(run_id): each["status"] for each in found if each["name"].startswith(run_id)}


def test_a_run_by_request_goes_on_in_new_executions_to_the_same_bytes(short: LocalCloud, cloud: LocalCloud) -> None:
    answer = short.shoal("train", "birds", "--set", f"rounds={ROUNDS}", "--json")
    run = json.loads(answer.stdout)
    assert (run["status"], run["progress"]["round"], run["request"]) == (
        "succeeded",
        ROUNDS,
        {"overrides": {"rounds": ROUNDS}},
    )
    assert run["stages"][0]["name"] == "Start Training"
    assert executions(short, run["run_id"]) == {"": "SUCCEEDED", "-c2": "SUCCEEDED"}
    version = short.get("/models/birds")["versions"][0]
    assert version["run_id"] == run["run_id"]
    whole = cloud.succeeded("whole")
    assert executions(cloud, whole["run_id"]) == {"": "SUCCEEDED"}
    assert cloud.digest("whole") == version["digest"]


def test_a_run_takes_other_workers_from_its_next_round_on(short: LocalCloud) -> None:
    started = short.shoal("train", "birds", "--set", "rounds=16", "--set", "training.epochs=16", "--no-watch", "--json")
    run_id = json.loads(started.stdout)["run_id"]
    short.wait(lambda run: run["progress"]["round"] >= 2, "birds")
    changed = json.loads(short.shoal("workers", run_id, "1", "--json").stdout)
    assert changed == {"run_id": run_id, "before": 2, "workers": 1}
    short.wait(lambda run: run["status"] == "succeeded", "birds")
    workers = [each["workers"] for each in short.get(f"/runs/{run_id}")["rounds"]]
    # The round that ran when it was asked for keeps its own.
    assert len(workers) == 16 and workers == sorted(workers, reverse=True)
    assert workers[:2] == [2, 2] and workers[-4:] == [1] * 4
    refused = short.shoal("workers", run_id, "2", check=False)
    assert refused.returncode and "succeeded" in refused.stderr


def test_a_failure_in_a_later_execution_is_recorded(short: LocalCloud) -> None:
    short.shoal("train", "birds", "--set", "rounds=40", "--no-watch")

    def goes_on(run: dict[str, Any]) -> bool:
        return run["progress"]["rounds"] == 40 and run["progress"]["round"] > 4

    def over(run: dict[str, Any]) -> bool:
        for worker in short.workers("train-shard"):
            with suppress(psutil.NoSuchProcess):
                worker.kill()
        return bool(run["status"] != "running")

    short.wait(goes_on, "birds")
    run = short.wait(over, "birds")
    assert (run["status"], run["failure"]["error"]) == ("failed", "WorkersLost")
    ended = executions(short, run["run_id"])
    assert ended[""] == "SUCCEEDED" and len(ended) > 1
    assert sorted(ended.values())[0] == "FAILED"
