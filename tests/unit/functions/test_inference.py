"""The Open Inference Protocol through the handler: what the model answers, as `predict` answers it."""

from __future__ import annotations

import base64
import gzip
import json
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper
from PIL import Image

from shoal_core.aws.inference_routes import predictions_response
from shoal_core.errors import BadRequest
from shoal_core.serving.inference import infer
from shoal_core.serving.sessions import ServedModel, session_of
from tests.support.aws import ROOT, invoke
from tests.support.pipeline import http_event
from tests.unit.functions.conftest import Trained
from tests.unit.serving.pipelines.models import TENSORS, model

HELD_OUT = sorted((ROOT / "examples/digits/held-out").glob("*.png"))
JSON = {"content-type": "application/json"}


def pixels() -> np.ndarray:
    return np.stack([np.asarray(Image.open(path).convert("L"))[np.newaxis] for path in HELD_OUT])


def call(method: str, path: str, body: str | None = None, **changes: Any) -> dict[str, Any]:
    return dict(invoke("predict", http_event(method, path, body, **changes)))


def tensor(array: np.ndarray, **changes: Any) -> dict[str, Any]:
    return {"name": "image", "datatype": "UINT8", "shape": list(array.shape), **changes}


def test_the_server_tells_of_itself(trained: Trained) -> None:
    assert json.loads(call("GET", "/v2")["body"])["extensions"] == ["binary_tensor_data"]
    assert json.loads(call("GET", "/v2/health/live")["body"]) == {"live": True}
    assert json.loads(call("GET", "/v2/health/ready")["body"]) == {"ready": True}


@pytest.mark.parametrize("path", ["/v2/models/digits", "/v2/models/digits/versions/1"])
def test_a_model_tells_its_tensors(path: str, trained: Trained) -> None:
    document = json.loads(call("GET", path)["body"])
    assert document["inputs"] == [{"name": "image", "datatype": "UINT8", "shape": [-1, 1, 8, 8]}]
    assert document["outputs"] == [{"name": "probabilities", "datatype": "FP32", "shape": [-1, 10]}]
    assert (document["name"], document["versions"]) == ("digits", ["1"])
    assert json.loads(call("GET", f"{path}/ready")["body"]) == {"name": "digits", "ready": True}


@pytest.mark.parametrize("path", ["/v2/models/digits/infer", "/v2/models/digits/versions/1/infer"])
def test_json_and_binary_answer_as_predict_does(path: str, trained: Trained) -> None:
    array = pixels()
    instances = [{"b64": base64.b64encode(image.read_bytes()).decode()} for image in HELD_OUT]
    answer = call("POST", "/models/digits/predict", json.dumps({"instances": instances}))
    labels = [int(entry["label"]) for entry in json.loads(answer["body"])["predictions"]]

    plain = call("POST", path, json.dumps({"inputs": [tensor(array, data=array.tolist())]}))
    assert plain["headers"]["Content-Type"] == "application/json"
    (output,) = json.loads(plain["body"])["outputs"]
    from_json = np.array(output["data"], np.float32).reshape(output["shape"])
    assert from_json.argmax(axis=1).tolist() == labels

    head = json.dumps(
        {
            "id": "a",
            "parameters": {"binary_data_output": True},
            "inputs": [tensor(array, parameters={"binary_data_size": array.nbytes})],
        }
    ).encode()
    body = base64.b64encode(head + array.tobytes()).decode()
    headers = {"content-type": "application/octet-stream", "inference-header-content-length": str(len(head))}
    binary = call("POST", path, body, isBase64Encoded=True, headers=headers)
    assert binary["isBase64Encoded"] is True
    length = int(binary["headers"]["inference-header-content-length"])
    data = base64.b64decode(binary["body"])
    assert json.loads(data[:length])["id"] == "a"
    np.testing.assert_array_equal(np.frombuffer(data[length:], "<f4").reshape(from_json.shape), from_json)


def test_a_compressed_body_is_unpacked(trained: Trained) -> None:
    array = pixels()[:1]
    body = gzip.compress(json.dumps({"inputs": [tensor(array, data=array.tolist())]}).encode())
    headers = {**JSON, "content-encoding": "gzip"}
    answer = call(
        "POST", "/v2/models/digits/infer", base64.b64encode(body).decode(), isBase64Encoded=True, headers=headers
    )
    assert answer["statusCode"] == 200


@pytest.mark.parametrize(
    ("path", "status", "reason"),
    [
        ("/v2/models/nobody", 404, "Model 'nobody' doesn't exist."),
        ("/v2/models/digits/versions/77", 404, "no version 77"),
        ("/v2/models/digits/versions/latest", 404, "no version 'latest'"),
        ("/v2/models/digits/versions/" + "9" * 40, 404, "no version"),
    ],
)
def test_what_isnt_there_is_told_as_the_protocol_tells_it(
    path: str, status: int, reason: str, trained: Trained
) -> None:
    answer = call("GET", path)
    problem = json.loads(answer["body"])
    assert (answer["statusCode"], problem["status"]) == (status, status)
    assert reason in problem["error"]
    assert problem["fix"] in problem["error"]


def test_a_wrong_tensor_is_named(trained: Trained) -> None:
    array = np.zeros((1, 1, 8, 9), np.uint8)
    answer = call("POST", "/v2/models/digits/infer", json.dumps({"inputs": [tensor(array, data=array.tolist())]}))
    assert answer["statusCode"] == 400
    assert "has shape [1, 1, 8, 9]; the model takes [-1, 1, 8, 8]" in json.loads(answer["body"])["error"]


def test_tensors_that_dont_go_together_are_the_requests_fault() -> None:
    shapes = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", name]) for name in "aby"]
    graph = model([helper.make_node("Add", ["a", "b"], ["y"])], shapes[:2], shapes[2:], {})
    served = ServedModel("add", 1, TENSORS, session_of(graph, 1769), len(graph))
    tensors = [
        {"name": name, "datatype": "FP32", "shape": [1, size], "data": [1] * size}
        for name, size in (("a", 2), ("b", 3))
    ]
    with pytest.raises(BadRequest, match="Model 'add' can't answer"):
        infer(served, json.dumps({"inputs": tensors}).encode(), None)


@pytest.mark.parametrize(
    ("prediction", "line"),
    [
        ({"label": "a", "probability": 0.5}, "a,0.5"),
        ({"label": None, "probability": None}, ","),
        ({"labels": ["a", "b"]}, "a,b"),
        ({"labels": []}, '""'),
        ({"value": 2.5}, "2.5"),
        ({"value": None}, '""'),
        ({"score": 0.5, "anomalous": True}, "0.5,true"),
        ({"score": None, "anomalous": False}, ",false"),
    ],
)
def test_each_prediction_is_a_line_of_csv(prediction: dict[str, Any], line: str) -> None:
    for accept in ("text/csv", "Text/CSV; charset=utf-8", "text/csv,application/json;q=0.5"):
        answer = predictions_response({"predictions": [prediction] * 2}, accept)
        assert (answer.content_type, answer.body) == ("text/csv; charset=utf-8", f"{line}\n" * 2)
    assert predictions_response({"predictions": []}, "application/json,text/csv").content_type == "application/json"
