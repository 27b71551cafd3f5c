"""A user's own network: checked before a run, trained in the same workers, served as a recipe's is."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.e2e.cloud import LocalCloud
from tests.support.aws import ROOT

NETWORK = ROOT / "examples/networks/digits.onnx"
CONFIG = b"recipe: linear\nrounds: 1\nworkers: 1\ntraining:\n  epochs: 2\n"


@pytest.fixture(scope="module")
def dataset(cloud: LocalCloud, few_digits: bytes) -> str:
    """Digits whose first model is a quick and bad one."""
    cloud.put("datasets/own-digits/dataset.yaml", CONFIG)
    cloud.put("datasets/own-digits/digits.zip", few_digits)
    cloud.succeeded("own-digits")
    return "own-digits"


def layers(path: Path, middle: str, side: int = 8, classes: int = 10) -> Path:
    """images -> flat -> `middle` -> logits."""
    weight = np.random.default_rng(0).normal(size=(side * side, classes)).astype(np.float32)
    nodes = [
        helper.make_node("Flatten", ["image"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weight"], ["sum"], name="dense"),
        helper.make_node(middle, ["sum"], ["logits"], name="odd"),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 1, side, side])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", classes])],
        [numpy_helper.from_array(weight, "weight")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    path.write_bytes(model.SerializeToString())
    return path


def test_an_exported_network_is_trained_and_served(cloud: LocalCloud, dataset: str) -> None:
    inputs = json.loads(cloud.shoal("inputs", dataset, "--json").stdout)
    assert inputs["inputs"] == [
        {"name": "image", "datatype": "FP32", "shape": [1, 8, 8], "meaning": "pixels, each channel standardised"}
    ]
    assert inputs["outputs"] == 10 and inputs["classes"][3] == "3"
    answer = cloud.shoal(
        *("train", dataset, "--network", str(NETWORK), "--workers", "2", "--json"),
        *("--set", "training.epochs=8", "--set", "rounds=2"),
    )
    run = json.loads(answer.stdout)
    assert run["status"] == "succeeded", run
    settings = run["settings"]
    assert settings["recipe"] == "network" and len(settings["network"]["sha256"]) == 64
    assert "BatchNormalization trains on the batch's own statistics (2)" in settings["reasons"]["network"]
    assert run["metrics"]["accuracy"] > 0.85
    image = next((ROOT / "examples/digits/held-out").glob("3-*.png")).read_bytes()
    predicted = cloud.http("POST", f"/models/{dataset}/predict", image, "image/png").body
    assert predicted["version"] == 2 and predicted["predictions"][0]["label"] == "3"
    again = json.loads(
        cloud.shoal(
            *("train", dataset, "--network", str(NETWORK), "--workers", "2", "--json", "--no-watch"),
            *("--set", "training.epochs=8", "--set", "rounds=2"),
        ).stdout
    )
    assert again["unchanged"] and again["run_id"] == run["run_id"]


def test_what_cannot_be_trained_is_refused_before_a_run(cloud: LocalCloud, dataset: str, tmp_path: Path) -> None:
    before = len(cloud.get("/runs")["runs"])
    refusals = [
        (layers(tmp_path / "operator.onnx", "Hardmax"), "no gradient for Hardmax (node 'odd')", "Conv, ConvTranspose"),
        (layers(tmp_path / "shape.onnx", "Relu", side=16), "[1, 16, 16]; this dataset's are image FP32", "image_size"),
        (layers(tmp_path / "classes.onnx", "Relu", classes=7), "answers 7 numbers", "has 10 classes"),
    ]  # fmt: skip
    huge = tmp_path / "huge.onnx"
    with huge.open("wb") as file:
        file.truncate(2 * 1024**3)
    refusals.append((huge, "huge.onnx has 2,147,483,648 bytes", "134,217,728"))
    for path, named, more in refusals:
        refused = cloud.shoal("train", dataset, "--network", str(path), check=False)
        said = " ".join(refused.stderr.split())
        assert refused.returncode == 2 and named in said and more in said, said
    unknown = {"network": "f" * 64}
    answer = cloud.http("POST", f"/datasets/{dataset}/runs", json.dumps(unknown).encode(), "application/json")
    assert answer.status == 400 and "There is no network at networks/ffff" in answer.body["detail"]
    assert len(cloud.get("/runs")["runs"]) == before
