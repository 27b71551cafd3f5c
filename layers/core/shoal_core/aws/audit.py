"""The audit record in the catalog's table: entries are only ever added, each by a transaction with the chain's head.

```
pk      sk                what
AUDIT   HEAD              number and hash of the newest entry
        <number, 12 digits>  one entry
```
Roles may put entries, and nothing may change or delete them (template.yaml).
"""

from __future__ import annotations

import itertools
import json
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from shoal_core.aws.clock import now
from shoal_core.aws.table import Item, Table, document, update_arguments
from shoal_core.errors import Unavailable
from shoal_core.registry.audit import GENESIS, AuditEntry

# Seconds: how long a request over HTTP tries, and one that nobody waits for, as when 1,000 uploads end at once. An
# entry takes about 10 ms, and one is written at a time.
PATIENCE = 5.0
EVENT_PATIENCE = 120.0
_LONGEST_PAUSE = 1.0
_PK = "AUDIT"
_HEAD = "HEAD"


class Audit:
    """Appends to the audit record and reads it. Raises `Unavailable`."""

    def __init__(self, table: Table | None = None, patience: float = PATIENCE) -> None:
        self._table = table or Table()
        self._patience = patience

    def record(
        self,
        action: str,
        subject: str,
        who: str,
        source: str = "",
        details: Mapping[str, Any] | None = None,
        once: str | None = None,
    ) -> AuditEntry | None:
        """Append one entry.

        Args:
            action: What was done, such as `token.created`.
            subject: What it was done to.
            who: Id of the caller.
            source: Where the request came from.
            details: More about it; never a secret.
            once: A name of this very change: a second entry of the same name isn't written, and None comes back.

        Raises:
            Unavailable: Others wrote at the same time, again and again.
        """
        deadline = time.monotonic() + self._patience
        for attempt in itertools.count():
            if once is not None and self._table.get(_PK, f"ONCE#{once}") is not None:
                return None
            entry = self._next(action, subject, who, source, details)
            if self._append(entry, once):
                return entry
            if time.monotonic() > deadline:
                break
            time.sleep(random.uniform(0, min(_LONGEST_PAUSE, 0.02 * 2 ** min(attempt, 10))))
        raise Unavailable("The audit record is written by too many at once.", "Try again.")

    def record_with(
        self,
        updates: Sequence[Item],
        action: str,
        subject: str,
        who: str,
        source: str = "",
        details: Mapping[str, Any] | None = None,
    ) -> bool:
        """Append one entry and apply the updates that it tells of: both, or neither.

        Returns:
            False where another writer was faster, here or there; look again, and try again.
        """
        return self._append(self._next(action, subject, who, source, details), updates=updates)

    def _next(self, action: str, subject: str, who: str, source: str, details: Mapping[str, Any] | None) -> AuditEntry:
        head = self._table.get(_PK, _HEAD) or {"number": 0, "hash": GENESIS}
        return AuditEntry(
            number=head["number"] + 1,
            at=now(),
            who=who,
            action=action,
            subject=subject,
            source=source,
            details=dict(details or {}),
            previous=head["hash"],
        ).sealed()

    def _append(self, entry: AuditEntry, once: str | None = None, updates: Sequence[Item] = ()) -> bool:
        items: list[Mapping[str, Any]] = [
            {"pk": _PK, "sk": f"{entry.number:012d}", "document": document(entry.model_dump(mode="json"))}
        ]
        if once is not None:
            items.append({"pk": _PK, "sk": f"ONCE#{once}"})
        head = update_arguments(
            _PK,
            _HEAD,
            "SET #number = :number, #hash = :hash",
            {":number": entry.number, ":hash": entry.hash, ":previous": entry.previous},
            condition="#hash = :previous" if entry.number > 1 else "attribute_not_exists(pk)",
            names={"#number": "number", "#hash": "hash"},
        )
        if entry.number == 1:
            del head["ExpressionAttributeValues"][":previous"]
        try:
            return self._table.put_all_new(items, head, *updates)
        except Unavailable:
            return False  # another transaction is under way on the head

    def entries(self, after: int = 0) -> Iterator[AuditEntry]:
        """Entries in order, from the one after a number on."""
        for item in self._table.query(_PK, f"{after + 1:012d}"):
            if item["sk"].isdigit():
                yield AuditEntry.model_validate(json.loads(item["document"]))
