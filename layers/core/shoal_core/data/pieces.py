"""Pieces: one work item's encoded samples, ordered by (position, row hash), ready to be read by ranges of positions.

A piece is one safetensors file of up to three tensors, a row per sample: `keys` uint8 [N,k], what dedupe and the split
need; `rows` uint8 [N,r], what goes into the shard; `near_hash` uint64 [N,B], for near-duplicates. A row is a record of
fields (`Layout`), so a range of positions is one range of bytes: whoever packs a final shard reads it in one request
per piece. Samples with equal features have equal positions, so they are neighbours in the order of all pieces.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from shoal_core.data.canonical import canonical_json
from shoal_core.data.config_types import Split
from shoal_core.data.quality.items import ItemFindings
from shoal_core.data.report import Drops
from shoal_core.data.shards import Tensors, decode_shard, new_shard
from shoal_core.data.splits import HASH_BYTES, POSITION_BITS, hash_words
from shoal_core.errors import BadInput
from shoal_core.frozen import Frozen

FEATURE_HASH = "feature_hash"
ROW_HASH = "row_hash"
POSITION = "position"
GROUP = "group"
"""Hash of what `split.group` names: uint8 [N,16]."""
TIME = "time"
"""What `split.time` names: numbers [N], kept as float64; NaN is unknown and counts as oldest."""
NEAR_HASH = "near_hash"
PLACE = "place"
"""Where a sample stood in its source: line numbers (integers), or names (texts, kept beside the piece)."""
TARGET = "target"
KEYS, ROWS = "keys", "rows"
_KEY_FIELDS = (POSITION, TIME, PLACE, FEATURE_HASH, ROW_HASH, GROUP, TARGET)

MARK_BITS = 10
"""A piece's index tells at which row each of 2**10 equal parts of the positions begins."""
MARKS = 1 << MARK_BITS
SKETCH_ROWS = 1024
# Records are put together in blocks that stay in a core's cache.
_BLOCK = 1 << 14


class RecordField(Frozen):
    """One field of a record: a tensor's name, its dtype (numpy's code) and its shape without the first axis."""

    name: str
    dtype: str
    shape: tuple[int, ...]


class Layout(Frozen):
    """The records of a piece; the same in all pieces of a set. `near` is the width of `near_hash`, 0 without any."""

    keys: tuple[RecordField, ...]
    rows: tuple[RecordField, ...]
    near: int = 0

    @property
    def key_type(self) -> np.dtype[Any]:
        """The records of `keys`."""
        return np.dtype([(field.name, field.dtype, field.shape) for field in self.keys])

    @property
    def row_type(self) -> np.dtype[Any]:
        """The records of `rows`."""
        return np.dtype([(field.name, field.dtype, field.shape) for field in self.rows])


class PieceFile(Frozen):
    """A piece's tensors: key, bytes, and the byte at which each tensor begins."""

    key: str
    bytes: int = Field(ge=1)
    starts: dict[str, int]


class RowSketch(Frozen):
    """The distinct rows with the `SKETCH_ROWS` smallest hashes (as 64-bit numbers), and their times.

    An even sample of the set's distinct rows, whatever repeats in it: it merges by keeping the smallest again.
    (Bar-Yossef et al., "Counting distinct elements in a data stream", 2002.)
    """

    hashes: tuple[int, ...] = ()
    times: tuple[float | None, ...] = ()


class PieceIndex(Frozen):
    """`pieces/piece-00000.json`: one work item's outcome, written after its tensors.

    `marks` are the first rows of the `MARKS` parts of the positions. `class_counts` are by side as far as it is known
    from a sample alone; by time, everything counts as training. Nothing here is deduped: that is done while packing.
    """

    schema_version: Literal[1] = 1
    item: int = Field(ge=0)
    samples: int = Field(ge=0)
    file: PieceFile | None = None
    layout: Layout | None = None
    marks: tuple[int, ...] = ()
    sketch: RowSketch = RowSketch()
    class_counts: dict[Split, dict[str, int]] = Field(default={})
    drops: Drops = Drops()
    findings: ItemFindings = ItemFindings()

    def encode(self) -> bytes:
        """The canonical bytes."""
        return canonical_json(self.model_dump(mode="json"))

    @classmethod
    def decode(cls, data: bytes) -> PieceIndex:
        """Read a piece's index. Raises `BadInput` when it isn't one."""
        try:
            return cls.model_validate_json(data)
        except ValueError as error:
            raise BadInput(f"The piece's index can't be read: {error}.", "Upload the data again.") from error


def layout_of(tensors: Mapping[str, NDArray[Any]]) -> Layout:
    """The records that encoded samples make; `place` is a field only where it is a number."""
    keys = [name for name in _KEY_FIELDS if name in tensors and (name != PLACE or tensors[name].dtype.kind in "iu")]
    rows = [*sorted(tensors.keys() - {*_KEY_FIELDS, NEAR_HASH}), TARGET]
    near = tensors[NEAR_HASH].shape[1] if NEAR_HASH in tensors else 0
    return Layout(keys=_fields(tensors, keys), rows=_fields(tensors, rows), near=near)


def order_rows(position: NDArray[np.int64], row_hash: NDArray[Any]) -> NDArray[np.int64]:
    """The order by (position, row hash, order of appearance)."""
    # Not the stable sort, which takes several times as long: equal positions are few, and ordered below.
    order = np.argsort(position)
    equal = np.diff(position[order]) == 0
    if equal.any():
        tied = np.flatnonzero(np.concatenate([[False], equal]) | np.concatenate([equal, [False]]))
        entries = order[tied]
        high, low = hash_words(row_hash[entries])
        order[tied] = entries[np.lexsort((entries, low, high, position[entries]))]
    return order


def _fill(table: NDArray[Any], tensors: Mapping[str, NDArray[Any]], order: NDArray[np.int64]) -> None:
    """Write tensors into records, in an order."""
    fields = raw_fields(table)
    sources = {name: as_records(tensors[name].astype(table.dtype[name].base, copy=False)) for name in fields}
    for start in range(0, len(order), _BLOCK):
        chosen = slice(start, start + _BLOCK)
        for name, source in sources.items():
            fields[name][chosen] = source.take(order[chosen])


def as_records(array: NDArray[Any]) -> NDArray[Any]:
    """An array [N, ...] as N opaque records, which numpy copies in one go each."""
    array = np.ascontiguousarray(array)
    size = array.dtype.itemsize * math.prod(array.shape[1:])
    return np.ndarray((len(array),), f"V{size}", array.reshape(-1).view(np.uint8))


def raw_fields(table: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """Views of each field of records, as opaque records."""
    dtype = table.dtype
    raw = {name: (f"V{dtype[name].itemsize}", offset) for name, (_, offset, *_) in (dtype.fields or {}).items()}
    fields = table.view(
        np.dtype(
            {
                "names": list(raw),
                "formats": [code for code, _ in raw.values()],
                "offsets": [offset for _, offset in raw.values()],
                "itemsize": dtype.itemsize,
            }
        )
    )
    return {name: fields[name] for name in raw}


def field_of(table: NDArray[Any], name: str) -> NDArray[Any]:
    """One field of records as an array of its own: [N, ...]."""
    dtype = table.dtype[name]
    found = np.ascontiguousarray(raw_fields(table)[name])
    return found.view(dtype.base).reshape(len(table), *dtype.shape)


def encode_piece(tensors: Tensors, layout: Layout, order: NDArray[np.int64]) -> bytearray:
    """The bytes of a piece's file, with its samples in an order."""
    types = {KEYS: layout.key_type, ROWS: layout.row_type}
    shapes: dict[str, tuple[np.dtype[Any], tuple[int, ...]]] = {
        name: (np.dtype(np.uint8), (len(order), dtype.itemsize)) for name, dtype in types.items()
    }
    if layout.near:
        shapes[NEAR_HASH] = (np.dtype("<u8"), (len(order), layout.near))
    data, parts = new_shard(shapes)
    for name, dtype in types.items():
        _fill(parts[name].reshape(-1).view(dtype), tensors, order)
    if layout.near:
        parts[NEAR_HASH][:] = tensors[NEAR_HASH][order]
    return data


def decode_piece(data: bytes, layout: Layout, name: str = "The piece") -> Tensors:
    """All tensors of a piece, by their own names."""
    tensors = decode_shard(data, name)
    found: Tensors = {}
    for part, dtype in ((KEYS, layout.key_type), (ROWS, layout.row_type)):
        table = tensors[part].view(dtype).reshape(-1)
        found.update({field: field_of(table, field) for field in dtype.names or ()})
    if NEAR_HASH in tensors:
        found[NEAR_HASH] = tensors[NEAR_HASH]
    return found


def mark_of(position: int) -> int:
    """The part of the positions that a position lies in."""
    return position >> (POSITION_BITS - MARK_BITS)


def marks_of(position: NDArray[np.int64]) -> tuple[int, ...]:
    """The first row of each part, of positions in rising order."""
    starts = np.arange(MARKS, dtype=np.int64) << (POSITION_BITS - MARK_BITS)
    return tuple(np.searchsorted(position, starts).tolist())


def sketch_rows(row_hash: NDArray[Any], time: NDArray[Any] | None) -> RowSketch:
    """The sketch of one piece's rows."""
    words, chosen = hash_words(row_hash)[0], np.arange(len(row_hash))
    # Hashes are even: of many rows the smallest lie in a small part of all, which is all that has to be sorted.
    share = 8 * SKETCH_ROWS / max(1, len(words))
    if share < 1:
        small = np.flatnonzero(words < np.uint64(share * 2.0**64))
        if len(np.unique(words[small])) >= SKETCH_ROWS:
            words, chosen = words[small], small
    words, first = np.unique(words, return_index=True)
    words, first = words[:SKETCH_ROWS], chosen[first[:SKETCH_ROWS]]
    times = time[first].tolist() if time is not None else ()
    return RowSketch(hashes=tuple(words.tolist()), times=tuple(None if value != value else value for value in times))


def merge_sketches(sketches: Sequence[RowSketch]) -> RowSketch:
    """The sketch of all rows together."""
    words = np.array([word for sketch in sketches for word in sketch.hashes], np.uint64)
    times = [time for sketch in sketches for time in sketch.times]
    words, first = np.unique(words, return_index=True)
    chosen = first[:SKETCH_ROWS]
    return RowSketch(
        hashes=tuple(words[:SKETCH_ROWS].tolist()), times=tuple(times[index] for index in chosen) if times else ()
    )


def distinct_rows(sketch: RowSketch) -> int:
    """About how many distinct rows were seen: exact up to the sketch's size, else within about 3 % (one sigma)."""
    if len(sketch.hashes) < SKETCH_ROWS:
        return len(sketch.hashes)
    return (SKETCH_ROWS - 1) * (1 << 64) // max(1, sketch.hashes[-1])


def hash_array(hashes: Sequence[bytes]) -> NDArray[np.uint8]:
    """Content hashes as one array: uint8 [N,16]."""
    return np.frombuffer(b"".join(hashes), np.uint8).reshape(len(hashes), HASH_BYTES)


def _fields(tensors: Mapping[str, NDArray[Any]], names: Sequence[str]) -> tuple[RecordField, ...]:
    return tuple(
        RecordField(name=name, dtype=tensors[name].dtype.newbyteorder("<").str, shape=tensors[name].shape[1:])
        for name in names
    )
