"""Answers as records of the answers' stream, so that those of one key keep their order.

PutRecords may refuse any record of a request and take the next ones
(https://docs.aws.amazon.com/kinesis/latest/APIReference/API_PutRecords.html), so two records of one key in one request
can change places. Hence one request never holds two: all answers of a key, one JSON object a line, are one record.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

MAX_REQUEST_RECORDS = 500
MAX_REQUEST_BYTES = 4 * 1024**2
"""Below the 5 MiB that PutRecords takes, keys included."""
MAX_RECORD_BYTES = 900 * 1024
"""Below the 1 MiB of a record."""


class Keyed(Protocol):
    """A record that can be put."""

    @property
    def key(self) -> str:
        """Its partition key."""
        ...

    @property
    def data(self) -> bytes:
        """Its bytes."""
        ...

    @property
    def size(self) -> int:
        """Bytes that it counts in a request."""
        ...


KeyedT = TypeVar("KeyedT", bound=Keyed)


@dataclass
class PackedRecord:
    """One record of the answers' stream: a partition key, and its answers in order, one a line."""

    key: str
    lines: list[str] = field(default_factory=list)
    length: int = 0

    @property
    def data(self) -> bytes:
        """What is put."""
        return "".join(f"{line}\n" for line in self.lines).encode()

    @property
    def size(self) -> int:
        """Bytes that it counts in a request."""
        return self.length + len(self.key.encode())


def pack(answers: Iterable[tuple[str, str]]) -> list[PackedRecord]:
    """(key, answer) pairs in order, as records; those of a key are in order, and so are its answers."""
    records: list[PackedRecord] = []
    last: dict[str, PackedRecord] = {}
    for key, line in answers:
        size = len(line.encode()) + 1
        record = last.get(key)
        if record is None or record.length + size > MAX_RECORD_BYTES:
            record = last[key] = PackedRecord(key)
            records.append(record)
        record.lines.append(line)
        record.length += size
    return records


def requests(records: Iterable[KeyedT]) -> Iterator[list[KeyedT]]:
    """Records in order, cut into requests that hold each key once and stay within the limits."""
    request: list[KeyedT] = []
    keys: set[str] = set()
    size = 0
    for record in records:
        full = len(request) == MAX_REQUEST_RECORDS or size + record.size > MAX_REQUEST_BYTES
        if request and (full or record.key in keys):
            yield request
            request, keys, size = [], set(), 0
        request.append(record)
        keys.add(record.key)
        size += record.size
    if request:
        yield request
