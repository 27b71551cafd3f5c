"""Users' own networks through the real handlers: asked about, refused, and begun."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import boto3
import pytest

from shoal_core.errors import ShoalError
from shoal_core.keys import NetworkKeys
from tests.support.aws import REGION, ROOT, invoke
from tests.support.pipeline import http_event
from tests.unit.functions.conftest import Trained
from tests.unit.training.own_networks import made
from tests.unit.training.own_networks.made import node

NETWORK = (ROOT / "examples/networks/digits.onnx").read_bytes()


@pytest.fixture(autouse=True)
def lambdas(monkeypatch: pytest.MonkeyPatch) -> None:
    """One function asks another, as Lambda tells it."""

    def asked(function: str, task: dict[str, Any]) -> dict[str, Any]:
        assert function == "check-network"
        try:
            return dict(json.loads(json.dumps(invoke("check_network", task))))
        except ShoalError as error:
            return {"errorType": type(error).__name__, "errorMessage": str(error)}
        except RuntimeError:
            return {"errorType": "Sandbox.Timedout", "errorMessage": "Task timed out"}

    monkeypatch.setattr("shoal_core.aws.networks.invoke", asked)


def call(method: str, path: str, body: Any = None) -> tuple[int, dict[str, Any]]:
    answer = invoke("api", http_event(method, path, None if body is None else json.dumps(body)))
    return answer["statusCode"], json.loads(answer["body"])


def upload(data: bytes) -> str:
    sha256 = hashlib.sha256(data).hexdigest()
    boto3.client("s3", region_name=REGION).put_object(Bucket="uploads", Key=NetworkKeys(sha256).upload, Body=data)
    return sha256


def test_what_a_network_is_given_is_told(trained: Trained) -> None:
    image = {"name": "image", "datatype": "FP32", "shape": [1, 8, 8], "meaning": "pixels, each channel standardised"}
    status, found = call("GET", "/datasets/digits/inputs")
    assert status == 200 and found["inputs"] == [image] and found["outputs"] == 10
    assert found["version"] == trained.run["version"] and found["classes"] == [str(digit) for digit in range(10)]
    assert call("GET", "/datasets/nobody/inputs")[0] == 404
    event = json.loads((ROOT / "events/check_network.json").read_text())
    assert invoke("check_network", event)["inputs"] == [image]


def test_a_network_that_can_be_trained_begins_a_run(trained: Trained) -> None:
    sha256 = upload(NETWORK)
    asked = {"network": sha256, "overrides": {"training": {"epochs": 1}, "network": {"batch_norm": "frozen"}}}
    status, started = call("POST", "/datasets/digits/runs", asked)
    assert status == 202 and started["dataset"] == "digits"
    run = {name: started[name] for name in ("run_id", "dataset", "version")}
    state = invoke("start_training", {**run, "committed": True})
    assert state["round"] == 1
    shown = call("GET", f"/runs/{run['run_id']}")[1]
    assert shown["settings"]["recipe"] == "network"
    assert (
        "BatchNormalization keeps the statistics of the file (2): as asked" in shown["settings"]["reasons"]["network"]
    )
    assert shown["request"]["network"] == sha256


@pytest.mark.parametrize(
    ("data", "status", "kind", "detail", "fix"),
    [
        (made.with_node([node("Hardmax", ["h"], "t")], classes=10), 400, "UnsupportedOperator", "", "Use only these"),
        (made.convolutional(10, side=16), 400, "BadNetwork", "[1, 16, 16]", "image_size"),
        (made.convolutional(7), 400, "BadNetwork", "answers 7 numbers", "10"),
        (b"no onnx", 400, "BadNetwork", "can't be read as ONNX", "shoal convert"),
    ],
    ids=["operator", "shape", "classes", "bytes"],
)
def test_a_refusal_is_told_with_its_fix_and_nothing_is_begun(
    data: bytes, status: int, kind: str, detail: str, fix: str, trained: Trained
) -> None:
    if kind == "UnsupportedOperator":
        flat = made.network(
            [node("Flatten", ["x"], "f"), node("Gemm", ["f", "w"], "h"), node("Hardmax", ["h"], "y")],
            {"w": made.drawn(64, 10)},
            {"x": (made.FLOAT, ["N", 1, 8, 8])},
            {"y": ["N", 10]},
        )
        data, detail = flat, "no gradient for Hardmax (node 'node_y')"
    before = call("GET", "/runs")[1]
    found, problem = call("POST", "/datasets/digits/runs", {"network": upload(data)})
    assert (found, problem["type"]) == (status, f"urn:shoal:error:{kind}")
    assert detail in problem["detail"] and fix in problem["fix"]
    assert call("GET", "/runs")[1] == before


def test_what_is_not_there_or_goes_wrong_is_told(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    status, problem = call("POST", "/datasets/digits/runs", {"network": "e" * 64})
    assert status == 400 and "There is no network at networks/eeee" in problem["detail"]
    assert call("POST", "/datasets/digits/runs", {"network": "short"})[0] == 400
    status, problem = call("POST", "/datasets/digits/runs", {"overrides": {"recipe": "network"}})
    assert status == 400 and "network.sha256" in problem["detail"]

    def timed_out(function: str, task: dict[str, Any]) -> dict[str, Any]:
        return {"errorType": "Sandbox.Timedout", "errorMessage": "Task timed out after 29.00 seconds"}

    monkeypatch.setattr("shoal_core.aws.networks.invoke", timed_out)
    status, problem = call("POST", "/datasets/digits/runs", {"network": "e" * 64})
    assert status == 500 and "couldn't be checked: Task timed out" in problem["detail"]
    assert "shoal logs check_network" in problem["fix"]
