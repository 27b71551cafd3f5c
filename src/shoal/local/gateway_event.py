"""API Gateway HTTP APIs, the data: an API's routes, payload format 2.0 events, and what a function's answer means.

Source: https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_TEXT_TYPES = ("application/json", "application/javascript", "application/xml")


@dataclass(frozen=True, slots=True)
class Route:
    """One route: `method` is an HTTP method or `ANY`; `path_template` as in the template, or `$default`."""

    method: str
    path_template: str
    function_name: str
    authorizer: str | None = None

    @property
    def key(self) -> str:
        """The route key, `GET /runs/{run_id}` or `$default`."""
        return self.path_template if self.path_template == "$default" else f"{self.method} {self.path_template}"


@dataclass(frozen=True, slots=True)
class AuthorizerSpec:
    """A Lambda authorizer.

    Attributes:
        function_name: The function that decides.
        identity_source: `$request.header.NAME`, `$request.querystring.NAME`, `$stageVariables.NAME` or
            `$context.routeKey`; a request without one of them is refused unasked.
        payload_version: Only `2.0`.
        enable_simple_responses: Whether it answers `{"isAuthorized": …}`; an IAM policy otherwise.
        ttl_s: How long an answer is kept per identity, in seconds; 0 for not at all.
    """

    function_name: str
    identity_source: tuple[str, ...] = ("$request.header.Authorization",)
    payload_version: str = "2.0"
    enable_simple_responses: bool = True
    ttl_s: float = 0


@dataclass(frozen=True, slots=True)
class Throttling:
    """A token bucket over the whole API: `rate` requests a second, `burst` at once."""

    burst: int
    rate: float


@dataclass(frozen=True, slots=True)
class HttpApiSpec:
    """One HTTP API with its `$default` stage.

    Attributes:
        name: The API's name.
        routes: Its routes.
        authorizers: Its authorizers by name.
        default_stage_variables: Stage variables.
        cors: Not served: must be None.
        throttling: The stage's default throttling.
        log_group: Where access log lines go; None for none.
        api_id: The API's id in events and ARNs.
        account_id: The account in events and ARNs.
        region: The region in ARNs.
    """

    name: str
    routes: tuple[Route, ...]
    authorizers: Mapping[str, AuthorizerSpec] = field(default_factory=dict)
    default_stage_variables: Mapping[str, str] | None = None
    cors: None = None
    throttling: Throttling | None = None
    log_group: str | None = None
    api_id: str = "local"
    account_id: str = "123456789012"
    region: str = "us-east-1"


@dataclass(frozen=True, slots=True)
class Call:
    """One HTTP request, read: what events are made of.

    `raw_path` and `raw_query` are as on the wire, headers in their order with names in lower case.
    """

    method: str
    raw_path: str
    raw_query: str
    headers: Sequence[tuple[str, str]]
    body: bytes
    host: str
    peer: str
    protocol: str = "HTTP/1.1"
    request_id: str = field(default_factory=lambda: uuid.uuid4().hex[:16])
    began: float = field(default_factory=time.time)

    @property
    def path(self) -> str:
        """The decoded path."""
        return unquote(self.raw_path)


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP response to send; names of headers are in lower case."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


class BadAnswer(ValueError):
    """A function's answer that isn't a response of payload format 2.0."""


def match_route(routes: tuple[Route, ...], method: str, path: str) -> tuple[Route, dict[str, str]] | None:
    """The most specific route for a request, and its path parameters, decoded.

    AWS: a full match first, then a greedy one, then `$default`; within those, static segments go before variables and
    a method before `ANY`.

    Args:
        routes: The API's routes.
        method: The request's method.
        path: The request's path as on the wire.
    """
    best: tuple[tuple[list[int], bool], Route, dict[str, str]] | None = None
    default: Route | None = None
    for route in routes:
        if route.path_template == "$default":
            default = route
        elif route.method in ("ANY", method) and (matched := _match_path(route.path_template, path)) is not None:
            specificity, parameters = matched
            rank = (specificity, route.method == "ANY")
            if best is None or rank < best[0]:
                best = (rank, route, parameters)
    if best is not None:
        return best[1], best[2]
    return (default, {}) if default is not None else None


def _match_path(template: str, path: str) -> tuple[list[int], dict[str, str]] | None:
    """Ranks of the template's segments (0 static, 1 variable, 2 greedy) and the parameters; None for no match."""
    wanted, given = template.strip("/").split("/"), path.removeprefix("/").split("/")
    ranks: list[int] = []
    parameters: dict[str, str] = {}
    for position, segment in enumerate(wanted):
        if segment.startswith("{") and segment.endswith("+}"):
            rest = "/".join(given[position:])
            return ([*ranks, 2], {**parameters, segment[1:-2]: unquote(rest)}) if rest else None
        if position >= len(given):
            return None
        if segment.startswith("{") and segment.endswith("}"):
            if not given[position]:
                return None
            parameters[segment[1:-1]] = unquote(given[position])
            ranks.append(1)
        elif segment == unquote(given[position]):
            ranks.append(0)
        else:
            return None
    return (ranks, parameters) if len(given) == len(wanted) else None


def route_event(spec: HttpApiSpec, call: Call, route: Route, parameters: Mapping[str, str]) -> dict[str, Any]:
    """The part of a payload format 2.0 event that functions and authorizers share."""
    headers = _joined_headers(call)
    now = time.gmtime(call.began)
    event: dict[str, Any] = {
        "version": "2.0",
        "routeKey": route.key,
        "rawPath": call.path,
        "rawQueryString": call.raw_query,
        "headers": headers,
        "requestContext": {
            "accountId": spec.account_id,
            "apiId": spec.api_id,
            "domainName": call.host,
            "domainPrefix": call.host.partition(".")[0],
            "http": {
                "method": call.method,
                "path": call.path,
                "protocol": call.protocol,
                "sourceIp": call.peer,
                "userAgent": headers.get("user-agent", ""),
            },
            "requestId": call.request_id,
            "routeKey": route.key,
            "stage": "$default",
            "time": time.strftime("%d/%b/%Y:%H:%M:%S +0000", now),
            "timeEpoch": int(call.began * 1000),
        },
    }
    lines = (value for name, value in call.headers if name == "cookie")
    cookies = [part.strip() for line in lines for part in line.split(";") if part.strip()]
    if cookies:
        event["cookies"] = cookies
    query: dict[str, str] = {}
    for key, value in parse_qsl(call.raw_query, keep_blank_values=True):
        query[key] = f"{query[key]},{value}" if key in query else value
    if query:
        event["queryStringParameters"] = query
    if parameters:
        event["pathParameters"] = dict(parameters)
    if spec.default_stage_variables:
        event["stageVariables"] = dict(spec.default_stage_variables)
    return event


def function_event(event: dict[str, Any], call: Call, context: Mapping[str, Any] | None) -> bytes:
    """The event for a route's function, as JSON.

    Args:
        event: What `route_event` made.
        call: The request.
        context: What the authorizer said about the caller; None without an authorizer.
    """
    event = dict(event)
    if context is not None:
        event["requestContext"] = {**event["requestContext"], "authorizer": {"lambda": dict(context)}}
    text = _as_text(call) if call.body else None
    if text is not None:
        event["body"] = text
    elif call.body:
        event["body"] = base64.b64encode(call.body).decode()
    event["isBase64Encoded"] = bool(call.body) and text is None
    return _encoded(event)


def authorizer_event(spec: HttpApiSpec, event: dict[str, Any], call: Call, identity: list[str]) -> bytes:
    """The event for an authorizer of payload version 2.0, as JSON."""
    made = {
        **event,
        "type": "REQUEST",
        "routeArn": route_arn(spec, call),
        "identitySource": identity,
    }
    return _encoded(made)


def _encoded(event: Mapping[str, Any]) -> bytes:
    """An event as JSON; bytes of headers and paths that aren't UTF-8, kept as surrogates, become `?`."""
    return json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def route_arn(spec: HttpApiSpec, call: Call) -> str:
    """The ARN that an authorizer's IAM policy is about."""
    return f"arn:aws:execute-api:{spec.region}:{spec.account_id}:{spec.api_id}/$default/{call.method}{call.path}"


def decode_answer(payload: bytes) -> Answer:
    """What a function's answer means as an HTTP response. Raises `BadAnswer`.

    Anything without a `statusCode` is itself the body of a 200 with JSON.
    """
    try:
        answer = json.loads(payload)
    except ValueError as error:
        raise BadAnswer("not JSON") from error
    if not isinstance(answer, dict) or "statusCode" not in answer:
        body = answer if isinstance(answer, str) else json.dumps(answer, ensure_ascii=False, separators=(",", ":"))
        return Answer(200, [("content-type", "application/json")], body.encode())
    status = answer["statusCode"]
    if isinstance(status, str) and status.isdigit():
        status = int(status)
    if isinstance(status, bool) or not isinstance(status, int) or not 200 <= status <= 599:
        raise BadAnswer(f"status code {status!r}")
    headers = _answer_headers(answer.get("headers"), answer.get("cookies"))
    return Answer(status, headers, _answer_body(answer.get("body"), answer.get("isBase64Encoded", False)))


def _answer_headers(given: object, cookies: object) -> list[tuple[str, str]]:
    if not isinstance(given, dict | None) or not isinstance(cookies, list | None):
        raise BadAnswer("headers or cookies of the wrong type")
    headers: dict[str, str] = {}
    for name, value in (given or {}).items():
        if isinstance(value, dict | list | None):
            raise BadAnswer(f"header {name!r} isn't a string")
        if not _HEADER_NAME.fullmatch(name):
            raise BadAnswer(f"header {name!r} has no name that HTTP knows")
        headers[name.lower()] = str(value).lower() if isinstance(value, bool) else str(value)
    headers.setdefault("content-type", "text/plain;charset=UTF-8")
    # The server computes these itself.
    headers.pop("content-length", None)
    headers.pop("transfer-encoding", None)
    found = [*headers.items(), *(("set-cookie", str(cookie)) for cookie in cookies or ())]
    if any(mark in text for pair in found for text in pair for mark in "\r\n\0"):
        raise BadAnswer("a header with a line break")
    return found


def _answer_body(body: object, encoded: object) -> bytes:
    if body is None:
        return b""
    if not isinstance(body, str):
        raise BadAnswer("a body that isn't a string")
    if not encoded:
        return body.encode()
    try:
        return base64.b64decode(body, validate=True)
    except binascii.Error as error:
        raise BadAnswer("a body that isn't base64") from error


def _joined_headers(call: Call) -> dict[str, str]:
    """Lower-cased names, repeated ones joined by commas, cookies left out, with the ones that the gateway adds."""
    headers: dict[str, str] = {}
    for name, value in call.headers:
        if name != "cookie":
            headers[name] = f"{headers[name]},{value}" if name in headers else value
    forwarded = headers.get("x-forwarded-for")
    headers["x-forwarded-for"] = f"{forwarded}, {call.peer}" if forwarded else call.peer
    headers["x-forwarded-port"] = call.host.rpartition(":")[2] if ":" in call.host else "80"
    headers["x-forwarded-proto"] = "http"
    headers.setdefault("x-amzn-trace-id", f"Root=1-{int(call.began):08x}-{uuid.uuid4().hex[:24]}")
    return headers


def _as_text(call: Call) -> str | None:
    """The body as text where the content type says it's text; None where it goes as base64."""
    headers = dict(reversed(call.headers))  # the first of a name counts
    kind = headers.get("content-type", "text/plain").partition(";")[0].strip().lower()
    if "content-encoding" in headers or not (kind.startswith("text/") or kind in _TEXT_TYPES):
        return None
    try:
        return call.body.decode()
    except UnicodeDecodeError:
        return None
