"""Who may do what: tokens with scopes, and the scope that each request needs.

A token is `shoal_<id>_<secret>`. Only a hash of the secret is kept: it has 256 random bits, so a fast hash is enough.
Scopes: `admin` (everything), `read` (whatever only shows), `predict:<model>` or `predict:*`, `data:write`.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from pydantic import Field

from shoal_core.errors import BadRequest, NotPermitted
from shoal_core.frozen import Frozen

ADMIN = "admin"
READ = "read"
DATA_WRITE = "data:write"
PREDICT = "predict:"
HEALTH = "read or predict:MODEL"
"""What the health of the server and what it is need: no scope of its own."""
_HEALTH = (["v2"], ["v2", "health", "live"], ["v2", "health", "ready"])
# `/ping` is a load balancer's health check; `/invocations` without a model only tells what is missing.
OPEN_PATHS = frozenset({"/healthz", "/openapi.json", "/ping", "/invocations"})
MAX_DAYS = 3650
MAX_SCOPES = 50
ROOT = "root"
"""The id of the stack's own token, which is kept in Secrets Manager and may do everything."""
MAX_GRACE_HOURS = 168
"""How long the secret before may be accepted after a rotation, at the most."""
_PLAN = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")
_TOKEN = re.compile(r"shoal_([a-z0-9]{12})_([A-Za-z0-9_-]{43})")
_SCOPE = re.compile(r"admin|read|data:write|predict:(\*|[A-Za-z0-9][A-Za-z0-9._-]{0,63})")
_ID_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"


class TokenView(Frozen):
    """A token as it is shown: never its secret."""

    id: str
    name: str
    scopes: list[str]
    created_at: str
    created_by: str
    expires_at: str | None = None
    revoked_at: str | None = None
    rotated_at: str | None = Field(default=None, description="when its secret was last replaced")
    previous_until: str | None = Field(default=None, description="until when the secret before is accepted, too")
    plan: str | None = Field(default=None, description="the plan whose limits it has, where it has none of its own")
    per_minute: int | None = Field(default=None, description="requests per minute that it may make")
    per_day: int | None = Field(default=None, description="requests per day (UTC) that it may make")
    per_month: int | None = Field(default=None, description="requests per month (UTC) that it may make")


class Plan(Frozen):
    """A usage plan: limits that each of its tokens has. A change of the plan holds for all of them within a minute."""

    name: str
    created_at: str
    per_minute: int | None = None
    per_day: int | None = None
    per_month: int | None = None


class NewToken(Frozen):
    """A token just made: the only time that its text is shown."""

    token: str
    id: str
    name: str
    scopes: list[str]
    expires_at: str | None


@dataclass(frozen=True)
class Caller:
    """Who sent a request, as the authorizer says."""

    id: str
    scopes: tuple[str, ...]
    per_minute: int | None = None
    per_day: int | None = None
    per_month: int | None = None

    @property
    def is_limited(self) -> bool:
        """Whether its requests are counted."""
        return any((self.per_minute, self.per_day, self.per_month))

    def with_plan(self, plan: Plan | None) -> Caller:
        """The caller with a plan's limits where it has none of its own."""
        if plan is None:
            return self
        return replace(
            self,
            per_minute=self.per_minute or plan.per_minute,
            per_day=self.per_day or plan.per_day,
            per_month=self.per_month or plan.per_month,
        )


@dataclass(frozen=True)
class TokenWish:
    """What a new token should be.

    Attributes:
        name: What it is for.
        scopes: What it may do.
        days: After how many days it expires; None is never.
        plan: The plan that it belongs to; None is none.
        per_minute: Requests per minute; None is no limit, or the plan's.
        per_day: Requests per day; None is no limit, or the plan's.
        per_month: Requests per month; None is no limit, or the plan's.
    """

    name: str
    scopes: Sequence[str]
    days: int | None = None
    plan: str | None = None
    per_minute: int | None = None
    per_day: int | None = None
    per_month: int | None = None


def make_token(wish: TokenWish, created_by: str, moment: datetime) -> tuple[TokenView, str, str]:
    """A new token.

    Args:
        wish: What it should be.
        created_by: Id of the token that asks for it.
        moment: Now, in UTC.

    Returns:
        Its record, its text, and the hash of its secret.

    Raises:
        BadRequest: A scope that doesn't exist, or a number out of bounds.
    """
    _check(wish)
    identity = "".join(secrets.choice(_ID_LETTERS) for _ in range(12))
    text, secret_hash = new_secret(identity)
    record = TokenView(
        id=identity,
        name=wish.name,
        scopes=sorted(set(wish.scopes)),
        created_at=moment.isoformat(timespec="seconds"),
        created_by=created_by,
        expires_at=_later(moment, days=wish.days) if wish.days else None,
        plan=wish.plan,
        per_minute=wish.per_minute,
        per_day=wish.per_day,
        per_month=wish.per_month,
    )
    return record, text, secret_hash


def new_secret(identity: str) -> tuple[str, str]:
    """(text, hash of the secret) of a token with a new secret."""
    secret = secrets.token_urlsafe(32)
    return f"shoal_{identity}_{secret}", hash_secret(secret)


def grace_end(hours: int, moment: datetime) -> str:
    """Until when the secret before a rotation is accepted. Raises `BadRequest`."""
    if not 0 <= hours <= MAX_GRACE_HOURS:
        raise BadRequest(f"grace_hours is {hours}.", f"Use 0 to {MAX_GRACE_HOURS}; the old secret is accepted so long.")
    return _later(moment, hours=hours)


def make_plan(name: str, per_minute: int | None, per_day: int | None, per_month: int | None, moment: datetime) -> Plan:
    """A usage plan. Raises `BadRequest` for a name or number out of bounds, or no limit at all."""
    if not _PLAN.fullmatch(name):
        raise BadRequest(f"There can't be a plan {name[:100]!r}.", "Use 1 to 40 of a-z, 0-9 and -.")
    if per_minute is None and per_day is None and per_month is None:
        raise BadRequest(f"Plan {name!r} has no limit.", "Give per_minute, per_day or per_month.")
    _check_numbers(per_minute=per_minute, per_day=per_day, per_month=per_month)
    created_at = moment.isoformat(timespec="seconds")
    return Plan(name=name, created_at=created_at, per_minute=per_minute, per_day=per_day, per_month=per_month)


def is_scope(text: str) -> bool:
    """Whether there is such a scope."""
    return _SCOPE.fullmatch(text) is not None


def parse_token(text: str) -> tuple[str, str] | None:
    """(id, secret) of a token's text; None for anything else."""
    found = _TOKEN.fullmatch(text)
    return (found[1], found[2]) if found else None


def hash_secret(secret: str) -> str:
    """What is kept of a secret: its sha256 (hex)."""
    return hashlib.sha256(secret.encode()).hexdigest()


def is_valid(record: TokenView, kept_hash: str, previous_hash: str, secret: str, moment: datetime) -> bool:
    """Whether a secret is the token's, and the token is neither expired nor revoked. Compares in constant time.

    Args:
        record: The token.
        kept_hash: The hash of its secret.
        previous_hash: The hash of the secret before, which is accepted until `previous_until`; empty for none.
        secret: The secret that was sent.
        moment: Now, in UTC.
    """
    given = hash_secret(secret)
    matches = hmac.compare_digest(kept_hash, given)
    in_grace = record.previous_until is not None and moment < datetime.fromisoformat(record.previous_until)
    matches_before = hmac.compare_digest(previous_hash, given) and in_grace
    expired = record.expires_at is not None and moment >= datetime.fromisoformat(record.expires_at)
    return (matches or matches_before) and not expired and record.revoked_at is None


def required_scope(method: str, path: str) -> str | None:
    """The scope that a request needs; None for what everybody may see.

    A model's own name in the path decides which `predict:` it is; what changes anything else needs `admin`.
    """
    parts = [part for part in path.split("/") if part]
    if path in OPEN_PATHS:
        return None
    if method in ("GET", "HEAD") and parts in _HEALTH:
        return HEALTH
    if parts[:1] == ["v2"]:
        return PREDICT + parts[2] if len(parts) > 2 and parts[1] == "models" else READ
    if method == "POST" and len(parts) == 3 and parts[0] == "models" and parts[2] == "predict":
        return PREDICT + parts[1]
    if parts[:1] in (["tokens"], ["plans"], ["audit"]):
        return ADMIN
    if method in ("GET", "HEAD"):
        return READ
    return DATA_WRITE if parts[:1] in (["datasets"], ["runs"], ["tunings"]) else ADMIN


def allows(scopes: Iterable[str], required: str | None) -> bool:
    """Whether one of the scopes covers the required one. Whoever may predict may also ask a server for its health."""
    held = set(scopes)
    if required == HEALTH:
        return READ in held or ADMIN in held or any(scope.startswith(PREDICT) for scope in held)
    if required is None or ADMIN in held or required in held:
        return True
    if required.startswith(PREDICT):
        return f"{PREDICT}*" in held
    return False


def require(caller: Caller | None, method: str, path: str) -> None:
    """Raise `NotPermitted` when the caller may not send the request."""
    required = required_scope(method, path)
    if required is None or (caller is not None and allows(caller.scopes, required)):
        return
    who = f"Token {caller.id!r}" if caller is not None else "The request"
    raise NotPermitted(
        f"{who} lacks the scope {required!r}, which {method} {path[:200]} needs.",
        "Use a token that has it: `shoal token create NAME --scope SCOPE`.",
    )


def _check(wish: TokenWish) -> None:
    if not wish.name.strip() or len(wish.name) > 100:
        raise BadRequest("A token needs a name of 1 to 100 characters.", "Say what it is for.")
    if not wish.scopes or len(wish.scopes) > MAX_SCOPES:
        raise BadRequest(f"A token needs 1 to {MAX_SCOPES} scopes.", "Give read, predict:MODEL, data:write or admin.")
    for scope in wish.scopes:
        if not is_scope(scope):
            raise BadRequest(
                f"There is no scope {scope[:100]!r}.",
                "Scopes are admin, read, data:write, predict:MODEL and predict:*.",
            )
    _check_numbers(days=wish.days, per_minute=wish.per_minute, per_day=wish.per_day, per_month=wish.per_month)


_MOST = {"days": MAX_DAYS, "per_minute": 10**6, "per_day": 10**9, "per_month": 10**10}


def _check_numbers(**values: int | None) -> None:
    for what, value in values.items():
        if value is not None and not 1 <= value <= _MOST[what]:
            raise BadRequest(f"{what} is {value}.", f"Use 1 to {_MOST[what]:,}, or leave it out.")


def _later(moment: datetime, **span: int) -> str:
    return (moment + timedelta(**span)).isoformat(timespec="seconds")
