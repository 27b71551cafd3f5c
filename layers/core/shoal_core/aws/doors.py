"""Every door to the data plane is the HTTP API's: other events, and other servers' paths, are turned into its form.

| door | event | who the caller is |
|---|---|---|
| HTTP API | payload format 2.0 | what the authorizer says |
| Function URL (`AWS_IAM`) | payload format 2.0, `requestContext.authorizer.iam` | an IAM principal, which IAM let in |
| Application Load Balancer | `requestContext.elb`, headers once or as lists | a token of the catalog, checked here |

SageMaker's `POST /invocations` and `POST /endpoints/{name}/invocations` become `POST /models/{name}/predict`.
Sources: https://docs.aws.amazon.com/lambda/latest/dg/urls-invocation.html,
https://docs.aws.amazon.com/elasticloadbalancing/latest/application/lambda-functions.html,
https://docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-inference-code.html
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import quote, unquote_plus

from shoal_core.aws.access import authorizer_answer, token_caller
from shoal_core.aws.config import environment
from shoal_core.errors import BadRequest

TARGET_MODEL = "x-amzn-sagemaker-target-model"
CUSTOM_ATTRIBUTES = "x-amzn-sagemaker-custom-attributes"
KEPT_SECONDS = 60.0
_ARCHIVE = ".tar.gz"
_KEPT: dict[str, tuple[float, dict[str, Any]]] = {}
_MOST_KEPT = 1000

Event = dict[str, Any]


def answered(event: Event, answer: Callable[[Event], dict[str, Any]]) -> dict[str, Any]:
    """Answer a request of any door.

    Args:
        event: What Lambda was given.
        answer: Answers an HTTP API request (payload format 2.0).
    """
    balancer = "elb" in (event.get("requestContext") or {})
    request = _from_load_balancer(event) if balancer else _from_function_url(event)
    attributes = request["headers"].get(CUSTOM_ATTRIBUTES)
    found = answer(_sagemaker(request))
    if attributes is not None and attributes.isascii() and attributes.isprintable():
        found["headers"] = {**(found.get("headers") or {}), "X-Amzn-SageMaker-Custom-Attributes": attributes[:1024]}
    return _to_load_balancer(found, "multiValueHeaders" in event) if balancer else found


def target_model(headers: Mapping[str, str]) -> str:
    """The model that `/invocations` means: the header's, as multi-model endpoints name it, or the stack's default.

    Raises:
        BadRequest: Neither names one.
    """
    name = headers.get(TARGET_MODEL) or environment().default_model
    if not name:
        raise BadRequest(
            "The request names no model.",
            "Send the header X-Amzn-SageMaker-Target-Model: NAME, or deploy with the parameter DefaultModel.",
        )
    return name.removesuffix(_ARCHIVE)


def _sagemaker(event: Event) -> Event:
    """The same request under our own path."""
    method, path = event["requestContext"]["http"]["method"], event["rawPath"]
    if method != "POST" or not path.endswith("/invocations"):
        return event
    parts = path.strip("/").split("/")
    if parts == ["invocations"]:
        try:
            name = target_model(event["headers"])
        except BadRequest:
            return event  # the route of this path tells the same as a problem
    elif len(parts) == 3 and parts[0] == "endpoints":
        name = parts[1]
    else:
        return event
    path = f"/models/{quote(name, safe='')}/predict"
    context = {**event["requestContext"], "http": {**event["requestContext"]["http"], "path": path}}
    return {**event, "rawPath": path, "requestContext": context}


def _from_function_url(event: Event) -> Event:
    """An HTTP API request stays as it is; of a Function URL's, IAM has checked the caller."""
    event = {**event, "headers": event.get("headers") or {}}
    authorizer = event["requestContext"].get("authorizer") or {}
    iam = authorizer.get("iam")
    if not iam or "lambda" in authorizer:
        return event
    who = {"token": f"iam:{iam.get('userArn') or iam.get('userId')}", "scopes": "read predict:*"}
    return {**event, "requestContext": {**event["requestContext"], "authorizer": {**authorizer, "lambda": who}}}


def _from_load_balancer(event: Event) -> Event:
    many: Mapping[str, list[str]] = event.get("multiValueHeaders") or {}
    headers = {name.lower(): ",".join(values) for name, values in many.items()}
    headers |= {name.lower(): value for name, value in (event.get("headers") or {}).items()}
    queries: Mapping[str, list[str]] = event.get("multiValueQueryStringParameters") or {
        name: [value] for name, value in (event.get("queryStringParameters") or {}).items()
    }
    # A load balancer hands the query over as it came; the HTTP API decodes it.
    query = {unquote_plus(name): ",".join(map(unquote_plus, values)) for name, values in queries.items()}
    path, source = event.get("path") or "/", headers.get("x-forwarded-for", "").rpartition(",")[2].strip()
    http = {
        "method": event.get("httpMethod", "GET"),
        "path": path,
        "protocol": "HTTP/1.1",
        "sourceIp": source,
        "userAgent": headers.get("user-agent", ""),
    }
    context = {
        "http": http,
        "stage": "$default",
        "domainName": headers.get("host", ""),
        "requestId": headers.get("x-amzn-trace-id", ""),
        "authorizer": {"lambda": _authenticated(headers.get("authorization", ""))},
    }
    return {
        "version": "2.0",
        "rawPath": path,
        "rawQueryString": "&".join(f"{name}={value}" for name, values in queries.items() for value in values),
        "queryStringParameters": query,
        "headers": headers,
        "body": event.get("body") or "",
        "isBase64Encoded": bool(event.get("isBase64Encoded")),
        "requestContext": context,
    }


def _authenticated(header: str) -> dict[str, Any]:
    """The caller's context, as an authorizer would give it; kept for a minute, as the HTTP API keeps it."""
    if not header:
        return {}
    kept = _KEPT.get(header)
    if kept is not None and kept[0] > time.monotonic():
        return kept[1]
    found: dict[str, Any] = authorizer_answer(token_caller(header)).get("context") or {}
    if len(_KEPT) >= _MOST_KEPT:
        _KEPT.clear()
    _KEPT[header] = (time.monotonic() + KEPT_SECONDS, found)
    return found


def _to_load_balancer(answer: dict[str, Any], multi_value: bool) -> dict[str, Any]:
    """An answer as a load balancer wants it: with a status line, and headers in the form of its own."""
    status = int(answer["statusCode"])
    headers = {name: str(value) for name, value in (answer.get("headers") or {}).items()}
    many = {name: [value] for name, value in headers.items()}
    return {
        "statusCode": status,
        "statusDescription": f"{status} {HTTPStatus(status).phrase}",
        "isBase64Encoded": bool(answer.get("isBase64Encoded")),
        "body": answer.get("body") or "",
        **({"multiValueHeaders": many} if multi_value else {"headers": headers}),
    }
