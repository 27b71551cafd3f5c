"""Routes, events and answers of payload format 2.0."""

from __future__ import annotations

import base64
import json

import pytest

from shoal.local.gateway_event import (
    BadAnswer,
    Call,
    HttpApiSpec,
    Route,
    authorizer_event,
    decode_answer,
    function_event,
    match_route,
    route_event,
)

ROUTES = (
    Route("GET", "/pets/dog/1", "a"),
    Route("GET", "/pets/dog/{id}", "b"),
    Route("GET", "/pets/{proxy+}", "c"),
    Route("ANY", "/pets/dog/{id}", "d"),
    Route("ANY", "/{proxy+}", "e"),
    Route("ANY", "$default", "f"),
)


def call(path: str = "/x", query: str = "", body: bytes = b"", *headers: tuple[str, str], method: str = "POST") -> Call:
    fields = [(name.lower(), value) for name, value in (("Host", "127.0.0.1:80"), *headers)]
    return Call(method, path, query, fields, body, "127.0.0.1:80", "127.0.0.1")


@pytest.mark.parametrize(
    ("method", "path", "function", "parameters"),
    [
        ("GET", "/pets/dog/1", "a", {}),
        ("GET", "/pets/dog/2", "b", {"id": "2"}),
        ("GET", "/pets/dog/a%20b%2Fc", "b", {"id": "a b/c"}),
        ("GET", "/pets/cat/1/x", "c", {"proxy": "cat/1/x"}),
        ("POST", "/pets/dog/1", "d", {"id": "1"}),
        ("HEAD", "/anything", "e", {"proxy": "anything"}),
        ("GET", "/", "f", {}),
    ],
)
def test_the_most_specific_route_wins(method, path, function, parameters):
    route, found = match_route(ROUTES, method, path)
    assert (route.function_name, found) == (function, parameters)


def test_no_route():
    routes = (Route("GET", "/a", "a"), Route("GET", "/b/{id}", "b"))
    for method, path in [("POST", "/a"), ("GET", "/b/"), ("GET", "/b/1/2"), ("GET", "/a/")]:
        assert match_route(routes, method, path) is None


def test_the_event_of_a_request():
    made = call(
        "/runs/a%20b", "x=1&x=2&y=&z=%2F", b'{"a":1}',
        ("Content-Type", "application/json"), ("X-Many", "1"), ("x-many", "2"), ("Cookie", "a=1; b=2"),
        ("User-Agent", "test"),
    )  # fmt: skip
    route = Route("POST", "/runs/{id}", "f")
    spec = HttpApiSpec("api", (route,), default_stage_variables={"v": "1"}, api_id="abc")
    event = json.loads(function_event(route_event(spec, made, route, {"id": "a b"}), made, {"user": "u"}))
    context = event.pop("requestContext")
    headers = event.pop("headers")
    assert event == {
        "version": "2.0",
        "routeKey": "POST /runs/{id}",
        "rawPath": "/runs/a b",
        "rawQueryString": "x=1&x=2&y=&z=%2F",
        "cookies": ["a=1", "b=2"],
        "queryStringParameters": {"x": "1,2", "y": "", "z": "/"},
        "pathParameters": {"id": "a b"},
        "stageVariables": {"v": "1"},
        "body": '{"a":1}',
        "isBase64Encoded": False,
    }
    assert headers["x-many"] == "1,2" and "cookie" not in headers and headers["x-forwarded-for"] == "127.0.0.1"
    assert context["http"] == {
        "method": "POST", "path": "/runs/a b", "protocol": "HTTP/1.1", "sourceIp": "127.0.0.1", "userAgent": "test",
    }  # fmt: skip
    assert context["authorizer"] == {"lambda": {"user": "u"}}
    assert (context["apiId"], context["stage"], context["routeKey"]) == ("abc", "$default", "POST /runs/{id}")


def test_a_header_that_is_not_utf_8_still_makes_an_event():
    made = call("/", "", b"", ("Authorization", b"Bearer \xfc".decode("utf-8", "surrogateescape")))
    route = Route("POST", "/", "f", authorizer="a")
    spec = HttpApiSpec("api", (route,))
    event = route_event(spec, made, route, {})
    for encoded in (function_event(event, made, None), authorizer_event(spec, event, made, ["x"])):
        assert json.loads(encoded)["headers"]["authorization"] == "Bearer ?"


@pytest.mark.parametrize(
    ("headers", "body", "encoded"),
    [
        ([("Content-Type", "text/csv; charset=utf-8")], b"a,b", False),
        ([("Content-Type", "application/json")], b"{}", False),
        ([("Content-Type", "application/json")], b"\xff", True),
        ([("Content-Type", "application/json"), ("Content-Encoding", "gzip")], b"x", True),
        ([("Content-Type", "image/png")], b"png", True),
        ([("Content-Type", "application/x-www-form-urlencoded")], b"a=1", True),
        ([], b"plain", False),
    ],
)
def test_bodies_are_text_or_base64_by_content_type(headers, body, encoded):
    made = call("/", "", body, *headers)
    route = Route("POST", "/", "f")
    event = json.loads(function_event(route_event(HttpApiSpec("api", (route,)), made, route, {}), made, None))
    assert event["isBase64Encoded"] is encoded
    assert (base64.b64decode(event["body"]) if encoded else event["body"].encode()) == body


def test_answers():
    plain = decode_answer(b'{"hello": "w"}')
    assert (plain.status, dict(plain.headers), plain.body) == (
        200,
        {"content-type": "application/json"},
        b'{"hello":"w"}',
    )
    assert decode_answer(b'"text"').body == b"text"
    full = decode_answer(
        json.dumps(
            {
                "statusCode": 201,
                "headers": {"X-A": 1},
                "cookies": ["a=1", "b=2"],
                "body": "AP8=",
                "isBase64Encoded": True,
            }
        ).encode()
    )
    assert (full.status, dict(full.headers)["x-a"], full.body) == (201, "1", b"\x00\xff")
    assert [value for name, value in full.headers if name == "set-cookie"] == ["a=1", "b=2"]
    assert decode_answer(b'{"statusCode": "204"}').status == 204
    assert decode_answer(b'{"statusCode": 200, "body": "x"}').headers == [("content-type", "text/plain;charset=UTF-8")]


@pytest.mark.parametrize(
    "wrong",
    [
        {"statusCode": "abc"},
        {"statusCode": 99},
        {"statusCode": 200, "body": {}},
        {"statusCode": 200, "body": "%", "isBase64Encoded": True},
        {"statusCode": 200, "headers": []},
        {"statusCode": 200, "headers": {"a": "b\r\nc: d"}},
        {"statusCode": 200, "headers": {"a b": "c"}},
        {"statusCode": 200, "cookies": "a"},
    ],
)
def test_malformed_answers(wrong):
    with pytest.raises(BadAnswer):
        decode_answer(json.dumps(wrong).encode())
