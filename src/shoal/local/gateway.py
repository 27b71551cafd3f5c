"""API Gateway HTTP APIs, the server: routes, authorizers, limits and errors as AWS has them, on 127.0.0.1.

Limits: https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-quotas.html. A body within the gateway's
10 MB whose event exceeds Lambda's 6 MB is refused with 413 and "Request Too Long": what API Gateway was seen to answer
(https://github.com/koki-develop/lgtm-generator/issues/10, there in front of a REST API); AWS doesn't document it.
Nor does it document the answer to a head that is too long: 431 is HTTP's own (RFC 6585).
"""

from __future__ import annotations

import asyncio
import fnmatch
import json
import logging
import socket
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import uvicorn

from shoal.local.compute import LambdaError, LambdaService, LogRecord, RequestTooLarge
from shoal.local.compute.errors import BadFunction
from shoal.local.gateway_event import (
    Answer,
    AuthorizerSpec,
    BadAnswer,
    Call,
    HttpApiSpec,
    Route,
    Throttling,
    authorizer_event,
    decode_answer,
    function_event,
    match_route,
    route_arn,
    route_event,
)

__all__ = ["AuthorizerSpec", "HttpApiSpec", "HttpGateway", "Route", "Throttling"]

_logger = logging.getLogger(__name__)

MAX_BODY_BYTES = 10_485_760
MAX_HEAD_BYTES = 10_240
"""Of the request line and the headers' values together."""
INTEGRATION_SECONDS = 30.0
_AUTHORIZER_SECONDS = 10.0
_CACHED_IDENTITIES = 10_000
_KEEP_ALIVE_SECONDS = 75

_Receive = Callable[[], Awaitable[Mapping[str, Any]]]
_Send = Callable[[Mapping[str, Any]], Awaitable[None]]


class _Refused(Exception):
    """An answer of the gateway's own."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.answer = Answer(status, [("content-type", "application/json")], json.dumps({"message": message}).encode())


@dataclass(frozen=True, slots=True)
class _Verdict:
    """What an authorizer said: allowed for these ARNs (None for all of them), with this context."""

    allowed: tuple[str, ...] | None
    denied: tuple[str, ...]
    context: Mapping[str, Any]

    def permits(self, arn: str) -> bool:
        if any(fnmatch.fnmatchcase(arn, pattern) for pattern in self.denied):
            return False
        return self.allowed is None or any(fnmatch.fnmatchcase(arn, pattern) for pattern in self.allowed)


class HttpGateway:
    """Serves one HTTP API on the Lambda service's event loop.

    Args:
        spec: The API.
        lambdas: Where its functions run; started before this is.
        listener: Listens at 127.0.0.1; the gateway closes it.
        log_sink: Gets an access log record per request when the API has a log group.
        integration_seconds: How long a function may take (AWS: 30 s at most).

    Raises:
        BadFunction: The API asks for what isn't served here.
    """

    def __init__(
        self,
        spec: HttpApiSpec,
        lambdas: LambdaService,
        listener: socket.socket,
        *,
        log_sink: Callable[[LogRecord], None] | None = None,
        integration_seconds: float = INTEGRATION_SECONDS,
    ) -> None:
        self.host, self.port = listener.getsockname()[:2]
        _check_spec(spec, self.host)
        self.spec = spec
        self._listener = listener
        self._lambdas = lambdas
        self._log_sink = log_sink
        self._integration_seconds = integration_seconds
        self._verdicts: dict[tuple[str, ...], tuple[float, _Verdict]] = {}
        self._bucket = _TokenBucket(spec.throttling) if spec.throttling else None
        self._server = _server(self._serve)
        self._serving: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        """The API's address, without a slash at the end."""
        return f"http://{self.host}:{self.port}"

    def start(self) -> None:
        """Bind and serve."""
        self._lambdas.run(self._start())

    def close(self) -> None:
        """Stop serving; requests under way get a second to finish."""
        if self._lambdas.running:
            self._lambdas.run(self._close())

    async def _start(self) -> None:
        self._serving = asyncio.create_task(self._server.serve([self._listener]))
        while not (self._server.started or self._serving.done()):
            await asyncio.sleep(0.001)
        if self._serving.done():
            self._serving.result()

    async def _close(self) -> None:
        if self._serving is not None:
            self._server.should_exit = True
            await self._serving
            self._serving = None

    async def _serve(self, scope: Mapping[str, Any], receive: _Receive, send: _Send) -> None:
        """Answer a request (ASGI: https://asgi.readthedocs.io/en/latest/specs/www.html)."""
        body = await _body(receive)
        if body is None:
            return
        headers = [(_text(name), _text(value)) for name, value in scope["headers"]]
        call = Call(
            method=scope["method"],
            raw_path=_text(scope["raw_path"]),
            raw_query=_text(scope["query_string"]),
            headers=headers,
            body=body,
            host=next((value for name, value in headers if name == "host"), f"{self.host}:{self.port}"),
            peer=scope["client"][0] if scope["client"] else self.host,
        )
        answer = await self._answered(call)
        lines = [*answer.headers, ("apigw-requestid", call.request_id), ("content-length", str(len(answer.body)))]
        encoded = [(name.encode(errors="replace"), value.encode(errors="replace")) for name, value in lines]
        await send({"type": "http.response.start", "status": answer.status, "headers": encoded})
        await send({"type": "http.response.body", "body": answer.body})

    async def _answered(self, call: Call) -> Answer:
        route_key = ""
        try:
            if _head_bytes(call) > MAX_HEAD_BYTES:
                raise _Refused(431, "Request Header Fields Too Large")
            if len(call.body) > MAX_BODY_BYTES:
                raise _Refused(413, "Request Entity Too Large")
            if self._bucket is not None and not self._bucket.take():
                raise _Refused(429, "Too Many Requests")
            matched = match_route(self.spec.routes, call.method, call.raw_path)
            if matched is None:
                raise _Refused(404, "Not Found")
            route_key = matched[0].key
            answer = await self._answer(call, *matched)
        except _Refused as refused:
            answer = refused.answer
        self._log(call, route_key, answer)
        return answer

    async def _answer(self, call: Call, route: Route, parameters: dict[str, str]) -> Answer:
        event = route_event(self.spec, call, route, parameters)
        context = await self._authorize(call, route, event) if route.authorizer else None
        try:
            async with asyncio.timeout(self._integration_seconds):
                result = await self._lambdas.ainvoke(route.function_name, function_event(event, call, context))
        except TimeoutError:
            raise _Refused(503, "Service Unavailable") from None
        except RequestTooLarge:
            raise _Refused(413, "Request Too Long") from None
        except LambdaError as error:
            if error.retryable:
                raise _Refused(503, "Service Unavailable") from error
            raise _Refused(500, "Internal Server Error") from error
        if result.function_error is not None:
            raise _Refused(500, "Internal Server Error")
        try:
            return decode_answer(result.payload)
        except BadAnswer:
            raise _Refused(500, "Internal Server Error") from None

    # Authorizers

    async def _authorize(self, call: Call, route: Route, event: dict[str, Any]) -> Mapping[str, Any]:
        """The caller's context. Refuses with 401 without an identity, 403 when denied, 500 when nobody could tell."""
        name = route.authorizer or ""
        authorizer = self.spec.authorizers[name]
        identity = [_identity(source, event) for source in authorizer.identity_source]
        if not all(identity):
            raise _Refused(401, "Unauthorized")
        key = (name, *identity)
        kept = self._verdicts.get(key)
        if kept is not None and kept[0] > time.monotonic():
            verdict = kept[1]
        else:
            verdict = await self._ask(authorizer, authorizer_event(self.spec, event, call, identity))
            self._keep(key, verdict, authorizer.ttl_s)
        if not verdict.permits(route_arn(self.spec, call)):
            raise _Refused(403, "Forbidden")
        return verdict.context

    async def _ask(self, authorizer: AuthorizerSpec, event: bytes) -> _Verdict:
        try:
            result = await asyncio.wait_for(self._lambdas.ainvoke(authorizer.function_name, event), _AUTHORIZER_SECONDS)
            if result.function_error is not None:
                raise ValueError("the authorizer failed")
            answer = json.loads(result.payload)
            return _simple(answer) if authorizer.enable_simple_responses else _policy(answer)
        except (LambdaError, TimeoutError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise _Refused(500, "Internal Server Error") from error

    def _keep(self, key: tuple[str, ...], verdict: _Verdict, ttl_s: float) -> None:
        if ttl_s <= 0:
            return
        if len(self._verdicts) >= _CACHED_IDENTITIES:
            del self._verdicts[next(iter(self._verdicts))]
        self._verdicts[key] = (time.monotonic() + ttl_s, verdict)

    def _log(self, call: Call, route_key: str, answer: Answer) -> None:
        if self._log_sink is None or self.spec.log_group is None:
            return
        line = {
            "requestId": call.request_id,
            "ip": call.peer,
            "requestTime": time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(call.began)),
            "httpMethod": call.method,
            "path": call.path,
            "routeKey": route_key,
            "status": answer.status,
            "protocol": call.protocol,
            "responseLength": len(answer.body),
            "responseLatency": round((time.time() - call.began) * 1000),
        }
        now = time.time_ns() // 1_000_000
        message = json.dumps(line, separators=(",", ":"))
        record = LogRecord(self.spec.log_group, "$default", now, message, call.request_id, self.spec.name)
        try:
            self._log_sink(record)
        except Exception:
            _logger.exception("An access log record of %s was lost.", self.spec.name)


class _TokenBucket:
    """AWS's throttling: tokens come at a rate and heap up to a burst."""

    def __init__(self, throttling: Throttling) -> None:
        self._throttling = throttling
        self._tokens = float(throttling.burst)
        self._filled = time.monotonic()

    def take(self) -> bool:
        now = time.monotonic()
        added = (now - self._filled) * self._throttling.rate
        self._filled = now
        self._tokens = min(float(self._throttling.burst), self._tokens + added)
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


def _check_spec(spec: HttpApiSpec, host: str) -> None:
    def refuse(what: str, fix: str) -> None:
        raise BadFunction(f"HTTP API {spec.name!r}: {what}.", fix)

    if host != "127.0.0.1":
        refuse(f"it would listen on {host}", "The embedded cloud binds to 127.0.0.1 only.")
    if spec.cors is not None:
        refuse("CORS isn't served locally", "Answer OPTIONS and the CORS headers in the function.")
    for name, authorizer in spec.authorizers.items():
        if authorizer.payload_version != "2.0":
            refuse(f"authorizer {name!r} has payload version {authorizer.payload_version}", "Use version 2.0.")
    for route in spec.routes:
        if route.authorizer is not None and route.authorizer not in spec.authorizers:
            refuse(
                f"route {route.key!r} names an unknown authorizer {route.authorizer!r}", "Define it, or name another."
            )


def _head_bytes(call: Call) -> int:
    line = len(call.method) + len(call.raw_path) + len(call.raw_query)
    return line + sum(len(value) for _, value in call.headers)


def _identity(source: str, event: Mapping[str, Any]) -> str:
    """The value of one identity source; empty when the request has none."""
    kind, _, name = source.rpartition(".")
    if kind == "$request.header":
        return str(event["headers"].get(name.lower(), ""))
    if kind == "$request.querystring":
        return str(event.get("queryStringParameters", {}).get(name, ""))
    if kind == "$stageVariables":
        return str(event.get("stageVariables", {}).get(name, ""))
    return str(event["requestContext"].get(name, "")) if kind == "$context" else ""


def _simple(answer: dict[str, Any]) -> _Verdict:
    if not isinstance(answer["isAuthorized"], bool):
        raise TypeError("isAuthorized isn't a boolean")
    return _Verdict(None if answer["isAuthorized"] else (), (), answer.get("context") or {})


def _policy(answer: dict[str, Any]) -> _Verdict:
    allowed: list[str] = []
    denied: list[str] = []
    for statement in answer["policyDocument"]["Statement"]:
        resources = statement["Resource"]
        target = allowed if statement["Effect"] == "Allow" else denied
        for resource in [resources] if isinstance(resources, str) else resources:
            # IAM knows `*` and `?` only; fnmatch would read brackets as a set.
            target.append(resource.replace("[", "[[]"))
    return _Verdict(tuple(allowed), tuple(denied), answer.get("context") or {})


async def _body(receive: _Receive) -> bytes | None:
    """The body; one byte over the limit stands for all that's longer, and the rest is read and dropped.

    None when the client has hung up before its end.
    """
    parts: list[bytes] = []
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        part, more = message.get("body", b""), message.get("more_body", False)
        if size <= MAX_BODY_BYTES:
            parts.append(part)
        size += len(part)
    return b"".join(parts)[: MAX_BODY_BYTES + 1]


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def _server(app: Any) -> uvicorn.Server:  # noqa: ANN401 - uvicorn's own type has all of ASGI
    # fmt: off
    return uvicorn.Server(uvicorn.Config(
        app, http="httptools", ws="none", lifespan="off", interface="asgi3", log_config=None, access_log=False,
        proxy_headers=False, server_header=False, timeout_keep_alive=_KEEP_ALIVE_SECONDS, timeout_graceful_shutdown=1,
    ))
    # fmt: on
