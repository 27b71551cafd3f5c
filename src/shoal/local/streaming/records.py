"""Kinesis' records on disk: a log for each shard, written before a put is answered, and the mappings' checkpoints."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

from shoal.local.state import StateStore

# Kinesis' sequence numbers have 56 digits: code that keeps them as DynamoDB's numbers (38 digits) must fail here, too.
SEQUENCE_BASE = 49 * 10**54
_COUNTER = "kinesis"
_TRIM_SECONDS = 60.0


@dataclass(frozen=True)
class StreamRecord:
    """One record: its number in the log, when it arrived (seconds since the epoch), its key and its bytes."""

    number: int
    arrived: float
    key: str
    data: bytes

    @property
    def sequence(self) -> str:
        """Its sequence number, as Kinesis writes it."""
        return sequence_of(self.number)


def sequence_of(number: int) -> str:
    """Kinesis' sequence number of a number in the log."""
    return str(SEQUENCE_BASE + number)


def number_of(sequence: str) -> int:
    """The number in the log of a sequence number. Raises `ValueError` for one that isn't Kinesis'."""
    number = int(sequence) - SEQUENCE_BASE
    if number < 0:
        raise ValueError(f"{sequence} isn't a sequence number")
    return number


class RecordLog:
    """The records of all streams. Safe to use from many threads.

    Args:
        store: The cloud's database.
    """

    def __init__(self, store: StateStore) -> None:
        self._store = store
        self._arrived = threading.Condition()
        self._puts = 0
        self._trimmed = 0.0

    def put(self, stream: str, records: Sequence[tuple[str, str, bytes]], retention_hours: int) -> list[int]:
        """Append records, all or none; they are on disk when this returns.

        Args:
            stream: Name of the stream.
            records: (shard, key, data) of each.
            retention_hours: Records of the stream that are older may go.

        Returns:
            Their numbers, ascending.
        """
        now = time.time()
        with self._store.transaction() as db:
            last = self._store.next_number(_COUNTER, len(records))
            first = last - len(records) + 1
            db.executemany(
                "INSERT INTO stream_records VALUES(?, ?, ?, ?, ?, ?)",
                [(stream, shard, first + at, now, key, data) for at, (shard, key, data) in enumerate(records)],
            )
            if now - self._trimmed > _TRIM_SECONDS:
                self._trimmed = now
                oldest = now - retention_hours * 3600
                db.execute("DELETE FROM stream_records WHERE stream = ? AND arrived < ?", (stream, oldest))
        with self._arrived:
            self._puts += 1
            self._arrived.notify_all()
        return list(range(first, last + 1))

    def read(self, stream: str, shard: str, after: int, limit: int) -> list[StreamRecord]:
        """A shard's records after a number, in order."""
        rows = self._store.rows(
            "SELECT number, arrived, key, data FROM stream_records WHERE stream = ? AND shard = ? AND number > ? "
            "ORDER BY number LIMIT ?",
            stream, shard, after, limit,
        )  # fmt: skip
        return [StreamRecord(row["number"], row["arrived"], row["key"], bytes(row["data"])) for row in rows]

    def last(self, stream: str, shard: str, before: float | None = None) -> int:
        """The number of a shard's last record (that arrived before a time); 0 without one."""
        rows = self._store.rows(
            "SELECT MAX(number) AS last FROM stream_records "
            "WHERE stream = ? AND shard = ? AND (? IS NULL OR arrived < ?)",
            stream, shard, before, before,
        )  # fmt: skip
        return int(rows[0]["last"] or 0)

    def forget(self, stream: str) -> None:
        """Delete a stream's records, and how far mappings have come."""
        with self._store.transaction() as db:
            db.execute("DELETE FROM stream_records WHERE stream = ?", (stream,))
            db.execute("DELETE FROM checkpoints WHERE stream = ?", (stream,))

    @property
    def puts(self) -> int:
        """How many puts there were; what `wait` compares with."""
        return self._puts

    def wait(self, puts: int, seconds: float) -> None:
        """Wait for a put after the first `puts` ones, at most so long."""
        with self._arrived:
            if self._puts == puts:
                self._arrived.wait(seconds)

    def wake(self) -> None:
        """End all waits."""
        with self._arrived:
            self._arrived.notify_all()

    def checkpoint(self, mapping: str, stream: str, shard: str, lane: int) -> int | None:
        """How far a mapping has come in a shard; None before its start."""
        rows = self._store.rows(
            "SELECT number FROM checkpoints WHERE mapping = ? AND stream = ? AND shard = ? AND lane = ?",
            mapping, stream, shard, lane,
        )  # fmt: skip
        return int(rows[0]["number"]) if rows else None

    def set_checkpoint(self, mapping: str, stream: str, shard: str, lane: int, number: int) -> None:
        """Note how far a mapping has come."""
        with self._store.transaction() as db:
            db.execute(
                "INSERT OR REPLACE INTO checkpoints VALUES(?, ?, ?, ?, ?)", (mapping, stream, shard, lane, number)
            )
