"""Which version serves, changed while requests come in."""

from __future__ import annotations

import json
import threading
import time

import pytest

from tests.e2e.cloud import LocalCloud
from tests.e2e.conftest import PENGUINS

ROW = json.dumps(
    {"island": "Dream", "bill_length_mm": 50, "bill_depth_mm": 18, "flipper_length_mm": 200, "body_mass_g": 4000}
).encode()
CONFIG = "target: species\nrounds: 2\nseed: {seed}\ntraining: {{epochs: 2}}\n"
PATIENCE = 30.0


@pytest.fixture(scope="module")
def two_versions(cloud: LocalCloud) -> LocalCloud:
    for version in (1, 2):
        cloud.put("datasets/birds/dataset.yaml", CONFIG.format(seed=version).encode())
        if version == 1:
            cloud.put("datasets/birds/penguins.csv", PENGUINS)
        cloud.wait(lambda run, version=version: (run["model"] or {}).get("version") == version, "birds")
    return cloud


def served(cloud: LocalCloud) -> int:
    answer = cloud.http("POST", "/models/birds/predict", ROW, "application/json")
    assert answer.status == 200, answer
    return int(answer.body["version"])


def until(cloud: LocalCloud, version: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while served(cloud) != version:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_rollback_reaches_every_request_and_none_fails(two_versions: LocalCloud) -> None:
    until(two_versions, 2)
    statuses: list[int] = []
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            statuses.append(two_versions.http("POST", "/models/birds/predict", ROW, "application/json").status)

    clients = [threading.Thread(target=ask) for _ in range(2)]
    for client in clients:
        client.start()
    try:
        moved = json.loads(two_versions.shoal("rollback", "birds", "--to", "1", "--json").stdout)
        until(two_versions, 1)
        back = json.loads(two_versions.shoal("rollback", "birds", "--json").stdout)
        until(two_versions, 2)
    finally:
        over.set()
        for client in clients:
            client.join()
    assert (moved["before"], moved["version"]) == (2, 1)
    assert (back["before"], back["version"]) == (1, 2)
    assert set(statuses) == {200}
    moves = [entry for entry in two_versions.get("/audit")["entries"] if entry["action"] == "alias.moved"]
    assert [entry["details"] for entry in moves] == [{"before": 2, "version": 1}, {"before": 1, "version": 2}]


def test_a_version_that_isnt_there_is_refused(two_versions: LocalCloud) -> None:
    answer = two_versions.shoal("rollback", "birds", "--to", "9", check=False)
    assert answer.returncode == 2
    assert "'birds' has no version 9" in answer.stderr
