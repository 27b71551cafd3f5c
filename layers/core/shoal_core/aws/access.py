"""Who sent a request, and whether it may be answered: the authorizer's half and the API's half.

The authorizer says who the caller is, and the gateway keeps its answer for a minute; what a caller may do depends on
the path, so the function that answers decides that, and counts requests of tokens that have limits.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import cache
from typing import Any

from aws_lambda_powertools.event_handler import ApiGatewayResolver, Response

from shoal_core.aws.secrets import api_token
from shoal_core.aws.tokens import Tokens
from shoal_core.registry.access import ADMIN, ROOT, Caller, is_valid, parse_token, require

SCHEME = "bearer "


@cache
def tokens() -> Tokens:
    """The tokens of this stack."""
    return Tokens()


def authenticate(header: str) -> Caller | None:
    """The caller that an `Authorization` header proves, or None."""
    given = header[len(SCHEME) :].strip() if header.lower().startswith(SCHEME) else ""
    parsed = parse_token(given)
    if parsed is None:
        same = hmac.compare_digest(_digest(given), _digest(api_token()))
        return Caller(ROOT, (ADMIN,)) if same and given else None
    identity, secret = parsed
    found = tokens().find(identity)
    if found is None or not is_valid(*found, secret, datetime.now(UTC)):
        return None
    record = found[0]
    return Caller(record.id, tuple(record.scopes), record.per_minute, record.per_day)


def authorizer_answer(caller: Caller | None) -> dict[str, Any]:
    """What the authorizer answers (simple response); the context goes with the request to the function."""
    if caller is None:
        return {"isAuthorized": False}
    limits = {"per_minute": caller.per_minute or 0, "per_day": caller.per_day or 0}
    return {"isAuthorized": True, "context": {"token": caller.id, "scopes": " ".join(caller.scopes), **limits}}


def caller_of(event: Mapping[str, Any]) -> Caller | None:
    """The caller of an HTTP API request, as the authorizer's context says; None on a route without one.

    `sam local start-api` leaves the authorizer out (and tells so when it starts), so there everybody is the stack's own
    token; Lambda never sets `AWS_SAM_LOCAL`.
    """
    context = ((event.get("requestContext") or {}).get("authorizer") or {}).get("lambda") or {}
    if not context.get("token"):
        return Caller(ROOT, (ADMIN,)) if os.environ.get("AWS_SAM_LOCAL") == "true" else None
    per_minute, per_day = int(context.get("per_minute") or 0), int(context.get("per_day") or 0)
    return Caller(str(context["token"]), tuple(str(context["scopes"]).split()), per_minute or None, per_day or None)


def source_of(event: Mapping[str, Any]) -> str:
    """The IP address that a request came from."""
    return str(((event.get("requestContext") or {}).get("http") or {}).get("sourceIp", ""))


def checks_access(app: ApiGatewayResolver) -> None:
    """Make a resolver answer only what its caller may ask, as often as it may."""

    def check(app: ApiGatewayResolver, next_middleware: Callable[..., Response[Any]]) -> Response[Any]:
        event = app.current_event
        caller = caller_of(event.raw_event)
        require(caller, event.http_method, event.path)
        if caller is not None and (caller.per_minute or caller.per_day):
            tokens().count_request(caller)
        return next_middleware(app)

    app.use(middlewares=[check])


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
