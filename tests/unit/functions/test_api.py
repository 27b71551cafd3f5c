"""What the API says of itself, and of what isn't there."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from openapi_spec_validator import validate

from tests.support.aws import invoke
from tests.support.pipeline import http_event
from tests.unit.functions.conftest import Trained


def get(path: str, **changes: Any) -> tuple[int, dict[str, Any], dict[str, str]]:
    answer = invoke("api", http_event("GET", path, **changes))
    return answer["statusCode"], json.loads(answer["body"]), answer["headers"]


def test_the_openapi_document_is_valid_and_complete(trained: Trained) -> None:
    document = get("/openapi.json")[1]
    validate(document)
    assert set(document["paths"]) == {
        "/healthz",
        "/openapi.json",
        "/datasets",
        "/datasets/{name}",
        "/datasets/{name}/runs",
        "/datasets/{name}/inputs",
        "/datasets/{name}/quote",
        "/datasets/{name}/tunings",
        "/tunings",
        "/tunings/{tuning_id}",
        "/tunings/{tuning_id}/report.html",
        "/tunings/{tuning_id}/stop",
        "/tunings/{tuning_id}/resume",
        "/datasets/{name}/versions/{version}/report",
        "/datasets/{name}/versions/{version}/report.html",
        "/datasets/{name}/versions/{version}/quarantine",
        "/datasets/{name}/versions/{version}/quarantine/{item}/{sample}",
        "/runs",
        "/runs/{run_id}",
        "/runs/{run_id}/workers",
        "/batches",
        "/batches/{model}/{job}",
        "/batches/{model}/{job}/errors",
        "/models",
        "/models/{name}",
        "/models/{name}/predict",
        "/ping",
        "/invocations",
        "/endpoints/{name}/invocations",
        "/tokens",
        "/tokens/{token_id}",
        "/tokens/{token_id}/rotation",
        "/plans",
        "/plans/{name}",
        "/audit",
        "/audit/verification",
        "/streams/dead-letters",
        "/streams/dead-letters/replay",
        "/models/{name}/aliases/{alias}",
        "/models/{name}/canary",
        "/models/{name}/ab",
        "/models/{name}/shadow",
        "/models/{name}/traffic",
        "/models/{name}/versions/{version}/card",
        "/models/{name}/versions/{version}/card.html",
        "/models/{name}/versions/{version}/card.md",
        "/v2",
        "/v2/health/live",
        "/v2/health/ready",
        *(
            f"/v2/models/{{name}}{version}{action}"
            for version in ("", "/versions/{version}")
            for action in ("", "/ready", "/infer")
        ),
    }
    assert document["security"] == [{"token": []}]
    for path, operations in document["paths"].items():
        for operation in (value for method, value in operations.items() if method != "parameters"):
            is_open = path in ("/healthz", "/openapi.json")
            assert (operation.get("security") == []) == is_open
            assert ({"401", "403"} <= set(operation["responses"])) != is_open
            assert {"429", "500", "503"} <= set(operation["responses"])
            starts = path.endswith(("/runs", "/tunings", "/resume")) and "requestBody" in operation
            assert ("202" if starts else "200") in operation["responses"]
            assert ("415" in operation["responses"]) == ("requestBody" in operation)


@pytest.mark.parametrize(
    ("body", "content_type", "status", "detail"),
    [
        ("[" * 100_000, "application/json", 400, "isn't valid JSON"),
        ("9" * 5_000, "application/json", 400, "isn't valid JSON"),
        ("{", "application/json; charset=utf-8", 400, "isn't valid JSON"),
        ('{"name": "x"}', "application/json", 400, "Parameter body.scopes"),
        ("a=b", "application/x-www-form-urlencoded", 415, "x-www-form-urlencoded"),
        ("a=b", "multipart/form-data", 415, "multipart/form-data"),
    ],
)
def test_a_body_that_cant_be_read_is_a_problem(
    body: str, content_type: str, status: int, detail: str, trained: Trained
) -> None:
    answer = invoke("api", http_event("POST", "/tokens", body, headers={"content-type": content_type}))
    problem = json.loads(answer["body"])
    assert answer["statusCode"] == status == problem["status"]
    assert answer["headers"]["Content-Type"] == "application/problem+json"
    assert detail in problem["detail"]
    assert problem["fix"]


def test_a_body_that_isnt_text_is_a_problem(trained: Trained) -> None:
    body = base64.b64encode(b'{"name": "\xff"}').decode()
    answer = invoke("api", http_event("POST", "/tokens", body, isBase64Encoded=True))
    assert answer["statusCode"] == 400
    assert "isn't UTF-8: byte 10" in json.loads(answer["body"])["detail"]


@pytest.mark.parametrize(
    ("path", "detail"),
    [
        ("/datasets/nobody", "Dataset 'nobody' doesn't exist."),
        ("/datasets/digits/versions/none/report", "Dataset 'digits' has no report for version 'none'."),
        ("/runs/none", "Run 'none' doesn't exist."),
        ("/models/nobody", "Model 'nobody' doesn't exist."),
        ("/nowhere", "GET /nowhere isn't part of the API."),
    ],
)
def test_what_isnt_there_is_a_problem_with_a_fix(path: str, detail: str, trained: Trained) -> None:
    status, problem, headers = get(path)
    assert (status, problem["detail"]) == (404, detail)
    assert problem["fix"]
    assert headers["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize("limit", ["0", "1001", "many"])
def test_a_bad_parameter_is_named(limit: str, trained: Trained) -> None:
    status, problem, _ = get("/runs", queryStringParameters={"limit": limit})
    assert status == 400
    assert "limit" in problem["detail"]


def test_a_model_tells_what_it_takes_and_where_it_answers(trained: Trained) -> None:
    model = get("/models/digits")[1]
    assert model["aliases"] == {"production": 1}
    assert model["inputs"].items() >= {"height": 8, "width": 8, "channels": 1}.items()
    assert model["classes"] == list("0123456789")
    assert model["endpoint"] == "http://127.0.0.1:8081/models/digits/predict"
    (version,) = model["versions"]
    assert len(version["digest"]) == 64
    assert version["metrics"]["baseline"]["metrics"]["accuracy"] < 0.2 < version["metrics"]["accuracy"]


def test_lists_show_datasets_runs_and_models(trained: Trained) -> None:
    (dataset,) = get("/datasets")[1]["datasets"]
    assert (dataset["name"], dataset["status"]) == ("digits", "ready")
    assert sum(dataset["samples"].values()) == 1767
    (run,) = get("/runs", queryStringParameters={"dataset": "digits"})[1]["runs"]
    assert run["rounds"] == []
    assert run["metrics"]["accuracy"] > 0.9
    assert "per_class" not in run["metrics"]
    assert "per_class" in get(f"/runs/{run['run_id']}")[1]["metrics"]
    assert get("/runs", queryStringParameters={"dataset": "other"})[1]["runs"] == []
    (model,) = get("/models")[1]["models"]
    assert (model["name"], model["production"], model["versions"]) == ("digits", 1, 1)
