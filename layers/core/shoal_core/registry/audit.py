"""The audit record: who changed what, when and from where, as a chain of hashes that shows every later change.

An entry's hash covers its content and the hash before it, so an entry that is altered, removed or put in later breaks
the chain at its place. The newest hash, kept elsewhere, proves the whole.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from pydantic import Field

from shoal_core.data.canonical import canonical_json
from shoal_core.frozen import Frozen

GENESIS = "0" * 64


class AuditEntry(Frozen):
    """One change of state.

    Attributes:
        number: From 1, without gaps.
        at: When, ISO 8601 in UTC.
        who: Id of the token, `run:<id>`, or S3's principal id of who uploaded.
        action: What was done, such as `token.created`.
        subject: What it was done to.
        source: Where the request came from: an IP address, or the event's source.
        details: More about it; never a secret.
        previous: Hash of the entry before, 64 zeros for the first.
        hash: sha256 (hex) of all the above.
    """

    number: int = Field(ge=1)
    at: str
    who: str
    action: str
    subject: str
    source: str = ""
    details: dict[str, Any] = Field(default_factory=dict)
    previous: str
    hash: str = ""

    def sealed(self) -> AuditEntry:
        """The entry with its hash."""
        return self.model_copy(update={"hash": self.digest()})

    def digest(self) -> str:
        """What the hash must be."""
        content = self.model_dump(mode="json", exclude={"hash"})
        return hashlib.sha256(canonical_json(content)).hexdigest()


class Caller(Frozen):
    """Who caused a change that no token asked for, and from where: as an upload's S3 event tells it."""

    who: str = "events"
    source: str = ""


class AuditLog(Protocol):
    """What appends to the audit record."""

    def record(
        self,
        action: str,
        subject: str,
        who: str,
        source: str = "",
        details: Mapping[str, Any] | None = None,
        once: str | None = None,
    ) -> AuditEntry | None:
        """See `shoal_core.aws.audit.Audit.record`."""


class AuditPage(Frozen):
    """Entries in order, and the number to go on after; None at the end."""

    entries: list[AuditEntry]
    next_after: int | None = None


class Verification(Frozen):
    """Whether a chain holds: how many entries, the newest hash, and the first that is wrong with why."""

    valid: bool
    entries: int
    head: str = GENESIS
    broken_at: int | None = None
    reason: str = ""


def verify(entries: Iterable[AuditEntry], head: str | None = None) -> Verification:
    """Check a whole chain from its first entry.

    Args:
        entries: All entries in order.
        head: The hash that the newest entry must have; None when nobody kept it.
    """
    previous, count = GENESIS, 0
    for count, entry in enumerate(entries, 1):
        reason = _fault(entry, count, previous)
        if reason:
            return Verification(valid=False, entries=count, head=previous, broken_at=count, reason=reason)
        previous = entry.hash
    if head is not None and head != previous:
        reason = "the newest entries are missing: the last hash isn't the one that was kept"
        return Verification(valid=False, entries=count, head=previous, broken_at=count + 1, reason=reason)
    return Verification(valid=True, entries=count, head=previous)


def _fault(entry: AuditEntry, number: int, previous: str) -> str:
    if entry.number != number:
        return f"entry {number} is missing: number {entry.number} stands there"
    if entry.previous != previous:
        return f"entry {number} doesn't follow the one before it"
    if entry.hash != entry.digest():
        return f"entry {number} was altered after it was written"
    return ""
