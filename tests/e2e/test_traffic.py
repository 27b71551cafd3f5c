"""Versions that share the traffic of one model: what waits, what grows, what is taken back, while requests come in."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import onnx
import pytest
import requests
from onnx import TensorProto, helper, numpy_helper

from tests.e2e.cloud import LocalCloud
from tests.e2e.conftest import PENGUINS

ROW = {"island": "Dream", "bill_length_mm": 50, "bill_depth_mm": 18, "flipper_length_mm": 200, "body_mass_g": 4000}
GOOD = "target: species\nrounds: 2\ntraining: {epochs: 4}\ncard: {owner: birders, intended_use: Tests.}\n"
WORSE = "target: species\nrounds: 1\ntraining: {epochs: 1, learning_rate: 0.000001}\n"
THIRD = "target: species\nrounds: 2\ntraining: {epochs: 3}\npromote: {mode: never}\n"
PATIENCE = 60.0
# A worker asks the catalog for the aliases again after two seconds (docs/lifecycle.md).
ALIASES_KNOWN_SECONDS = 2.5
MODEL = "waders"


@pytest.fixture(scope="module")
def waders(cloud: LocalCloud) -> LocalCloud:
    """Version 1 serves; 2 is worse; 3 was told to wait."""
    for version, config in enumerate((GOOD, WORSE, THIRD), 1):
        cloud.put(f"datasets/{MODEL}/dataset.yaml", config.encode())
        if version == 1:
            # Only now: by itself the table would start a run of its own, whose version would come in between.
            cloud.put(f"datasets/{MODEL}/penguins.csv", PENGUINS)
        cloud.wait(lambda run, version=version: (run["model"] or {}).get("version") == version, MODEL)
    return cloud


class Clients:
    """Clients that ask without a pause; what they were answered."""

    def __init__(self, cloud: LocalCloud, count: int) -> None:
        self._url = f"{cloud.status['api']}/models/{MODEL}/predict"
        self._headers = {"Authorization": f"Bearer {cloud.status['token']}"}
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=[number]) for number in range(count)]
        self.answers: list[tuple[int, int | None]] = []

    def _ask(self, number: int) -> None:
        with requests.Session() as session:
            asked = 0
            while not self._over.is_set():
                asked += 1
                headers = {**self._headers, "Shoal-Key": f"{number}/{asked}"}
                answer = session.post(self._url, json={"instances": [ROW]}, headers=headers, timeout=60)
                self.answers.append((answer.status_code, answer.json().get("version")))

    @contextmanager
    def asking(self) -> Iterator[Clients]:
        for thread in self._threads:
            thread.start()
        try:
            yield self
        finally:
            self._over.set()
            for thread in self._threads:
                thread.join()


def traffic(cloud: LocalCloud) -> dict[str, Any]:
    return dict(cloud.get(f"/models/{MODEL}/traffic"))


def until(condition: Any) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def audited(cloud: LocalCloud, action: str) -> list[dict[str, Any]]:
    return [
        entry for entry in cloud.get("/audit")["entries"] if entry["action"] == action and MODEL in entry["subject"]
    ]


def test_a_worse_version_waits_and_says_what_it_was_measured_against(waders: LocalCloud) -> None:
    model = waders.get(f"/models/{MODEL}")
    third, second, first = model["versions"]
    assert (model["aliases"]["production"], model["aliases"]["candidate"]) == (1, 3)
    assert first["promotion"] == {"decision": "production", "reason": "it is the first version"}
    assert (first["owner"], third["promotion"]["reason"]) == ("birders", "promote.mode is never")
    told = second["promotion"]
    assert (told["decision"], told["champion"], told["metric"]) == ("candidate", 1, "accuracy")
    assert told["champion_value"] > told["challenger_value"]
    assert told["worse"] - told["better"] == round(
        (told["champion_value"] - told["challenger_value"]) * told["samples"]
    )
    # The champion's score on the challenger's test split is what it had on its own: same seed, same data, same split.
    assert told["champion_value"] == pytest.approx(first["metrics"]["accuracy"])
    assert told["samples"] == first["metrics"]["samples"]
    assert told["error_gain_interval"][1] < 0 and told["p_value"] < 0.05
    page = waders.shoal("card", f"{MODEL}@2").stdout
    assert "not better at all" in page and second["digest"] in page


def test_a_switch_under_load_loses_no_request(waders: LocalCloud) -> None:
    with Clients(waders, 2).asking() as clients:
        moved = json.loads(waders.shoal("alias", "set", MODEL, "production", "3", "--json").stdout)
        until(lambda: [version for _, version in clients.answers[-20:]] == [3] * 20)
        waders.shoal("rollback", MODEL)
        until(lambda: [version for _, version in clients.answers[-20:]] == [1] * 20)
    assert (moved["before"], moved["version"]) == (1, 3)
    assert {status for status, _ in clients.answers} == {200}
    assert [entry["details"] for entry in audited(waders, "alias.moved")][-2:] == [
        {"before": 1, "version": 3},
        {"before": 3, "version": 1},
    ]


def test_a_version_that_isnt_there_is_refused(waders: LocalCloud) -> None:
    answer = waders.shoal("rollback", MODEL, "--to", "9", check=False)
    assert answer.returncode == 2
    assert f"'{MODEL}' has no version 9" in answer.stderr
    for what in ("canary", "shadow"):
        assert waders.http("POST", f"/models/{MODEL}/{what}", b'{"version": 9}', "application/json").status == 404


def test_a_key_meets_one_version_of_a_split(waders: LocalCloud) -> None:
    shown = json.loads(waders.shoal("ab", MODEL, "1", "3", "--weights", "50,50", "--json").stdout)
    assert {entry["version"]: entry["percent"] for entry in shown["shares"]} == {1: 50, 3: 50}
    with requests.Session() as session:

        def asked(key: str) -> int:
            headers = {"Authorization": f"Bearer {waders.status['token']}", "Shoal-Key": key}
            url = f"{waders.status['api']}/models/{MODEL}/predict"
            return int(session.post(url, json=ROW, headers=headers, timeout=60).json()["version"])

        def every_key_meets_one() -> bool:
            # For two seconds a worker may still know the aliases from before; after that, nothing but the key counts.
            met = {key: {asked(key) for _ in range(4)} for key in map(str, range(12))}
            return all(len(versions) == 1 for versions in met.values()) and set().union(*met.values()) == {1, 3}

        until(every_key_meets_one)
    waders.shoal("ab", MODEL, "--stop")
    time.sleep(ALIASES_KNOWN_SECONDS)


def test_a_shadow_is_compared_and_never_returned(waders: LocalCloud) -> None:
    waders.shoal("shadow", MODEL, "3")
    with Clients(waders, 1).asking() as clients:
        until(lambda: (traffic(waders)["measured"].get("shadow") or {}).get("requests", 0) >= 5)
    seen = traffic(waders)["measured"]["shadow"]
    waders.shoal("shadow", MODEL, "--stop")
    assert {version for _, version in clients.answers} == {1}
    assert (seen["errors"], seen["agreement"]) == (0, 1.0)
    assert seen["mean_ms"] > 0 and seen["production_mean_ms"] > 0


def test_a_canary_takes_over_step_by_step(waders: LocalCloud) -> None:
    waders.shoal(
        "canary", MODEL, "3", "--steps", "20,60,100", "--every", "1s", "--min-requests", "5", "--max-slowdown", "100"
    )
    function = f"{waders.status['stack']}-advance-canary"
    shares = []
    with Clients(waders, 2).asking() as clients:

        def advanced() -> bool:
            waders.client("lambda").invoke(FunctionName=function, Payload=b'{"step": "due"}')
            state = traffic(waders)
            shares.append((state["canary"] or {}).get("percent"))
            return state["production"] == 3

        until(advanced)
        until(lambda: [version for _, version in clients.answers[-10:]] == [3] * 10)
    assert {status for status, _ in clients.answers} == {200}
    assert {60, None} <= set(shares) <= {20, 60, None}
    assert [entry["details"]["percent"] for entry in audited(waders, "canary.advanced")] == [60]
    assert len(audited(waders, "canary.finished")) == 1
    waders.shoal("rollback", MODEL)


def broken(model: bytes) -> bytes:
    """The model, but it fails at run time on every row that isn't all zeros, as a warm-up's is."""
    graph = onnx.load_from_string(model)
    out = graph.graph.output[0].name
    inner = f"{out}_inner"
    for node in graph.graph.node:
        node.output[:] = [inner if name == out else name for name in node.output]
    graph.graph.initializer.append(numpy_helper.from_array(np.ones(1, np.float32), "one_place"))
    graph.graph.node.extend(
        [
            helper.make_node("IsNaN", ["numbers"], ["nan"]),
            helper.make_node("Where", ["nan", "one_place", "numbers"], ["numbers_known"]),
            helper.make_node("ReduceMax", ["numbers_known"], ["largest"], keepdims=0),
            helper.make_node("Cast", ["largest"], ["place"], to=TensorProto.INT64),
            helper.make_node("Gather", ["one_place", "place"], ["gathered"]),
            helper.make_node("Mul", [inner, "gathered"], [out]),
        ]
    )
    onnx.checker.check_model(graph)
    return graph.SerializeToString()


def test_a_broken_canary_takes_itself_back_and_costs_no_request(waders: LocalCloud) -> None:
    s3, bucket = waders.client("s3"), waders.status["artifacts_bucket"]
    source = s3.get_object(Bucket=bucket, Key=f"models/{MODEL}/2/model.onnx")["Body"].read()
    s3.put_object(Bucket=bucket, Key=f"models/{MODEL}/2/model.onnx", Body=broken(source))
    with Clients(waders, 2).asking() as clients:
        waders.shoal("canary", MODEL, "2", "--steps", "30,100", "--every", "1h")
        # Nobody looks: the alarm does. (The schedule would, too, within its minute.)
        until(lambda: traffic(waders)["canary"] is None)
    assert {status for status, _ in clients.answers} == {200}
    assert 2 not in {version for _, version in clients.answers}
    (entry,) = audited(waders, "canary.rolled_back")
    assert entry["details"]["version"] == 2
    assert "failed; 1.00% are allowed" in entry["details"]["reason"]
    assert waders.client("cloudwatch").describe_alarms()["MetricAlarms"][0]["StateValue"] in ("ALARM", "OK")
