"""Reading pieces by ranges of positions: one request for the keys and one for the rows of each piece."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shoal_core.data.pieces import (
    KEYS,
    MARKS,
    NEAR_HASH,
    POSITION,
    ROWS,
    Layout,
    PieceIndex,
    as_records,
    field_of,
    mark_of,
)
from shoal_core.keys import DatasetKeys
from shoal_core.store import ObjectStore

Range = tuple[int, int]
"""Positions [low, high)."""
# Requests wait for the network most of the time; results are taken in the order of the items.
_READERS = 8
_BLOCK_BYTES = 8 * 1024**2


@dataclass
class KeyTable:
    """Keys of samples, ordered by (position, row hash, work item, row): equal samples are neighbours.

    Attributes:
        keys: Records of a piece's keys [N].
        item: int32 [N], work item.
        row: int64 [N], row within the piece.
    """

    keys: NDArray[Any]
    item: NDArray[np.int32]
    row: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, name: str) -> NDArray[Any]:
        return field_of(self.keys, name)

    def take(self, chosen: NDArray[Any]) -> KeyTable:
        """Only the chosen ones (indices or a mask)."""
        if chosen.dtype == np.bool_:
            if chosen.all():
                return self
            chosen = np.flatnonzero(chosen)
        keys = as_records(self.keys).take(chosen).view(self.keys.dtype)
        return KeyTable(keys, self.item.take(chosen), self.row.take(chosen))


class PieceReader:
    """The pieces of a set, read by ranges.

    Args:
        artifacts: Where they are.
        keys: The dataset version's keys.
        layout: Their records.
        marks: int32 [items, MARKS + 1], the first row of each part of the positions; the last is the number of samples.
        starts: int64 [items, 3], where `keys`, `rows` and `near_hash` begin in each file.
    """

    def __init__(
        self,
        artifacts: ObjectStore,
        keys: DatasetKeys,
        layout: Layout,
        marks: NDArray[np.int32],
        starts: NDArray[np.int64],
    ) -> None:
        self._artifacts, self._keys = artifacts, keys
        self.layout, self.marks, self.starts = layout, marks, starts
        self._key_type, self._row_type = layout.key_type, layout.row_type

    @classmethod
    def of(cls, artifacts: ObjectStore, keys: DatasetKeys, pieces: Sequence[PieceIndex], layout: Layout) -> PieceReader:
        """A reader of pieces whose indexes are known; item numbers are their places in `pieces`."""
        marks = np.zeros((len(pieces), MARKS + 1), np.int32)
        starts = np.zeros((len(pieces), 3), np.int64)
        for item, piece in enumerate(pieces):
            if piece.file is not None:
                marks[item, :-1] = piece.marks
                marks[item, -1] = piece.samples
                starts[item] = [piece.file.starts.get(name, 0) for name in (KEYS, ROWS, NEAR_HASH)]
        return cls(artifacts, keys, layout, marks, starts)

    @property
    def items(self) -> list[int]:
        """The work items that have samples."""
        return np.flatnonzero(self.marks[:, -1]).tolist()

    def read_keys(self, ranges: Sequence[Range]) -> Iterator[KeyTable]:
        """The keys within some ranges (rising, apart from each other), item by item."""

        def read(item: int) -> KeyTable | None:
            parts = [self._keys_between(item, low, high) for low, high in ranges]
            found = [part for part in parts if part is not None and len(part)]
            return concatenate(found) if found else None

        items = self.items
        with ThreadPoolExecutor(_READERS) as pool:
            # A few at a time: what isn't taken yet is held in memory.
            for start in range(0, len(items), _READERS):
                yield from (table for table in pool.map(read, items[start : start + _READERS]) if table is not None)

    def read_rows(self, table: KeyTable) -> NDArray[Any]:
        """The rows that a table names, in its order: records of a piece's rows [N]."""
        out = np.empty(len(table), self._row_type)
        records = as_records(out)

        def read(item: int) -> None:
            places = np.flatnonzero(table.item == item)
            # The order within a piece is the table's order, so places and rows rise together.
            rows = table.row[places]
            for start, stop in _blocks(rows, max(1, _BLOCK_BYTES // self._row_type.itemsize)):
                first, last = int(rows[start]), int(rows[stop - 1]) + 1
                block = as_records(self._records(item, 1, self._row_type, first, last))
                whole = len(block) == stop - start
                records[places[start:stop]] = block if whole else block.take(rows[start:stop] - first)

        items = np.unique(table.item).tolist()
        if len(items) == 1:
            read(items[0])
        else:
            with ThreadPoolExecutor(_READERS) as pool:
                list(pool.map(read, items))
        return out

    def read_near(self, item: int) -> NDArray[np.uint64]:
        """The near-duplicate hashes of a piece, uint64 [N,B]."""
        samples, width = int(self.marks[item, -1]), self.layout.near
        begin = int(self.starts[item, 2])
        data = self._artifacts.read_range(self._keys.piece(item), begin, begin + samples * width * 8)
        return np.frombuffer(data, np.uint64).reshape(samples, width)

    def read_places(self, item: int) -> bytes:
        """The names of a piece's samples: JSON."""
        return self._artifacts.read(self._keys.places(item))

    def _keys_between(self, item: int, low: int, high: int) -> KeyTable | None:
        marks = self.marks[item]
        if low >= high:
            return None
        start, stop = int(marks[mark_of(low)]), int(marks[mark_of(high - 1) + 1])
        if start == stop:
            return None
        keys = self._records(item, 0, self._key_type, start, stop)
        first, last = np.searchsorted(field_of(keys, POSITION), [low, high]).tolist()
        rows = np.arange(start + first, start + last, dtype=np.int64)
        return KeyTable(keys[first:last], np.full(last - first, item, np.int32), rows)

    def _records(self, item: int, part: int, dtype: np.dtype[Any], start: int, stop: int) -> NDArray[Any]:
        begin = int(self.starts[item, part])
        data = self._artifacts.read_range(
            self._keys.piece(item), begin + start * dtype.itemsize, begin + stop * dtype.itemsize
        )
        return np.frombuffer(data, dtype)


def concatenate(tables: Sequence[KeyTable]) -> KeyTable:
    """Tables one after the other."""
    if len(tables) == 1:
        return tables[0]
    return KeyTable(
        np.concatenate([table.keys for table in tables]),
        np.concatenate([table.item for table in tables]),
        np.concatenate([table.row for table in tables]),
    )


def _blocks(rows: NDArray[np.int64], size: int) -> Iterator[tuple[int, int]]:
    """Ranges (start, stop) of rising rows that each span at most `size` rows of the file."""
    start = 0
    while start < len(rows):
        stop = int(np.searchsorted(rows, rows[start] + size))
        yield start, stop
        start = stop
