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
from dataclasses import dataclass
from datetime import datetime, timedelta

from pydantic import BaseModel, ConfigDict, Field

from shoal_core.errors import BadRequest, NotPermitted

ADMIN = "admin"
READ = "read"
DATA_WRITE = "data:write"
PREDICT = "predict:"
OPEN_PATHS = frozenset({"/healthz", "/openapi.json"})
MAX_DAYS = 3650
MAX_SCOPES = 50
ROOT = "root"
"""The id of the stack's own token, which is kept in Secrets Manager and may do everything."""
_TOKEN = re.compile(r"shoal_([a-z0-9]{12})_([A-Za-z0-9_-]{43})")
_SCOPE = re.compile(r"admin|read|data:write|predict:(\*|[A-Za-z0-9][A-Za-z0-9._-]{0,63})")
_ID_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"


class _Record(BaseModel):
    # Not the catalog's base: authorize and predict would build all of its models at every cold start.
    model_config = ConfigDict(frozen=True, extra="forbid")


class TokenView(_Record):
    """A token as it is shown: never its secret."""

    id: str
    name: str
    scopes: list[str]
    created_at: str
    created_by: str
    expires_at: str | None = None
    revoked_at: str | None = None
    per_minute: int | None = Field(default=None, description="requests per minute that it may make")
    per_day: int | None = Field(default=None, description="requests per day (UTC) that it may make")


class NewToken(_Record):
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


def make_token(
    name: str,
    scopes: Sequence[str],
    created_by: str,
    moment: datetime,
    days: int | None = None,
    per_minute: int | None = None,
    per_day: int | None = None,
) -> tuple[TokenView, str, str]:
    """A new token.

    Args:
        name: What it is for.
        scopes: What it may do.
        created_by: Id of the token that asks for it.
        moment: Now, in UTC.
        days: After how many days it expires; None is never.
        per_minute: Requests per minute; None is no limit.
        per_day: Requests per day; None is no limit.

    Returns:
        Its record, its text, and the hash of its secret.

    Raises:
        BadRequest: A scope that doesn't exist, or a number out of bounds.
    """
    _check(name, scopes, days, per_minute, per_day)
    identity = "".join(secrets.choice(_ID_LETTERS) for _ in range(12))
    secret = secrets.token_urlsafe(32)
    record = TokenView(
        id=identity,
        name=name,
        scopes=sorted(set(scopes)),
        created_at=moment.isoformat(timespec="seconds"),
        created_by=created_by,
        expires_at=(moment + timedelta(days=days)).isoformat(timespec="seconds") if days else None,
        per_minute=per_minute,
        per_day=per_day,
    )
    return record, f"shoal_{identity}_{secret}", hash_secret(secret)


def parse_token(text: str) -> tuple[str, str] | None:
    """(id, secret) of a token's text; None for anything else."""
    found = _TOKEN.fullmatch(text)
    return (found[1], found[2]) if found else None


def hash_secret(secret: str) -> str:
    """What is kept of a secret: its sha256 (hex)."""
    return hashlib.sha256(secret.encode()).hexdigest()


def is_valid(record: TokenView, kept_hash: str, secret: str, moment: datetime) -> bool:
    """Whether a secret is the token's, and the token is neither expired nor revoked. Compares in constant time."""
    matches = hmac.compare_digest(kept_hash, hash_secret(secret))
    expired = record.expires_at is not None and moment >= datetime.fromisoformat(record.expires_at)
    return matches and not expired and record.revoked_at is None


def required_scope(method: str, path: str) -> str | None:
    """The scope that a request needs; None for what everybody may see.

    A model's own name in the path decides which `predict:` it is; what changes anything else needs `admin`.
    """
    parts = [part for part in path.split("/") if part]
    if path in OPEN_PATHS:
        return None
    if parts[:1] == ["v2"]:
        return PREDICT + parts[2] if len(parts) > 2 and parts[1] == "models" else READ
    if method == "POST" and len(parts) == 3 and parts[0] == "models" and parts[2] == "predict":
        return PREDICT + parts[1]
    if parts[:1] in (["tokens"], ["audit"]):
        return ADMIN
    if method in ("GET", "HEAD"):
        return READ
    return DATA_WRITE if parts[:1] in (["datasets"], ["runs"]) else ADMIN


def allows(scopes: Iterable[str], required: str | None) -> bool:
    """Whether one of the scopes covers the required one. Whoever may predict may also ask a server for its health."""
    held = set(scopes)
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


def _check(name: str, scopes: Sequence[str], days: int | None, per_minute: int | None, per_day: int | None) -> None:
    if not name.strip() or len(name) > 100:
        raise BadRequest("A token needs a name of 1 to 100 characters.", "Say what it is for.")
    if not scopes or len(scopes) > MAX_SCOPES:
        raise BadRequest(f"A token needs 1 to {MAX_SCOPES} scopes.", "Give read, predict:MODEL, data:write or admin.")
    for scope in scopes:
        if not _SCOPE.fullmatch(scope):
            raise BadRequest(
                f"There is no scope {scope[:100]!r}.",
                "Scopes are admin, read, data:write, predict:MODEL and predict:*.",
            )
    for what, value, most in (("days", days, MAX_DAYS), ("per_minute", per_minute, 10**6), ("per_day", per_day, 10**9)):
        if value is not None and not 1 <= value <= most:
            raise BadRequest(f"{what} is {value}.", f"Use 1 to {most:,}, or leave it out.")
