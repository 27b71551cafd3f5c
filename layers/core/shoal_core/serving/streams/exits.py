"""Where the outcomes of records go, and what tells which are settled: `shoal_core.aws.streams` implements them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from shoal_core.serving.streams.dead_letters import DeadLetter
from shoal_core.serving.streams.packing import Keyed
from shoal_core.store import ObjectStore


class Ledger(Protocol):
    """Which records are settled. Raises `Unavailable`."""

    def last(self, place: str) -> str | None:
        """The last settled sequence number of a shard."""
        ...

    def advance(self, place: str, before: str | None, after: str) -> bool:
        """Move a shard's last sequence number from `before` to `after`; False when it isn't `before` any more."""
        ...

    def known(self, positions: Collection[str]) -> set[str]:
        """Those positions that are marked."""
        ...

    def mark(self, positions: Collection[str]) -> None:
        """Mark positions as settled."""
        ...


class AnswerStream(Protocol):
    """Where answers go."""

    def put(self, request: Sequence[Keyed]) -> None:
        """Put one request's records, all of them. Raises `Unavailable`."""
        ...


class DeadLetterBox(Protocol):
    """Where dead letters go."""

    def send(self, letters: Sequence[DeadLetter]) -> None:
        """Send all of them. Raises `Unavailable`."""
        ...


@dataclass(frozen=True)
class Exits:
    """Where outcomes go.

    Attributes:
        ledger: Which records are settled.
        letters: The dead-letter queue.
        artifacts: Where the journal and large dead records are.
        stream: Answers' stream; None when there is none.
        journal: Whether answers are written to S3.
    """

    ledger: Ledger
    letters: DeadLetterBox
    artifacts: ObjectStore
    stream: AnswerStream | None
    journal: bool
