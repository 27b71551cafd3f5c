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
        per_minute: int | None = None,
        per_day: int | None = None,
    ) -> dict[str, Any]:
        """Make a token.

        Args:
            name: What it is for.
            scopes: `admin`, `read`, `data:write`, `predict:MODEL` or `predict:*`.
            days: After how many days it expires; None is never.
            per_minute: Requests per minute; None is no limit.
            per_day: Requests per day; None is no limit.

        Returns:
            `token` (its text, shown this once), `id`, `name`, `scopes`, `expires_at`.

        Raises:
            BadRequest: A scope that doesn't exist, or a number out of bounds.
        """
        wishes = {"days": days, "per_minute": per_minute, "per_day": per_day}
        body = {"name": name, "scopes": list(scopes), **{key: value for key, value in wishes.items() if value}}
        data = json.dumps(body).encode()
        return self._connection.request("POST", "/tokens", body=data, content_type="application/json")

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
