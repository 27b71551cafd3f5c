"""Tokens and plans in the catalog's table, and how often each token was used.

```
pk           sk              what
PLAN#<name>  PLAN            one plan: limits of each of its tokens
TOKEN#<id>   TOKEN           one token: hash of its secret and of the one before, scopes, expiry, limits
             MINUTE#<n>      requests in a minute since 1970; expires
             DAY#<n>         requests on a day since 1970; expires
             MONTH#<month>   requests in a month, such as 2026-11; expires
```
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from shoal_core.aws.clock import now
from shoal_core.aws.table import Table, document
from shoal_core.errors import Conflict, NotFound, RateLimited
from shoal_core.registry.access import Caller, Plan, TokenView

_MINUTE = 60
_DAY = 86_400
# What changes in a token's life, and so stands beside its document.
_CHANGED = ("revoked_at", "rotated_at", "previous_until")


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
            "document": document(token.model_dump(mode="json", exclude=set(_CHANGED))),
        }
        self._table.put_new(item)

    def find(self, identity: str) -> tuple[TokenView, str, str] | None:
        """A token, the hash of its secret, and the hash of the one before (or nothing); None when there is no token."""
        item = self._table.get(f"TOKEN#{identity}", "TOKEN")
        if item is None:
            return None
        return _view(item), str(item["secret_hash"]), str(item.get("previous_hash", ""))

    def rotate(self, identity: str, secret_hash: str, previous_until: str) -> TokenView:
        """Give a token a new secret; the one before is accepted until a moment. Raises `NotFound`, `Conflict`."""
        changed = self._table.update(
            f"TOKEN#{identity}",
            "TOKEN",
            "SET previous_hash = secret_hash, secret_hash = :new, previous_until = :until, rotated_at = :now",
            {":new": secret_hash, ":until": previous_until, ":now": now()},
            condition="attribute_exists(pk) AND attribute_not_exists(revoked_at)",
        )
        view = self._existing(identity)
        if not changed:
            raise Conflict(f"Token {identity!r} is revoked.", "Make a new one: `shoal token create`.")
        return view

    def _existing(self, identity: str) -> TokenView:
        found = self.find(identity)
        if found is None:
            raise NotFound(f"Token {identity[:40]!r} doesn't exist.", "See `shoal token list`.")
        return found[0]

    def put_plan(self, plan: Plan) -> None:
        """Keep a plan; one of the same name is replaced."""
        self._table.update(
            f"PLAN#{plan.name}",
            "PLAN",
            "SET #kind = :kind, #sort = :name, #document = :document",
            {":kind": "PLAN", ":name": plan.name, ":document": document(plan.model_dump(mode="json"))},
            names={"#kind": "kind", "#sort": "sort", "#document": "document"},
        )

    def plan(self, name: str) -> Plan | None:
        """A plan; None when there is none."""
        item = self._table.get(f"PLAN#{name}", "PLAN")
        return None if item is None else Plan.model_validate(json.loads(item["document"]))

    def plans(self) -> list[Plan]:
        """Every plan."""
        found = [Plan.model_validate(json.loads(item["document"])) for item in self._table.newest("PLAN")]
        return sorted(found, key=lambda plan: plan.name)

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
        return self._existing(identity)

    def count_request(self, caller: Caller) -> None:
        """Count one request of a token that has limits. Raises `RateLimited` when it has made as many as it may."""
        moment = int(self._clock())
        if caller.per_minute is not None:
            minute, passed = divmod(moment, _MINUTE)
            self._take(caller, f"MINUTE#{minute}", caller.per_minute, "per minute", _MINUTE - passed)
        if caller.per_day is not None:
            day, passed = divmod(moment, _DAY)
            self._take(caller, f"DAY#{day}", caller.per_day, "per day", _DAY - passed)
        if caller.per_month is not None:
            start = datetime.fromtimestamp(moment, UTC)
            end = datetime(start.year + start.month // 12, start.month % 12 + 1, 1, tzinfo=UTC)
            left = int(end.timestamp()) - moment
            self._take(caller, f"MONTH#{start:%Y-%m}", caller.per_month, "per month", left)

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
    changed = {name: item.get(name) for name in _CHANGED}
    fields = {**json.loads(item["document"]), **changed}
    return TokenView.model_validate(fields)
