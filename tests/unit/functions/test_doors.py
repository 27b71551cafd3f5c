"""The same predict function behind a load balancer, a Function URL and SageMaker's paths; events as AWS shows them.

Sources: https://docs.aws.amazon.com/elasticloadbalancing/latest/application/lambda-functions.html,
https://docs.aws.amazon.com/lambda/latest/dg/urls-invocation.html
"""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
import urllib3

from shoal_core.serving.protocol import HEADER_LENGTH
from tests.support.aws import ROOT, invoke
from tests.support.pipeline import http_event
from tests.unit.functions.conftest import Trained
from tests.unit.functions.test_access import make

IMAGE = sorted((ROOT / "examples/digits/held-out").glob("3*.png"))[0].read_bytes()
ENCODED = base64.b64encode(IMAGE).decode()


def load_balancer(method: str, path: str, body: str = "", many: bool = False, **headers: str) -> dict[str, Any]:
    given = {
        "accept": "*/*",
        "accept-encoding": "gzip",
        "connection": "keep-alive",
        "host": "lambda-alb-123578498.us-east-1.elb.amazonaws.com",
        "user-agent": "curl/8.5.0",
        "x-amzn-trace-id": "Root=1-5c536348-3d683b8b04734faae651f476",
        "x-forwarded-for": "72.12.164.125",
        "x-forwarded-port": "80",
        "x-forwarded-proto": "http",
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    arn = "arn:aws:elasticloadbalancing:us-east-1:123456789012:targetgroup/lambda-279XGJDqGZ5rsrHC2Fjr/49e9d65c45c6791a"
    path, _, query = path.partition("?")
    pairs = [part.split("=") for part in query.split("&") if part]
    event = {
        "requestContext": {"elb": {"targetGroupArn": arn}},
        "httpMethod": method,
        "path": path,
        "body": body,
        "isBase64Encoded": bool(body) and not given.get("content-type", "").startswith(("text/", "application/json")),
    }
    if many:
        values = {name: [value for key, value in pairs if key == name] for name, _ in pairs}
        return event | {
            "multiValueHeaders": {name: [value] for name, value in given.items()},
            "multiValueQueryStringParameters": values,
        }
    return event | {"headers": given, "queryStringParameters": dict(pairs)}


def function_url(
    method: str, path: str, body: str, authorizer: dict[str, Any] | None, **headers: str
) -> dict[str, Any]:
    domain = "r3pmxmplak.lambda-url.us-east-2.on.aws"
    return {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": "",
        "cookies": ["cookie1", "cookie2"],
        "headers": {
            "host": domain,
            "x-forwarded-proto": "https",
            "x-amz-date": "20261121T080000Z",
            **{name.replace("_", "-"): value for name, value in headers.items()},
        },
        "requestContext": {
            "accountId": "123456789012",
            "apiId": "r3pmxmplak",
            "authentication": None,
            "authorizer": authorizer,
            "domainName": domain,
            "domainPrefix": "r3pmxmplak",
            "http": {
                "method": method,
                "path": path,
                "protocol": "HTTP/1.1",
                "sourceIp": "123.123.123.123",
                "userAgent": "agent",
            },
            "requestId": "e1506fd5-9e7b-434f-bd42-4f8fa224b599",
            "routeKey": "$default",
            "stage": "$default",
            "time": "21/Nov/2026:08:00:00 +0000",
            "timeEpoch": 1795248000000,
        },
        "body": body,
        "pathParameters": None,
        "isBase64Encoded": True,
        "stageVariables": None,
    }


IAM = {
    "iam": {
        "accessKey": "AKIAEXAMPLE",
        "accountId": "111122223333",
        "callerId": "AIDAEXAMPLE",
        "cognitoIdentity": None,
        "principalOrgId": None,
        "userArn": "arn:aws:iam::111122223333:user/example-user",
        "userId": "AIDAEXAMPLE",
    }
}


@pytest.mark.parametrize("many", [False, True])
def test_a_load_balancer_is_answered_in_its_own_form(many: bool, trained: Trained) -> None:
    token = make(scopes=["predict:digits"])["token"]
    headers = {"authorization": f"Bearer {token}", "content_type": "image/png"}
    answer = invoke("predict", load_balancer("POST", "/models/digits/predict?top=2", ENCODED, many, **headers))
    assert (answer["statusCode"], answer["statusDescription"]) == (200, "200 OK")
    assert answer["isBase64Encoded"] is False
    found = answer["multiValueHeaders" if many else "headers"]["Content-Type"]
    assert found == (["application/json"] if many else "application/json")
    assert ("headers" in answer) != many
    (prediction,) = json.loads(answer["body"])["predictions"]
    assert (prediction["label"], len(prediction["probabilities"])) == ("3", 2)
    refused = invoke("predict", load_balancer("GET", "/v2/models/other", "", many, authorization=f"Bearer {token}"))
    assert (refused["statusCode"], refused["statusDescription"]) == (403, "403 Forbidden")


def test_binary_tensors_pass_a_load_balancer(trained: Trained) -> None:
    token = make(scopes=["predict:*"])["token"]
    tensor = {"name": "image", "datatype": "UINT8", "shape": [1, 1, 8, 8], "parameters": {"binary_data_size": 64}}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    headers = {"authorization": f"Bearer {token}", "content_type": "application/octet-stream"}
    event = load_balancer(
        *("POST", "/v2/models/digits/infer", base64.b64encode(head + bytes(64)).decode()),
        inference_header_content_length=str(len(head)),
        **headers,
    )
    answer = invoke("predict", event)
    assert (answer["statusCode"], answer["isBase64Encoded"]) == (200, True)
    length = int(answer["headers"][HEADER_LENGTH])
    assert len(base64.b64decode(answer["body"])) == length + 10 * 4


@pytest.mark.parametrize("authorization", ["", "Bearer nonsense", "Bearer token-of-the-test-but-wrong"])
def test_nobody_passes_a_load_balancer_without_a_token(authorization: str, trained: Trained) -> None:
    headers = {"authorization": authorization} if authorization else {}
    answer = invoke("predict", load_balancer("GET", "/v2/models/digits", **headers))
    assert answer["statusCode"] == 403
    assert "The request lacks" in json.loads(answer["body"])["detail"]


def test_a_load_balancers_health_check_needs_no_token(trained: Trained) -> None:
    check = {
        "requestContext": {"elb": {"targetGroupArn": "arn:aws:elasticloadbalancing:us-east-1:1:targetgroup/x/1"}},
        "httpMethod": "GET",
        "path": "/ping",
        "queryStringParameters": {},
        "headers": {"user-agent": "ELB-HealthChecker/2.0"},
        "body": "",
        "isBase64Encoded": False,
    }
    assert invoke("predict", check)["statusCode"] == 200


def test_a_function_url_lets_in_whom_iam_let_in(trained: Trained) -> None:
    path = "/models/digits/predict"
    answer = invoke("predict", function_url("POST", path, ENCODED, IAM, content_type="image/png"))
    assert json.loads(answer["body"])["predictions"][0]["label"] == "3"
    for nobody in (None, {}):
        refused = invoke("predict", function_url("POST", path, ENCODED, nobody, content_type="image/png"))
        assert refused["statusCode"] == 403


def sagemaker(path: str, body: str, encoded: bool = False, **headers: str) -> dict[str, Any]:
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    answer = invoke("predict", http_event("POST", path, body, headers=headers, isBase64Encoded=encoded))
    return dict(answer)


@pytest.mark.parametrize("kind", ["application/x-image", "application/octet-stream", "image/png"])
@pytest.mark.parametrize("target", ["digits", "digits.tar.gz"])
def test_sagemakers_invocations(kind: str, target: str, trained: Trained) -> None:
    headers = {"content_type": kind, "x_amzn_sagemaker_target_model": target}
    answer = sagemaker("/invocations", ENCODED, True, **headers, x_amzn_sagemaker_custom_attributes="trace=1")
    assert json.loads(answer["body"])["predictions"][0]["label"] == "3"
    assert answer["headers"]["X-Amzn-SageMaker-Custom-Attributes"] == "trace=1"


def test_sagemakers_endpoint_path_and_csv_answers(trained: Trained) -> None:
    body = json.dumps({"instances": [{"b64": ENCODED}] * 2})
    answer = sagemaker("/endpoints/digits/invocations", body, content_type="application/json", accept="text/csv")
    assert answer["headers"]["Content-Type"].startswith("text/csv")
    rows = [line.split(",") for line in answer["body"].splitlines()]
    assert [row[0] for row in rows] == ["3", "3"]
    assert 0.5 < float(rows[0][1]) <= 1


def test_invocations_without_a_model_say_what_is_missing(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    from shoal_core.aws.config import environment

    answer = sagemaker("/invocations", ENCODED, True, content_type="image/png")
    assert answer["statusCode"] == 400
    assert "DefaultModel" in json.loads(answer["body"])["fix"]
    monkeypatch.setenv("SHOAL_DEFAULT_MODEL", "digits")
    environment.cache_clear()
    try:
        assert sagemaker("/invocations", ENCODED, True, content_type="image/png")["statusCode"] == 200
    finally:
        monkeypatch.delenv("SHOAL_DEFAULT_MODEL")
        environment.cache_clear()


def test_sagemakers_paths_ask_for_the_models_own_scope(trained: Trained) -> None:
    caller = {"token": "x", "scopes": "predict:other", "per_minute": 0, "per_day": 0, "per_month": 0}
    for path, headers in (
        ("/invocations", {"x-amzn-sagemaker-target-model": "digits"}),
        ("/endpoints/digits/invocations", {}),
    ):
        event = http_event(
            "POST", path, ENCODED, headers={"content-type": "image/png", **headers}, isBase64Encoded=True
        )
        event["requestContext"]["authorizer"] = {"lambda": caller}
        answer = invoke("predict", event)
        assert answer["statusCode"] == 403
        assert "'predict:digits'" in json.loads(answer["body"])["detail"]
    event = http_event("GET", "/ping")
    event["requestContext"]["authorizer"] = {"lambda": caller}
    assert invoke("predict", event)["statusCode"] == 200


def test_several_files_of_a_form(trained: Trained) -> None:
    body, kind = urllib3.encode_multipart_formdata([("image", ("3.png", IMAGE, "image/png"))] * 3)
    event = http_event(
        "POST",
        "/models/digits/predict",
        base64.b64encode(body).decode(),
        headers={"content-type": kind},
        isBase64Encoded=True,
    )
    answer = json.loads(invoke("predict", event)["body"])
    assert [prediction["label"] for prediction in answer["predictions"]] == ["3"] * 3


@pytest.mark.parametrize("top", ["0", "-1", "many", "1" * 10])
def test_a_wrong_top_is_named(top: str, trained: Trained) -> None:
    event = http_event("POST", "/models/digits/predict", "[]", queryStringParameters={"top": top})
    answer = invoke("predict", event)
    assert answer["statusCode"] == 400
    assert "parameter top" in json.loads(answer["body"])["detail"]
