"""An HTTP API as API Gateway serves it, over real sockets and workers."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shoal.local.compute import BadFunction, FunctionSpec, LambdaService, LogRecord, MemoryPending
from shoal.local.gateway import AuthorizerSpec, HttpApiSpec, HttpGateway, Route, Throttling
from shoal.local.services import listen

FUNCTIONS = Path(__file__).with_name("gateway_functions")
HANDLERS = ("echo", "answer", "malformed", "fail", "sleep", "authorize", "policy")


@pytest.fixture(scope="module")
def calls(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("authorizer") / "calls"


@pytest.fixture(scope="module")
def lambdas(calls: Path) -> Iterator[LambdaService]:
    service = LambdaService(
        log_sink=lambda record: None,
        pending=MemoryPending(),
        on_failure=lambda spec, event: None,
        max_workers_per_function=2,
        max_workers_total=8,
        idle_seconds=60,
    )
    for name in HANDLERS:
        arn = f"arn:aws:lambda:us-east-1:123456789012:function:{name}"
        environment = {"CALLS": str(calls)}
        service.deploy(FunctionSpec(name, arn, f"front.{name}", FUNCTIONS, (), environment, 256, 60))
    service.start()
    yield service
    service.close()


@pytest.fixture(scope="module")
def logs() -> list[LogRecord]:
    return []


@pytest.fixture(scope="module")
def gateway(lambdas: LambdaService, logs: list[LogRecord]) -> Iterator[HttpGateway]:
    routes = (
        Route("ANY", "/echo/{proxy+}", "echo"),
        Route("GET", "/answer", "answer"),
        *(Route("GET", f"/{name}", name) for name in ("malformed", "fail", "sleep")),
        Route("GET", "/closed/{id}", "echo", "tokens"),
        Route("GET", "/fresh", "echo", "uncached"),
        Route("GET", "/policy", "echo", "policies"),
        Route("GET", "/gone", "nobody"),
    )
    authorizers = {
        "tokens": AuthorizerSpec("authorize", ttl_s=300),
        "uncached": AuthorizerSpec("authorize"),
        "policies": AuthorizerSpec("policy", ("$request.querystring.token",), enable_simple_responses=False),
    }
    spec = HttpApiSpec("api", routes, authorizers, log_group="/aws/http/api")
    served = HttpGateway(spec, lambdas, listen(0), log_sink=logs.append, integration_seconds=0.5)
    served.start()
    yield served
    served.close()


def ask(gateway: HttpGateway, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any, Any]:
    connection = http.client.HTTPConnection(gateway.host, gateway.port, timeout=30)
    connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
    response = connection.getresponse()
    raw = response.read()
    connection.close()
    is_json = raw and response.headers["Content-Type"] == "application/json"
    return response.status, json.loads(raw) if is_json else raw, response.headers


def test_a_request_reaches_its_function(gateway: HttpGateway, logs: list[LogRecord]):
    status, event, headers = ask(gateway, "PUT", "/echo/a%20b/c?q=%31", b"{}", Content_Type="application/json")
    assert status == 200
    assert event["pathParameters"] == {"proxy": "a b/c"} and event["rawQueryString"] == "q=%31"
    assert event["body"] == "{}" and event["requestContext"]["http"]["method"] == "PUT"
    assert headers["Apigw-Requestid"] == event["requestContext"]["requestId"]
    line = json.loads(logs[-1].message)
    assert (line["routeKey"], line["status"], logs[-1].log_group) == ("ANY /echo/{proxy+}", 200, "/aws/http/api")


def test_head_has_no_body(gateway: HttpGateway):
    status, body, headers = ask(gateway, "HEAD", "/echo/x")
    assert (status, body) == (200, b"") and int(headers["Content-Length"]) > 0


def test_one_connection_serves_many_requests(gateway: HttpGateway):
    connection = http.client.HTTPConnection(gateway.host, gateway.port, timeout=30)
    for status in (200, 404, 503):
        connection.request("GET", f"/answer?status={status}")
        response = connection.getresponse()
        assert (response.status, response.read(), response.will_close) == (status, b"hi", False)
    connection.close()


@pytest.mark.parametrize(
    ("path", "status", "message"),
    [
        ("/nowhere", 404, "Not Found"),
        ("/malformed", 500, "Internal Server Error"),
        ("/fail", 500, "Internal Server Error"),
        ("/gone", 500, "Internal Server Error"),
        ("/sleep", 503, "Service Unavailable"),
    ],
)
def test_errors_of_the_gateway(gateway: HttpGateway, path: str, status: int, message: str):
    assert ask(gateway, "GET", path)[:2] == (status, {"message": message})


def test_body_limits(gateway: HttpGateway):
    image = {"Content_Type": "image/png"}
    assert ask(gateway, "POST", "/echo/x", b"x" * 10_485_761, **image)[:2] == (
        413,
        {"message": "Request Entity Too Large"},
    )
    assert ask(gateway, "POST", "/echo/x", b"x" * 5_000_000, **image)[:2] == (413, {"message": "Request Too Long"})
    assert ask(gateway, "POST", "/echo/x", b"x" * 4_000_000, **image)[0] == 200


def test_the_head_has_a_limit(gateway: HttpGateway):
    assert ask(gateway, "GET", "/echo/x", X_Long="x" * 9_000)[0] == 200
    too_long = 431, {"message": "Request Header Fields Too Large"}
    assert ask(gateway, "GET", "/echo/x", X_Long="x" * 10_240)[:2] == too_long
    assert ask(gateway, "GET", "/echo/x?q=" + "x" * 10_240)[:2] == too_long


def test_a_client_that_hangs_up_asks_no_function(gateway: HttpGateway, logs: list[LogRecord]):
    before = len(logs)
    with socket.create_connection((gateway.host, gateway.port)) as connection:
        connection.sendall(b"POST /echo/x HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf")
    assert ask(gateway, "GET", "/echo/x")[0] == 200
    assert len(logs) == before + 1


def test_what_is_no_http_is_refused(gateway: HttpGateway):
    with socket.create_connection((gateway.host, gateway.port)) as connection:
        connection.sendall(b"nonsense\r\n\r\n")
        assert connection.recv(1_000).startswith(b"HTTP/1.1 400")


def test_authorizer(gateway: HttpGateway, calls: Path):
    calls.write_text("")
    assert ask(gateway, "GET", "/closed/1")[:2] == (401, {"message": "Unauthorized"})
    assert calls.read_text() == ""
    assert ask(gateway, "GET", "/closed/1", Authorization="bad")[:2] == (403, {"message": "Forbidden"})
    assert ask(gateway, "GET", "/closed/1", Authorization="broken")[:2] == (500, {"message": "Internal Server Error"})
    for number in (1, 2):
        status, event, _ = ask(gateway, "GET", f"/closed/{number}", Authorization="good")
        assert status == 200 and event["requestContext"]["authorizer"] == {"lambda": {"user": "me"}}
    arn = "arn:aws:execute-api:us-east-1:123456789012:local/$default/GET/closed/1"
    assert calls.read_text().splitlines() == [arn] * 3


def test_authorizer_without_a_cache_and_with_policies(gateway: HttpGateway, calls: Path):
    calls.write_text("")
    for _ in range(2):
        assert ask(gateway, "GET", "/fresh", Authorization="good")[0] == 200
    assert len(calls.read_text().splitlines()) == 2
    assert ask(gateway, "GET", "/policy?token=good")[0] == 200
    assert ask(gateway, "GET", "/policy?token=bad")[0] == 403
    assert ask(gateway, "GET", "/policy")[0] == 401


def test_throttling(lambdas: LambdaService):
    spec = HttpApiSpec("slow", (Route("GET", "/answer", "answer"),), throttling=Throttling(burst=2, rate=0.001))
    gateway = HttpGateway(spec, lambdas, listen(0))
    gateway.start()
    answers = [ask(gateway, "GET", "/answer?status=200")[0] for _ in range(3)]
    gateway.close()
    assert answers == [200, 200, 429]


@pytest.mark.parametrize(
    ("spec", "host", "named"),
    [
        (HttpApiSpec("api", (), cors={}), "127.0.0.1", "CORS"),  # type: ignore[arg-type]
        (HttpApiSpec("api", ()), "0.0.0.0", "0.0.0.0"),  # noqa: S104
        (HttpApiSpec("api", (Route("GET", "/", "f", "who"),)), "127.0.0.1", "'who'"),
        (HttpApiSpec("api", (), {"a": AuthorizerSpec("f", payload_version="1.0")}), "127.0.0.1", "1.0"),
    ],
)
def test_what_is_not_served_is_refused_by_name(lambdas: LambdaService, spec, host, named):
    with pytest.raises(BadFunction, match=named), socket.create_server((host, 0)) as listener:
        HttpGateway(spec, lambdas, listener)
