"""Killed workers, repeated events, uploads at once, a cloud that dies: the same final bytes, and one run each."""

from __future__ import annotations

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
