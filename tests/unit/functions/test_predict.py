"""Requests that can't be answered get a problem that names what is wrong and the fix; good ones get an answer."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from tests.support.aws import ROOT, invoke
from tests.support.pipeline import http_event
from tests.unit.functions.conftest import Trained

HELD_OUT = sorted((ROOT / "examples/digits/held-out").glob("*.png"))
PATH = "/models/digits/predict"


def predict(body: str | None, path: str = PATH, **changes: Any) -> tuple[int, dict[str, Any], dict[str, str]]:
    answer = invoke("predict", http_event("POST", path, body, **changes))
    return answer["statusCode"], json.loads(answer["body"]), answer["headers"]


def test_held_out_images_are_recognised_one_by_one_and_as_a_batch(trained: Trained) -> None:
    truth = [path.name[0] for path in HELD_OUT]
    single = [
        predict(
            base64.b64encode(path.read_bytes()).decode(), isBase64Encoded=True, headers={"content-type": "image/png"}
        )[1]["predictions"][0]
        for path in HELD_OUT
    ]
    instances = [{"b64": base64.b64encode(path.read_bytes()).decode()} for path in HELD_OUT]
    status, body, _ = predict(json.dumps({"instances": instances}))
    assert status == 200
    labels = [prediction["label"] for prediction in body["predictions"]]
    assert labels == [prediction["label"] for prediction in single]
    assert sum(label == expected for label, expected in zip(labels, truth, strict=True)) >= 0.95 * len(truth)


@pytest.mark.parametrize("shape", [lambda rows: rows, lambda rows: {"instances": rows}])
def test_a_bare_list_works_too(shape: Any, trained: Trained) -> None:
    instance = {"b64": base64.b64encode(HELD_OUT[0].read_bytes()).decode()}
    assert predict(json.dumps(shape([instance])))[0] == 200


@pytest.mark.parametrize(
    ("body", "changes", "status", "detail", "fix"),
    [
        ("{not json", {}, 400, "isn't valid JSON", "image/png"),
        ("[" * 100_000, {}, 400, "isn't valid JSON", "image/png"),
        ("9" * 5_000, {}, 400, "isn't valid JSON", "image/png"),
        (None, {}, 400, "no body", "image/png"),
        ("[]", {}, 400, "no instances", "image/png"),
        ('{"instances": {}}', {}, 400, "no instances", "image/png"),
        ("[1]", {}, 400, "Instance 1 is a number", "b64"),
        ("[null]", {}, 400, "Instance 1 is a null", "b64"),
        ('[{"a": 1}]', {}, 400, "Instance 1 isn't an image", "b64"),
        ('[{"b64": "%%%"}]', {}, 400, "Instance 1 isn't valid base64", "base64"),
        ('[{"b64": "aGVsbG8="}]', {}, 400, "Instance 1", "PNG"),
        ("aGVsbG8=", {"isBase64Encoded": True, "headers": {"content-type": "image/png"}}, 400, "image", "PNG"),
        (json.dumps([{}] * 1001), {}, 413, "1,001 instances", "several requests"),
    ],
)
def test_a_bad_request_says_what_and_why(
    body: str | None, changes: dict[str, Any], status: int, detail: str, fix: str, trained: Trained
) -> None:
    code, problem, headers = predict(body, **changes)
    assert code == status == problem["status"]
    assert headers["Content-Type"] == "application/problem+json"
    assert detail in problem["detail"]
    assert fix in problem["fix"]


def test_an_unknown_model_is_not_found(trained: Trained) -> None:
    code, problem, _ = predict("[]", "/models/nobody/predict")
    assert (code, problem["detail"]) == (404, "Model 'nobody' doesn't exist.")
    assert "GET /models" in problem["fix"]
