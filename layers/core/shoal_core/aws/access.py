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
from typing import TYPE_CHECKING, Any

from aws_lambda_powertools.event_handler import ApiGatewayResolver, Response

from shoal_core.aws.config import environment
from shoal_core.aws.handler import logger
from shoal_core.aws.secrets import api_token
from shoal_core.aws.tokens import Tokens
from shoal_core.errors import Unavailable
from shoal_core.registry.access import ADMIN, ROOT, Caller, is_valid, parse_token, require
from shoal_core.registry.jwt_claims import JwtRefused

if TYPE_CHECKING:
    from shoal_core.aws.oidc import Issuer

SCHEME = "bearer "
LIMITS = ("per_minute", "per_day", "per_month")


@cache
def tokens() -> Tokens:
    """The tokens of this stack."""
    return Tokens()


@cache
def _issuer() -> Issuer | None:
    settings = environment().oidc()
    if not settings.is_on:
        return None
    # Only authorize has PyJWT, and only where JWTs are on is it needed.
    from shoal_core.aws.oidc import Issuer

    return Issuer(settings)


def authenticate(header: str) -> Caller | None:
    """The caller that an `Authorization` header proves, or None: the stack's own token, one of its tokens, or a JWT.

    Raises:
        Unavailable: It can't be told, since the OIDC issuer or a service doesn't answer.
    """
    given = _bearer(header)
    if parse_token(given) is not None:
        return token_caller(header)
    issuer = _issuer() if given.count(".") == 2 else None
    if issuer is not None:
        return _jwt_caller(issuer, given)
    same = hmac.compare_digest(_digest(given), _digest(api_token()))
    return Caller(ROOT, (ADMIN,)) if same and given else None


def token_caller(header: str) -> Caller | None:
    """The caller that a token of the catalog in an `Authorization` header proves, or None."""
    parsed = parse_token(_bearer(header))
    found = tokens().find(parsed[0]) if parsed else None
    if parsed is None or found is None or not is_valid(*found, parsed[1], datetime.now(UTC)):
        return None
    record = found[0]
    caller = Caller(record.id, tuple(record.scopes), record.per_minute, record.per_day, record.per_month)
    return _with_plan(caller, record.plan)


def _jwt_caller(issuer: Issuer, given: str) -> Caller | None:
    try:
        return _with_plan(issuer.caller(given), environment().oidc_plan)
    except JwtRefused as refused:
        logger.warning("JWT refused", extra={"reason": str(refused)})
        return None


def _with_plan(caller: Caller, name: str | None) -> Caller:
    """A caller with its plan's limits. Raises `Unavailable` where there is no such plan: nobody is let in unlimited."""
    if not name:
        return caller
    plan = tokens().plan(name)
    if plan is None:
        raise Unavailable(f"Plan {name!r} doesn't exist.", f"Make it: `shoal plan set {name} --per-minute N`.")
    return caller.with_plan(plan)


def _bearer(header: str) -> str:
    return header[len(SCHEME) :].strip() if header.lower().startswith(SCHEME) else ""


def authorizer_answer(caller: Caller | None) -> dict[str, Any]:
    """What the authorizer answers (simple response); the context goes with the request to the function."""
    if caller is None:
        return {"isAuthorized": False}
    limits = {name: getattr(caller, name) or 0 for name in LIMITS}
    return {"isAuthorized": True, "context": {"token": caller.id, "scopes": " ".join(caller.scopes), **limits}}


def caller_of(event: Mapping[str, Any]) -> Caller | None:
    """The caller of an HTTP API request, as the authorizer's context says; None on a route without one.

    `sam local start-api` leaves the authorizer out (and tells so when it starts), so there everybody is the stack's own
    token; Lambda never sets `AWS_SAM_LOCAL`.
    """
    context = ((event.get("requestContext") or {}).get("authorizer") or {}).get("lambda") or {}
    if not context.get("token"):
        return Caller(ROOT, (ADMIN,)) if os.environ.get("AWS_SAM_LOCAL") == "true" else None
    limits = {name: int(context.get(name) or 0) or None for name in LIMITS}
    return Caller(str(context["token"]), tuple(str(context["scopes"]).split()), **limits)


def source_of(event: Mapping[str, Any]) -> str:
    """The IP address that a request came from."""
    return str(((event.get("requestContext") or {}).get("http") or {}).get("sourceIp", ""))


def checks_access(app: ApiGatewayResolver) -> None:
    """Make a resolver answer only what its caller may ask, as often as it may."""

    def check(app: ApiGatewayResolver, next_middleware: Callable[..., Response[Any]]) -> Response[Any]:
        event = app.current_event
        caller = caller_of(event.raw_event)
        require(caller, event.http_method, event.path)
        if caller is not None and caller.is_limited:
            tokens().count_request(caller)
        return next_middleware(app)

    app.use(middlewares=[check])


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
