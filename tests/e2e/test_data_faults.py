"""The data path when workers die and work is done twice: the same manifest, byte for byte."""

from __future__ import annotations

import json
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from tests.e2e.cloud import LocalCloud
from tests.e2e.shards import artifacts_bucket, read_manifest

SETTINGS = b"rounds: 1\nworkers: 2\ntraining: {epochs: 1}\n"
PATH = ["plan-shards", "write-shard", "assign-samples", "pack-shard", "commit-dataset"]


def push(cloud: LocalCloud, name: str, archive: bytes) -> dict[str, str]:
    cloud.put(f"datasets/{name}/dataset.yaml", SETTINGS)
    cloud.put(f"datasets/{name}/digits.zip", archive)
    return {"dataset": name, "version": cloud.succeeded(name)["version"]}


def manifest_of(cloud: LocalCloud, run: dict[str, str]) -> bytes:
    """The manifest's bytes without the data set's name, the one thing in which it may differ."""
    name = run["dataset"].encode()
    return read_manifest(cloud, **run).replace(b'"' + name + b'"', b'""').replace(b"datasets/" + name, b"datasets")


@pytest.fixture(scope="module")
def undisturbed(cloud: LocalCloud, few_digits: bytes) -> bytes:
    return manifest_of(cloud, push(cloud, "data-reference", few_digits))


class Killer(threading.Thread):
    """Kills the first worker of a function that wasn't there before: it is starting or at work."""

    def __init__(self, cloud: LocalCloud, function: str) -> None:
        super().__init__(daemon=True)
        self._cloud, self._function = cloud, function
        for worker in cloud.workers(function):
            worker.kill()  # idle ones, so that the work needs a new one
        psutil.wait_procs(cloud.workers(function), 5)
        self._over = threading.Event()
        self.killed = False

    def run(self) -> None:
        while not (self.killed or self._over.is_set()):
            for worker in self._cloud.workers(self._function):
                worker.kill()
                self.killed = True
            time.sleep(0.002)

    def stop(self) -> None:
        self._over.set()
        self.join()


@pytest.mark.parametrize("function", PATH)
def test_a_killed_worker_changes_no_byte(
    function: str, cloud: LocalCloud, few_digits: bytes, undisturbed: bytes
) -> None:
    killer = Killer(cloud, function)
    killer.start()
    run = push(cloud, f"data-killed-{function}", few_digits)
    killer.stop()
    assert killer.killed
    assert manifest_of(cloud, run) == undisturbed


def test_work_that_is_done_again_and_at_once_changes_no_byte(
    cloud: LocalCloud, few_digits: bytes, undisturbed: bytes
) -> None:
    run = push(cloud, "data-again", few_digits)
    s3, bucket = cloud.client("s3"), artifacts_bucket(cloud)
    prefix = f"datasets/data-again/{run['version']}/"

    def objects() -> dict[str, str]:
        return {entry["Key"]: entry["ETag"] for entry in s3.list_objects_v2(Bucket=bucket, Prefix=prefix)["Contents"]}

    before = objects()
    # Without its index a stage does its work anew; the manifest is the last one.
    for key in before:
        if key.endswith(".json") and "request" not in key and "plan" not in key:
            s3.delete_object(Bucket=bucket, Key=key)
    state = {**run, "run_id": cloud.runs("data-again")[0]["run_id"]}
    functions = cloud.client("lambda")

    def invoke(function: str, event: dict[str, object]) -> None:
        name = f"{cloud.status['stack']}-{function}"
        answer = functions.invoke(FunctionName=name, Payload=json.dumps(event).encode())
        assert "FunctionError" not in answer, answer["Payload"].read()

    with ThreadPoolExecutor(2) as pool:
        for function, events in (
            ("plan-shards", [state]),
            ("write-shard", [{**state, "item": item} for item in range(_count(before, r"/pieces/piece-\d+\.json"))]),
            ("assign-samples", [state]),
            (
                "pack-shard",
                [
                    {**state, "first": shard, "last": shard + 1}
                    for shard in range(_count(before, r"/packs/pack-\d+\.json"))
                ],
            ),
            ("commit-dataset", [state]),
        ):
            list(pool.map(invoke, [function] * len(events) * 2, events * 2))
    assert objects() == before
    assert manifest_of(cloud, run) == undisturbed


def _count(objects: dict[str, str], pattern: str) -> int:
    """Indexes of one kind."""
    return sum(re.search(f"{pattern}$", key) is not None for key in objects)
