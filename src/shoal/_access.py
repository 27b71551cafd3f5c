"""Tokens and the audit record, as the API tells them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from shoal.connection import Connection

GENESIS = "0" * 64


class Access:
    """Who may use a cloud's API, and who changed what.

    Args:
        connection: The cloud; its token needs the scope `admin`.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def create_token(
        self,
        name: str,
        scopes: Sequence[str],
        *,
        days: int | None = None,
        plan: str | None = None,
        per_minute: int | None = None,
        per_day: int | None = None,
        per_month: int | None = None,
    ) -> dict[str, Any]:
        """Make a token.

        Args:
            name: What it is for.
            scopes: `admin`, `read`, `data:write`, `predict:MODEL` or `predict:*`.
            days: After how many days it expires; None is never.
            plan: The usage plan that it belongs to; None is none.
            per_minute: Requests per minute; None is no limit, or the plan's.
            per_day: Requests per day; None is no limit, or the plan's.
            per_month: Requests per month; None is no limit, or the plan's.

        Returns:
            `token` (its text, shown this once), `id`, `name`, `scopes`, `expires_at`.

        Raises:
            BadRequest: A scope that doesn't exist, or a number out of bounds.
        """
        limits = {"per_minute": per_minute, "per_day": per_day, "per_month": per_month}
        wishes = {"days": days, "plan": plan, **limits}
        body = {"name": name, "scopes": list(scopes), **{key: value for key, value in wishes.items() if value}}
        return self._send("POST", "/tokens", body)

    def rotate_token(self, token_id: str, grace_hours: int = 24) -> dict[str, Any]:
        """Give a token a new secret; the one before is accepted for the grace time.

        Args:
            token_id: Its id.
            grace_hours: 0 to 168.

        Returns:
            As `create_token`.

        Raises:
            NotFound: No such token.
            BadRequest: It is revoked, or the number is out of bounds.
        """
        return self._send("POST", f"/tokens/{quote(token_id, safe='')}/rotation", {"grace_hours": grace_hours})

    def set_plan(
        self, name: str, *, per_minute: int | None = None, per_day: int | None = None, per_month: int | None = None
    ) -> dict[str, Any]:
        """Make a usage plan, or change the limits of each of its tokens. Raises `BadRequest`."""
        limits = {"per_minute": per_minute, "per_day": per_day, "per_month": per_month}
        return self._send("PUT", f"/plans/{quote(name, safe='')}", limits)

    def plans(self) -> list[dict[str, Any]]:
        """All usage plans, by name."""
        return list(self._connection.request("GET", "/plans")["plans"])

    def _send(self, method: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
        data = json.dumps(body).encode()
        return self._connection.request(method, path, body=data, content_type="application/json")

    def tokens(self) -> list[dict[str, Any]]:
        """All tokens, newest first, without their secrets."""
        return list(self._connection.request("GET", "/tokens")["tokens"])

    def revoke_token(self, token_id: str) -> dict[str, Any]:
        """Revoke a token; within a minute nothing accepts it. Raises `NotFound`."""
        return self._connection.request("DELETE", f"/tokens/{quote(token_id, safe='')}")

    def audit(self) -> Iterator[dict[str, Any]]:
        """The audit record's entries, in order."""
        after: int | None = 0
        while after is not None:
            page = self._connection.request("GET", "/audit", query={"after": str(after)})
            yield from page["entries"]
            after = page.get("next_after")


@dataclass(frozen=True)
class ChainCheck:
    """Whether an audit record is whole: how many entries, the newest hash, and the first that is wrong, with why."""

    valid: bool
    entries: int
    head: str
    broken_at: int | None = None
    reason: str = ""


def verify_chain(entries: Iterable[dict[str, Any]]) -> ChainCheck:
    """Check an audit record on this machine, trusting nothing that the server says about it.

    Each entry's `hash` is the sha256 of its other fields as JSON with sorted keys and no spaces, and its `previous` is
    the hash of the entry before it.
    """
    previous, count = GENESIS, 0
    for entry in entries:
        count += 1
        reason = _fault(entry, count, previous)
        if reason:
            return ChainCheck(False, count, previous, count, reason)
        previous = entry["hash"]
    return ChainCheck(True, count, previous)


def _fault(entry: dict[str, Any], number: int, previous: str) -> str:
    if entry.get("number") != number:
        return f"entry {number} is missing"
    if entry.get("previous") != previous:
        return f"entry {number} doesn't follow the one before it"
    content = {field: value for field, value in entry.items() if field != "hash"}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    if hashlib.sha256(text.encode("utf-8", "replace")).hexdigest() != entry.get("hash"):
        return f"entry {number} was altered after it was written"
    return ""
