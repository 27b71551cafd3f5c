"""Tokens and the audit record over HTTP."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from aws_lambda_powertools.event_handler.openapi.params import Query
from aws_lambda_powertools.event_handler.router import APIGatewayHttpRouter
from pydantic import BaseModel, ConfigDict

from shoal_core.aws.access import caller_of, source_of, tokens
from shoal_core.aws.audit import Audit
from shoal_core.errors import BadRequest
from shoal_core.registry.access import (
    NewToken,
    Plan,
    TokenView,
    TokenWish,
    grace_end,
    make_plan,
    make_token,
    new_secret,
)
from shoal_core.registry.audit import AuditPage, Verification, verify
from shoal_core.registry.openapi import answers

router = APIGatewayHttpRouter()  # type: ignore[no-untyped-call]
PAGE = 1000
WRITES: Any = answers(400, 503)
READS: Any = answers(503)
NOT_FOUND: Any = answers(404, 503)
CHANGES: Any = answers(400, 404, 409, 503)


class TokenRequest(BaseModel):
    """What a new token is for and what it may do."""

    model_config = ConfigDict(extra="forbid")

    name: str
    scopes: list[str]
    days: int | None = None
    plan: str | None = None
    per_minute: int | None = None
    per_day: int | None = None
    per_month: int | None = None


class RotationRequest(BaseModel):
    """How long the secret before is accepted beside the new one."""

    model_config = ConfigDict(extra="forbid")

    grace_hours: int = 24


class PlanRequest(BaseModel):
    """What each token of a plan may do."""

    model_config = ConfigDict(extra="forbid")

    per_minute: int | None = None
    per_day: int | None = None
    per_month: int | None = None


class PlanList(BaseModel):
    """All plans, by name."""

    plans: list[Plan]


class TokenList(BaseModel):
    """All tokens, newest first."""

    tokens: list[TokenView]


def audited(of: APIGatewayHttpRouter, action: str, subject: str, details: dict[str, Any]) -> None:
    """Put a change into the audit record, by whoever sent the router's request."""
    Audit().record(action, subject, *sender(of), details)


def sender(of: APIGatewayHttpRouter) -> tuple[str, str]:
    """Who sent the router's request, and from where."""
    event = of.current_event.raw_event
    caller = caller_of(event)
    return caller.id if caller else "nobody", source_of(event)


@router.get("/tokens", summary="All tokens, never their secrets", responses=READS)
def get_tokens() -> TokenList:
    """List tokens."""
    return TokenList(tokens=tokens().all())


@router.post("/tokens", summary="Make a token; its text is shown this once", responses=WRITES)
def post_token(body: TokenRequest) -> NewToken:
    """Make a token."""
    caller = caller_of(router.current_event.raw_event)
    if body.plan is not None and tokens().plan(body.plan) is None:
        raise BadRequest(f"There is no plan {body.plan[:100]!r}.", "See GET /plans, or make it with PUT /plans/NAME.")
    wish = TokenWish(**body.model_dump())
    view, text, secret_hash = make_token(wish, caller.id if caller else "nobody", datetime.now(UTC))
    # Told before it exists: a token without a record must not be.
    audited(router, "token.created", view.id, {"name": view.name, "scopes": view.scopes, "expires_at": view.expires_at})
    tokens().add(view, secret_hash)
    return _shown(view, text)


@router.post("/tokens/<token_id>/rotation", summary="Give a token a new secret, shown this once", responses=CHANGES)
def post_rotation(token_id: str, body: RotationRequest) -> NewToken:
    """Rotate a token; the secret before is accepted for the grace time."""
    until = grace_end(body.grace_hours, datetime.now(UTC))
    text, secret_hash = new_secret(token_id)
    view = tokens().rotate(token_id, secret_hash, until)
    audited(router, "token.rotated", view.id, {"name": view.name, "previous_until": until})
    return _shown(view, text)


@router.get("/plans", summary="All usage plans", responses=READS)
def get_plans() -> PlanList:
    """List plans."""
    return PlanList(plans=tokens().plans())


@router.put("/plans/<name>", summary="Make a usage plan, or change its limits", responses=WRITES)
def put_plan(name: str, body: PlanRequest) -> Plan:
    """Keep a plan; its tokens have its limits within a minute."""
    plan = make_plan(name, body.per_minute, body.per_day, body.per_month, datetime.now(UTC))
    tokens().put_plan(plan)
    audited(router, "plan.set", name, body.model_dump())
    return plan


@router.delete("/tokens/<token_id>", summary="Revoke a token", responses=NOT_FOUND)
def delete_token(token_id: str) -> TokenView:
    """Revoke a token; within a minute nothing accepts it."""
    view = tokens().revoke(token_id)
    audited(router, "token.revoked", view.id, {"name": view.name})
    return view


def _shown(view: TokenView, text: str) -> NewToken:
    return NewToken(token=text, id=view.id, name=view.name, scopes=view.scopes, expires_at=view.expires_at)


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
