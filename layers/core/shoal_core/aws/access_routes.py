"""Tokens and the audit record over HTTP."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from aws_lambda_powertools.event_handler.openapi.params import Query
from aws_lambda_powertools.event_handler.router import APIGatewayHttpRouter
from pydantic import BaseModel, ConfigDict

from shoal_core.aws.access import caller_of, source_of, tokens
from shoal_core.aws.audit import Audit
from shoal_core.registry.access import NewToken, TokenView, make_token
from shoal_core.registry.audit import AuditPage, Verification, verify
from shoal_core.registry.openapi import problem_responses

router = APIGatewayHttpRouter()  # type: ignore[no-untyped-call]
PAGE = 1000
WRITES: Any = problem_responses(400, 503)
READS: Any = problem_responses(503)
NOT_FOUND: Any = problem_responses(404, 503)


class TokenRequest(BaseModel):
    """What a new token is for and what it may do."""

    model_config = ConfigDict(extra="forbid")

    name: str
    scopes: list[str]
    days: int | None = None
    per_minute: int | None = None
    per_day: int | None = None


class TokenList(BaseModel):
    """All tokens, newest first."""

    tokens: list[TokenView]


def audited(of: APIGatewayHttpRouter, action: str, subject: str, details: dict[str, Any]) -> None:
    """Put a change into the audit record, by whoever sent the router's request."""
    event = of.current_event.raw_event
    caller = caller_of(event)
    Audit().record(action, subject, caller.id if caller else "nobody", source_of(event), details)


@router.get("/tokens", summary="All tokens, never their secrets", responses=READS)
def get_tokens() -> TokenList:
    """List tokens."""
    return TokenList(tokens=tokens().all())


@router.post("/tokens", summary="Make a token; its text is shown this once", responses=WRITES)
def post_token(body: TokenRequest) -> NewToken:
    """Make a token."""
    caller = caller_of(router.current_event.raw_event)
    by = caller.id if caller else "nobody"
    limits = {"days": body.days, "per_minute": body.per_minute, "per_day": body.per_day}
    view, text, secret_hash = make_token(body.name, body.scopes, by, datetime.now(UTC), **limits)
    # Told before it exists: a token without a record must not be.
    audited(router, "token.created", view.id, {"name": view.name, "scopes": view.scopes, "expires_at": view.expires_at})
    tokens().add(view, secret_hash)
    return NewToken(token=text, id=view.id, name=view.name, scopes=view.scopes, expires_at=view.expires_at)


@router.delete("/tokens/<token_id>", summary="Revoke a token", responses=NOT_FOUND)
def delete_token(token_id: str) -> TokenView:
    """Revoke a token; within a minute nothing accepts it."""
    view = tokens().revoke(token_id)
    audited(router, "token.revoked", view.id, {"name": view.name})
    return view


@router.get("/audit", summary="The audit record, in order", responses=WRITES)
def get_audit(after: Annotated[int, Query(ge=0)] = 0, limit: Annotated[int, Query(ge=1, le=PAGE)] = PAGE) -> AuditPage:
    """Show entries after a number."""
    entries = []
    for entry in Audit().entries(after):
        entries.append(entry)
        if len(entries) == limit:
            return AuditPage(entries=entries, next_after=entry.number)
    return AuditPage(entries=entries)


@router.get("/audit/verification", summary="Whether the audit record is whole", responses=READS)
def get_verification() -> Verification:
    """Check the chain from its first entry."""
    return verify(Audit().entries())
