"""Killed workers, repeated events, uploads at once, a cloud that dies: the same final bytes, and one run each."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.e2e.cloud import LocalCloud, local_cloud

SETTINGS = b"rounds: 4\nworkers: 2\ntraining: {epochs: 12}\n"
KEY = "datasets/digits/digits.zip"


@pytest.fixture(scope="module")
def undisturbed(cloud: LocalCloud, few_digits: bytes) -> str:
    """The digest that every disturbed run must reach; under another name the bytes are the same."""
    cloud.put("datasets/reference/dataset.yaml", SETTINGS)
    cloud.put("datasets/reference/digits.zip", few_digits)
    cloud.succeeded("reference")
    return cloud.digest("reference")


def kill_one(workers: list[psutil.Process]) -> bool:
    for worker in workers:
        try:
            worker.kill()
        except psutil.NoSuchProcess:
            continue
        return True
    return False


@pytest.mark.parametrize("function", ["write-shard", "pack-shard", "train-shard", "merge-round"])
def test_a_killed_worker_changes_nothing(function: str, cloud: LocalCloud, few_digits: bytes, undisturbed: str) -> None:
    name = f"killed-{function}"
    cloud.put(f"datasets/{name}/dataset.yaml", SETTINGS)
    cloud.put(f"datasets/{name}/digits.zip", few_digits)
    stage = function.replace("-", " ").title()
    cloud.wait(lambda run: run["stage"] == stage or run["status"] != "running", name)
    killed = kill_one(cloud.workers(function))
    cloud.succeeded(name)
    assert killed
    assert cloud.digest(name) == undisturbed
    assert len(cloud.runs(name)) == 1


def test_a_worker_that_dies_every_time_ends_the_run_with_its_error(cloud: LocalCloud, few_digits: bytes) -> None:
    cloud.put("datasets/doomed/dataset.yaml", SETTINGS)
    cloud.put("datasets/doomed/digits.zip", few_digits)
    cloud.wait(_stage_is("Train Shard"), "doomed")

    def over(run: dict[str, Any]) -> bool:
        kill_one(cloud.workers("train-shard"))
        return bool(run["status"] != "running")

    run = cloud.wait(over, "doomed")
    assert run["status"] == "failed"
    assert run["failure"]["error"] == "WorkersLost"
    assert "whatever was retried" in run["failure"]["reason"] and "Runtime.ExitError" in run["failure"]["reason"]
    assert "lost_workers: go_on" in run["failure"]["fix"]


def test_repeated_and_late_events_make_one_run(tmp_path: Path, few_digits: bytes, undisturbed: str) -> None:
    with local_cloud(tmp_path, "duplicate-s3-events=1;seed=1") as cloud:
        cloud.put("datasets/digits/dataset.yaml", SETTINGS)
        cloud.put(KEY, few_digits)
        cloud.succeeded("digits")
        assert len(cloud.runs("digits")) == 1
        assert cloud.digest("digits") == undisturbed


def test_uploads_at_once_make_one_run_each(cloud: LocalCloud, few_digits: bytes, undisturbed: str) -> None:
    names = ["together-1", "together-2"]
    for name in names:
        cloud.put(f"datasets/{name}/dataset.yaml", SETTINGS)
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda name: cloud.put(f"datasets/{name}/digits.zip", few_digits), names * 3))
    for name in names:
        cloud.succeeded(name)
        assert len(cloud.runs(name)) == 1
        assert cloud.digest(name) == undisturbed
    # Two chains of events wrote at once: each run is in the record once, and the record holds.
    entries = json.loads(cloud.shoal("audit", "--json").stdout)["entries"]
    begun = [entry for entry in entries if entry["action"] == "dataset.begun"]
    mine = [(entry["subject"].partition("/")[0], entry["who"], entry["source"]) for entry in begun]
    assert sorted(entry for entry in mine if entry[0] in names) == [(name, "AWS:user", "127.0.0.1") for name in names]
    assert "all whole" in cloud.shoal("audit", "--verify").stdout


def _stage_is(stage: str, least_round: int = 0) -> Any:
    return lambda run: run["stage"] == stage and run["progress"]["round"] >= least_round


@pytest.mark.parametrize(("stage", "round_"), [("Write Shard", 0), ("Train Shard", 1)])
def test_a_cloud_that_is_killed_goes_on_where_it_was(
    stage: str, round_: int, tmp_path: Path, few_digits: bytes, undisturbed: str
) -> None:
    cloud = LocalCloud(tmp_path).up()
    try:
        cloud.put("datasets/digits/dataset.yaml", SETTINGS)
        cloud.put(KEY, few_digits)
        cloud.wait(_stage_is(stage, round_), "digits")
        cloud.kill()
        time.sleep(0.5)
        cloud.up()
        (before,) = cloud.runs("digits")
        assert before["progress"]["round"] >= round_
        cloud.succeeded("digits")
        assert len(cloud.runs("digits")) == 1
        assert cloud.digest("digits") == undisturbed
        image = cloud.client("s3").get_object(Bucket=cloud.status["bucket"], Key=KEY)["Body"].read()
        assert image == few_digits
    finally:
        cloud.down()
