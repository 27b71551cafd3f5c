"""`unique`, exactly, over the whole set: value hashes of every work item, merged range by range.

A work item leaves one object per unique column: 128-bit hashes in order, with the row's number and a short text to show
(92 bytes a row). Hashes are divided by their first bits into `RANGES` ranges; the merge reads one range of all items at
a time, 24 bytes a row, so 100 million rows need about 150 MB.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shoal_core.data.quality.findings import MAX_BROKEN_ROWS, BrokenRow, broken_row
from shoal_core.data.shards import Tensors, encode_shard, read_rows
from shoal_core.data.splits import HASH_BYTES
from shoal_core.frozen import Frozen
from shoal_core.store import ObjectStore

RANGES = 16
_TEXT_BYTES = 64
_SHIFT = 64 - 4  # 16 ranges are the first 4 bits


class HashFile(Frozen):
    """One unique column of one work item: its key, and where each range of hashes begins and the last one ends.

    `files` are the files that the rows are from; the table counts them.
    """

    clause: int
    key: str
    files: tuple[str, ...]
    bounds: tuple[int, ...]


class ValueHashes:
    """Hashes of one column's values, batch by batch."""

    def __init__(self) -> None:
        self._files: list[str] = []
        self._of: list[int] = []
        self._hashes: list[bytes] = []
        self._rows: list[int] = []
        self._shown: list[bytes] = []

    def __len__(self) -> int:
        return len(self._hashes)

    def add(self, file: str, places: Sequence[object], texts: Sequence[tuple[int, str]], first: int) -> None:
        """Add a batch: (row, text of its value); `first` is the number of the batch's first row in the item."""
        if file not in self._files:
            self._files.append(file)
        self._of += [self._files.index(file)] * len(texts)
        for row, text in texts:
            data = text.encode("utf-8", "replace")
            self._hashes.append(_digest(data))
            self._rows.append(first + row)
            self._shown.append(_pack(str(places[row]), data))

    def tensors(self) -> tuple[Tensors, tuple[int, ...]]:
        """The table in order, and its ranges: `high`, `low` uint64 [N], `row` int64 [N], `of` int32 [N], `shown` uint8
        [N,64].
        """
        words = np.frombuffer(b"".join(self._hashes), ">u8").astype(np.uint64).reshape(-1, 2)
        rows = np.array(self._rows, np.int64)
        order = np.lexsort((rows, words[:, 1], words[:, 0]))
        shown = np.frombuffer(b"".join(self._shown), np.uint8).reshape(-1, _TEXT_BYTES)
        high = words[order, 0]
        bounds = np.searchsorted(high >> np.uint64(_SHIFT), np.arange(RANGES, dtype=np.uint64)).tolist()
        of = np.array(self._of, np.int32)[order]
        tensors = {"high": high, "low": words[order, 1], "row": rows[order], "of": of, "shown": shown[order]}
        return tensors, (*bounds, len(rows))

    def write(self, artifacts: ObjectStore, key: str, clause: int) -> HashFile:
        """Write the table; the same rows give the same bytes."""
        tensors, bounds = self.tensors()
        artifacts.write(key, encode_shard(tensors))
        return HashFile(clause=clause, key=key, files=tuple(self._files), bounds=bounds)


def find_repeats(artifacts: ObjectStore, files: Sequence[HashFile]) -> tuple[int, tuple[BrokenRow, ...]]:
    """Rows whose value an earlier row has, over all work items.

    Args:
        artifacts: Where the tables are.
        files: One column's tables, in the order of the work items.

    Returns:
        How many such rows there are, and the first of them in the order of the source.
    """
    count = 0
    first: list[tuple[int, int, int]] = []
    for part in range(RANGES):
        table = _read_range(artifacts, files, part)
        order = np.lexsort((table["row"], table["file"], table["low"], table["high"]))
        table = {name: array[order] for name, array in table.items()}
        again = np.zeros(len(order), bool)
        again[1:] = (table["high"][1:] == table["high"][:-1]) & (table["low"][1:] == table["low"][:-1])
        count += int(again.sum())
        found = zip(*(table[name][again].tolist() for name in ("file", "row", "at")), strict=True)
        first = heapq.nsmallest(MAX_BROKEN_ROWS, (*first, *found))
    return count, tuple(_read_example(artifacts, files[file], at) for file, _, at in first)


def _read_range(artifacts: ObjectStore, files: Sequence[HashFile], part: int) -> dict[str, NDArray[Any]]:
    parts: list[Tensors] = []
    for number, file in enumerate(files):
        start, stop = file.bounds[part], file.bounds[part + 1]
        if start == stop:
            continue
        with artifacts.open(file.key) as stream:
            table = read_rows(stream, start, stop, ("high", "low", "row"), file.key)
        table["file"] = np.full(stop - start, number, np.int32)
        table["at"] = np.arange(start, stop, dtype=np.int64)
        parts.append(table)
    dtypes = {"high": np.uint64, "low": np.uint64, "row": np.int64, "file": np.int32, "at": np.int64}
    return {
        name: np.concatenate([np.empty(0, dtype), *(part[name] for part in parts)]) for name, dtype in dtypes.items()
    }


def _read_example(artifacts: ObjectStore, file: HashFile, at: int) -> BrokenRow:
    with artifacts.open(file.key) as stream:
        row = read_rows(stream, at, at + 1, ("shown", "of"), file.key)
    place, _, value = row["shown"].tobytes().rstrip(b"\0").partition(b"\x1f")
    name = file.files[int(row["of"][0])]
    return broken_row(name, place.decode("utf-8", "ignore"), value.decode("utf-8", "ignore"))


def _digest(value: bytes) -> bytes:
    return hashlib.sha256(value).digest()[:HASH_BYTES]


def _pack(place: str, value: bytes) -> bytes:
    data = place.encode("utf-8", "replace")[:32] + b"\x1f" + value[:_TEXT_BYTES]
    return data.replace(b"\0", b" ")[:_TEXT_BYTES].ljust(_TEXT_BYTES, b"\0")
