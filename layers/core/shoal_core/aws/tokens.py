"""Tokens in the catalog's table, and how often each was used.

```
pk           sk              what
TOKEN#<id>   TOKEN           one token: hash of its secret, scopes, expiry, limits
             MINUTE#<n>      requests in a minute since 1970; expires
             DAY#<date>      requests on a day; expires
```
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import Any

from shoal_core.aws.clock import now
from shoal_core.aws.table import Table, document
from shoal_core.errors import NotFound, RateLimited
from shoal_core.registry.access import Caller, TokenView

_MINUTE = 60
_DAY = 86_400


class Tokens:
    """Reads and writes tokens. Raises `NotFound` and `Unavailable`."""

    def __init__(self, table: Table | None = None, clock: Callable[[], float] = time.time) -> None:
        self._table = table or Table()
        self._clock = clock

    def add(self, token: TokenView, secret_hash: str) -> None:
        """Keep a new token."""
        item = {
            "pk": f"TOKEN#{token.id}",
            "sk": "TOKEN",
            "kind": "TOKEN",
            "sort": f"{token.created_at}#{token.id}",
            "secret_hash": secret_hash,
            "document": document(token.model_dump(mode="json", exclude={"revoked_at"})),
        }
        self._table.put_new(item)

    def find(self, identity: str) -> tuple[TokenView, str] | None:
        """A token and the hash of its secret; None when there is none."""
        item = self._table.get(f"TOKEN#{identity}", "TOKEN")
        return None if item is None else (_view(item), str(item["secret_hash"]))

    def all(self) -> list[TokenView]:
        """Every token, newest first."""
        return [_view(item) for item in self._table.newest("TOKEN")]

    def revoke(self, identity: str) -> TokenView:
        """Take a token's power away; again changes nothing. Raises `NotFound`."""
        self._table.update(
            f"TOKEN#{identity}",
            "TOKEN",
            "SET revoked_at = :now",
            {":now": now()},
            condition="attribute_exists(pk) AND attribute_not_exists(revoked_at)",
        )
        found = self.find(identity)
        if found is None:
            raise NotFound(f"Token {identity[:40]!r} doesn't exist.", "See `shoal token list`.")
        return found[0]

    def count_request(self, caller: Caller) -> None:
        """Count one request of a token that has limits. Raises `RateLimited` when it has made as many as it may."""
        moment = int(self._clock())
        if caller.per_minute is not None:
            minute, passed = divmod(moment, _MINUTE)
            self._take(caller, f"MINUTE#{minute}", caller.per_minute, "per minute", _MINUTE - passed)
        if caller.per_day is not None:
            day, passed = divmod(moment, _DAY)
            self._take(caller, f"DAY#{day}", caller.per_day, "per day", _DAY - passed)

    def _take(self, caller: Caller, window: str, limit: int, unit: str, left: int) -> None:
        allowed = self._table.update(
            f"TOKEN#{caller.id}",
            window,
            "SET expires_at = :expires ADD requests :one",
            {":one": 1, ":limit": limit, ":expires": int(self._clock()) + left + _DAY},
            condition="attribute_not_exists(requests) OR requests < :limit",
        )
        if not allowed:
            raise RateLimited(
                f"Token {caller.id!r} has made its {limit:,} requests {unit}.",
                f"Send fewer, or wait {left:,} seconds.",
                left,
            )


def _view(item: Mapping[str, Any]) -> TokenView:
    fields = {**json.loads(item["document"]), "revoked_at": item.get("revoked_at")}
    return TokenView.model_validate(fields)
