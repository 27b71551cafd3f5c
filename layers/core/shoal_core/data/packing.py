"""`pack_shard`: one final shard from all pieces. Running it again changes nothing.

A shard is a range of positions, so duplicates and conflicts are decided within it, whatever the other shards are.
Memory: the keys of its range (about 60 bytes a sample) and its own tensors, whatever the set's size.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from shoal_core.data.assigning import labels_conflict
from shoal_core.data.assignment import Assignment, ShardRange
from shoal_core.data.canonical import canonical_json
from shoal_core.data.config_types import SPLITS, Split
from shoal_core.data.deduping import CODES, CONFLICT, DUPLICATE, KEPT, LEAK, Verdicts, in_order, judge
from shoal_core.data.manifest import ShardFile
from shoal_core.data.pieces import TARGET, as_records, raw_fields
from shoal_core.data.places import PlaceReader
from shoal_core.data.plan import Plan
from shoal_core.data.reading import KeyTable, PieceReader, concatenate
from shoal_core.data.report import Drop
from shoal_core.data.shards import Tensors, decode_shard, new_shard
from shoal_core.data.sides import SideRule
from shoal_core.data.statistics import StatisticsAccumulator, count_classes
from shoal_core.errors import BadInput, NotFound
from shoal_core.frozen import Frozen
from shoal_core.keys import DatasetKeys
from shoal_core.store import ObjectStore

MAX_SHARD_BYTES = 64 * 1024**2


class PackIndex(Frozen):
    """`packs/pack-00000.json`: one final shard's outcome, written after its tensors.

    `files` is empty where dedupe left nothing, and has several where far more samples than foreseen lie in the range.
    `left_out` counts what dedupe dropped, `examples` are the first of it. `statistics` is the exact state of
    `StatisticsAccumulator`, of training shards only.
    """

    schema_version: Literal[1] = 1
    shard: int = Field(ge=0)
    split: Split
    files: tuple[ShardFile, ...] = ()
    samples: int = Field(ge=0)
    classes: tuple[int, ...] = ()
    left_out: dict[str, int] = Field(default={})
    examples: tuple[Drop, ...] = ()
    statistics: dict[str, Any] | None = None

    def encode(self) -> bytes:
        """The canonical bytes."""
        return canonical_json(self.model_dump(mode="json"))

    @classmethod
    def decode(cls, data: bytes) -> PackIndex:
        """Read a shard's index. Raises `BadInput` when it isn't one."""
        try:
            return cls.model_validate_json(data)
        except ValueError as error:
            raise BadInput(f"The shard's index can't be read: {error}.", "Upload the data again.") from error


def pack_shard(artifacts: ObjectStore, dataset: str, version: str, shard: int) -> PackIndex:
    """Pack one final shard of an assigned dataset version.

    Args:
        artifacts: Where plan, assignment and pieces are, and the shard goes.
        dataset: Name of the dataset.
        version: Its version.
        shard: Number of the shard, from 0, over all splits.

    Raises:
        NotFound: No such plan, assignment or shard.
    """
    keys = DatasetKeys(dataset, version)
    if artifacts.exists(keys.pack_index(shard)):
        return PackIndex.decode(artifacts.read(keys.pack_index(shard)))
    plan = Plan.decode(artifacts.read(keys.plan))
    assignment = Assignment.decode(artifacts.read(keys.assignment))
    if not 0 <= shard < len(assignment.shards) or assignment.layout is None:
        raise NotFound(f"Dataset {dataset!r} version {version!r} has no shard {shard}.")
    tables = decode_shard(artifacts.read(keys.assignment_tables), keys.assignment_tables)
    reader = PieceReader(artifacts, keys, assignment.layout, tables["marks"], tables["starts"])
    index = _Packer(artifacts, keys, plan, assignment, reader).pack(shard, tables.get("near"))
    artifacts.write(keys.pack_index(shard), index.encode(), "application/json")
    return index


class _Packer:
    def __init__(
        self, artifacts: ObjectStore, keys: DatasetKeys, plan: Plan, assignment: Assignment, reader: PieceReader
    ) -> None:
        self._artifacts, self._keys, self._plan = artifacts, keys, plan
        self._assignment, self._reader = assignment, reader

    def pack(self, shard: int, near: NDArray[np.uint8] | None) -> PackIndex:
        part = self._assignment.shards[shard]
        tables = list(self._reader.read_keys(part.ranges))
        statistics = StatisticsAccumulator(self._plan.spec) if part.split == "train" else None
        if not tables:
            return self._index(shard, part, (), np.zeros(len(self._plan.spec.target.classes), np.int64), statistics)
        table = in_order(concatenate(tables))
        del tables
        sides = _rule(self._plan, self._assignment).of(table.keys)
        verdicts = judge(table, sides, labels_conflict=labels_conflict(self._plan), near=near)
        mine = sides == SPLITS.index(part.split)
        counts = np.bincount(verdicts.code[mine], minlength=len(CODES)).tolist()
        examples = tuple(self._examples(table, verdicts, mine, sides))
        table = table.take(mine & verdicts.kept)
        classes = np.zeros(len(self._plan.spec.target.classes), np.int64)
        if self._plan.spec.target.classes and len(table):
            classes = count_classes(table[TARGET], len(classes))
        files = tuple(self._write(part, table, statistics))
        left_out = {CODES[code]: count for code, count in enumerate(counts) if code != KEPT and count}
        index = self._index(shard, part, files, classes, statistics)
        return index.model_copy(update={"left_out": left_out, "examples": examples})

    def _index(
        self,
        shard: int,
        part: ShardRange,
        files: tuple[ShardFile, ...],
        classes: NDArray[np.int64],
        statistics: StatisticsAccumulator | None,
    ) -> PackIndex:
        return PackIndex(
            shard=shard,
            split=part.split,
            files=files,
            samples=sum(file.samples for file in files),
            classes=tuple(classes.tolist()),
            statistics=statistics.state() if statistics is not None else None,
        )

    def _write(
        self, part: ShardRange, table: KeyTable, statistics: StatisticsAccumulator | None
    ) -> Iterator[ShardFile]:
        """Write the samples of an ordered table, as one file unless that would be far too large."""
        most = max(1, MAX_SHARD_BYTES // self._reader.layout.row_type.itemsize)
        count = -(-len(table) // most)
        for number, chosen in enumerate(np.array_split(np.arange(len(table)), count) if count else ()):
            data, tensors = _shard_of(self._reader.read_rows(table if count == 1 else table.take(chosen)))
            if statistics is not None:
                statistics.add(tensors)
            key = self._keys.shard(part.split, part.index, number)
            self._artifacts.write(key, data)
            yield ShardFile(key=key, samples=len(chosen), bytes=len(data), sha256=hashlib.sha256(data).hexdigest())

    def _examples(
        self, table: KeyTable, verdicts: Verdicts, mine: NDArray[np.bool_], sides: NDArray[np.int8]
    ) -> Iterator[Drop]:
        """The first of what dedupe left out, by their places in the source. Near-duplicates are told elsewhere."""
        places = PlaceReader(self._reader, self._plan)
        shown = mine & np.isin(verdicts.code, (CONFLICT, DUPLICATE, LEAK))
        for index in np.flatnonzero(shown)[: self._assignment.examples].tolist():
            code, twin = int(verdicts.code[index]), int(verdicts.twin[index])
            where, fix = places.of(table, index), ""
            if code == CONFLICT:
                reason = f"{where!r} lies in two classes with equal content."
                fix = "Keep it in the right class only."
            elif code == DUPLICATE:
                reason = f"{where!r} equals {places.of(table, twin)!r}, which is kept."
            else:
                other = SPLITS[int(sides[twin])]
                reason = f"{where!r} has the features of {places.of(table, twin)!r}, which is in the {other} split."
            file = places.file(table, index)
            yield Drop(file=file, place=where, code=CODES[code], reason=reason, fix=fix)


def _shard_of(rows: NDArray[Any]) -> tuple[bytearray, Tensors]:
    """Records of rows as a shard: its bytes, and its tensors within them."""
    types = {name: rows.dtype[name] for name in rows.dtype.names or ()}
    data, tensors = new_shard({name: (dtype.base, (len(rows), *dtype.shape)) for name, dtype in types.items()})
    for name, field in raw_fields(rows).items():
        as_records(tensors[name])[:] = field
    return data, tensors


def _rule(plan: Plan, assignment: Assignment) -> SideRule:
    cuts = None
    if assignment.cuts is not None:
        first, second = (float("inf") if cut is None else cut for cut in assignment.cuts)
        cuts = (first, second)
    moves = {bytes.fromhex(move.unit): SPLITS.index(move.split) for move in assignment.moves}
    return SideRule(plan.config.split, plan.config.seed, cuts, moves)
