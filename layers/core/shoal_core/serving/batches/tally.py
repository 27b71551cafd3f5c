"""What became of a piece: how many records, which couldn't be answered, and the index that says so."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from pydantic import Field

from shoal_core.data.canonical import canonical_json
from shoal_core.errors import BadInput
from shoal_core.frozen import Frozen

MAX_ERRORS = 1000
"""Errors of a piece that are kept beside its output, with what was sent; the output itself has all of them."""
SHOWN_ERRORS = 5
MAX_RAW = 4096


@dataclass(frozen=True)
class RecordError:
    """Why a record couldn't be answered."""

    code: str
    reason: str
    fix: str


class ErrorEntry(Frozen):
    """One line of `errors/part-00000.jsonl`: where the record stood, why it has no answer, and what was sent."""

    file: str
    place: str = ""
    code: str
    reason: str
    fix: str
    raw: str | None = None


class PieceIndex(Frozen):
    """`piece-00000.json`: written after the piece's output.

    `head` and `tail` are the bytes of the output before and after its records, such as a CSV's header.
    """

    piece: int
    key: str
    records: int
    errors: int
    codes: dict[str, int] = Field(default={})
    size: int
    head: int = 0
    tail: int = 0
    sha256: str
    shown: tuple[ErrorEntry, ...] = ()

    def encode(self) -> bytes:
        """The canonical bytes of the index."""
        return canonical_json(self.model_dump(mode="json"))

    @classmethod
    def decode(cls, data: bytes) -> PieceIndex:
        """Read an index. Raises `BadInput` when it isn't one."""
        try:
            return cls.model_validate_json(data)
        except ValueError as error:
            raise BadInput(f"The index of a piece can't be read: {error}.", "Upload the data again.") from error


@dataclass
class Tally:
    """Counts records as they are written."""

    records: int = 0
    codes: Counter[str] = field(default_factory=Counter)
    entries: list[ErrorEntry] = field(default_factory=list)

    def good(self, count: int) -> None:
        """Count records that have an answer."""
        self.records += count

    def bad(self, file: str, place: str, error: RecordError, raw: object = None) -> None:
        """Count one that has none."""
        self.records += 1
        self.codes[error.code] += 1
        if len(self.entries) < MAX_ERRORS:
            told = raw if raw is None or isinstance(raw, str) else str(raw)
            self.entries.append(
                ErrorEntry(
                    file=file,
                    place=place,
                    code=error.code,
                    reason=error.reason,
                    fix=error.fix,
                    raw=told if told is None else told[:MAX_RAW],
                )
            )

    def lines(self) -> bytes:
        """The kept errors as JSONL."""
        return b"".join(canonical_json(entry.model_dump(mode="json")) + b"\n" for entry in self.entries)


class Counted:
    """Bytes as they go to a store, with their number and sha256."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = chunks
        self._digest = hashlib.sha256()
        self.size = 0

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._chunks:
            self._digest.update(chunk)
            self.size += len(chunk)
            yield chunk

    @property
    def sha256(self) -> str:
        """Of what has gone by."""
        return self._digest.hexdigest()


def error_fields(error: RecordError) -> dict[str, Any]:
    """An error as JSON has it."""
    return {"code": error.code, "reason": error.reason, "fix": error.fix}
