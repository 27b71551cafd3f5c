"""`assign_samples`: how many final shards there are, and which range of positions each one takes.

Sets of up to `EXACT_SAMPLES` samples are judged here once, from their keys (about 60 bytes each): shards are even to
the sample, and small sets are guarded. Beyond that the pieces' indexes suffice, since hashes are evenly spread:
positions are cut by the counts of 1,024 equal parts, repeated rows are estimated by a sketch, and only the keys of rare
classes are looked at. What is packed is exact either way; an estimate only makes shards a few per cent uneven.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shoal_core.data.assignment import Assignment, Move, ShardRange
from shoal_core.data.balancing import Entries, guard_classes, guard_splits
from shoal_core.data.config_types import SPLITS
from shoal_core.data.cutting import MAX_ITEMS
from shoal_core.data.deduping import in_order, judge, number_features
from shoal_core.data.near_duplicates import NearFound, find_near_duplicates, near_wanted
from shoal_core.data.pieces import (
    MARK_BITS,
    MARKS,
    POSITION,
    TARGET,
    TIME,
    Layout,
    PieceIndex,
    distinct_rows,
    merge_sketches,
)
from shoal_core.data.plan import Plan
from shoal_core.data.reading import KeyTable, PieceReader, concatenate
from shoal_core.data.report import MAX_EXAMPLES
from shoal_core.data.shards import encode_shard
from shoal_core.data.sides import TRAIN, SideRule, time_cuts
from shoal_core.data.splits import END, POSITION_BITS
from shoal_core.errors import BadInput, NotFound
from shoal_core.keys import DatasetKeys
from shoal_core.store import ObjectStore

EXACT_SAMPLES = 1 << 17
SHARD_BYTES = 32 * 1024**2
# Keys of this many bytes are held while one shard is packed.
SHARD_KEY_BYTES = 128 * 1024**2
# Without a number of workers asked for, a training set is cut so that up to four find a shard each.
DEFAULT_TRAIN_SHARDS = 4
MIN_SHARD_SAMPLES = 64
# A class with fewer samples than this in a large set might have none in training; fewer than one set in 10**40 has.
RARE_CLASS = 1000
MAX_PACK_ITEMS = MAX_ITEMS
LEAST_EXAMPLES = 20
_READERS = 8


def assign_samples(artifacts: ObjectStore, dataset: str, version: str) -> Assignment:
    """Assign the samples of a dataset version whose work items are all written; a later call returns the same.

    Args:
        artifacts: Where the plan and the pieces are and the assignment goes.
        dataset: Name of the dataset.
        version: Its version.

    Raises:
        NotFound: The plan or a piece doesn't exist.
        BadInput: The pieces don't fit each other.
    """
    keys = DatasetKeys(dataset, version)
    if not artifacts.exists(keys.assignment):
        plan = Plan.decode(artifacts.read(keys.plan))
        pieces = read_pieces(artifacts, keys, len(plan.items))
        assignment, tables = _assign(artifacts, keys, plan, pieces)
        artifacts.write(keys.assignment_tables, encode_shard(tables))
        artifacts.write_new(keys.assignment, assignment.encode(), "application/json")
    return Assignment.decode(artifacts.read(keys.assignment))


def read_pieces(artifacts: ObjectStore, keys: DatasetKeys, items: int) -> list[PieceIndex]:
    """The indexes of all pieces, in order. Raises `NotFound` when one isn't written."""

    def read(item: int) -> PieceIndex:
        try:
            return PieceIndex.decode(artifacts.read(keys.piece_index(item)))
        except NotFound as error:
            raise NotFound(
                f"Work item {item} of dataset {keys.dataset!r} isn't written yet.", "Run write_shard for it."
            ) from error

    with ThreadPoolExecutor(_READERS) as pool:
        return list(pool.map(read, range(items)))


def _assign(
    artifacts: ObjectStore, keys: DatasetKeys, plan: Plan, pieces: Sequence[PieceIndex]
) -> tuple[Assignment, dict[str, NDArray[Any]]]:
    layouts = [piece.layout for piece in pieces if piece.layout is not None]
    if not layouts:
        return Assignment(samples=0), {}
    if any(layout != layouts[0] for layout in layouts):
        raise BadInput(f"The work items of dataset {plan.dataset!r} differ in their tensors.", "Upload the data again.")
    reader = PieceReader.of(artifacts, keys, pieces, layouts[0])
    total = sum(piece.samples for piece in pieces)
    warnings: list[str] = []
    near = near_wanted(plan, layouts[0], total, warnings)
    if near or total <= EXACT_SAMPLES:
        found = _Exact(plan, reader, near, warnings)
        parts, rule, dropped = found.parts(), found.rule, found.near
    else:
        estimate = _Estimate(plan, reader, pieces, warnings)
        parts, rule, dropped = estimate.parts(), estimate.rule, None
    tables: dict[str, NDArray[Any]] = {"marks": reader.marks, "starts": reader.starts}
    if dropped is not None and dropped.report.dropped:
        tables["near"] = dropped.features
    first, second = (cut if math.isfinite(cut) else None for cut in rule.cuts or (math.inf, math.inf))
    assignment = Assignment(
        samples=total,
        layout=layouts[0],
        shards=parts,
        moves=tuple(Move(unit=unit.hex(), split=SPLITS[side]) for unit, side in sorted(rule.moves.items())),
        cuts=(first, second) if rule.cuts is not None else None,
        near_duplicates=dropped.report if dropped is not None else None,
        examples=max(LEAST_EXAMPLES, MAX_EXAMPLES // max(1, len(parts))),
        warnings=tuple(warnings),
    )
    return assignment, tables


def pack_items(shards: int) -> list[tuple[int, int]]:
    """Ranges (first, last) of shards, at least one and at most `MAX_PACK_ITEMS`, for one function call each."""
    size = max(1, math.ceil(shards / MAX_PACK_ITEMS))
    return [(first, min(shards, first + size)) for first in range(0, max(1, shards), size)]


def shard_count(plan: Plan, layout: Layout, side: int, samples: int, scanned: int) -> int:
    """Final shards of one split of `samples`, of which `scanned` keys must be looked at in all."""
    by_bytes = math.ceil(samples * layout.row_type.itemsize / SHARD_BYTES)
    by_keys = math.ceil(scanned * layout.key_type.itemsize / SHARD_KEY_BYTES)
    if side != TRAIN:
        return max(1, by_bytes, by_keys)
    wanted = plan.config.workers or min(DEFAULT_TRAIN_SHARDS, samples // MIN_SHARD_SAMPLES)
    return max(1, min(samples, max(by_bytes, by_keys, wanted)))


class _Exact:
    """All keys are read and judged; the shards are even to the sample."""

    def __init__(self, plan: Plan, reader: PieceReader, near: bool, warnings: list[str]) -> None:
        self._plan, self._reader = plan, reader
        split, classes = plan.config.split, plan.spec.target.classes
        table = in_order(concatenate(list(reader.read_keys([(0, END)]))))
        self._scanned = len(table)
        still = np.zeros(len(table), np.int8)
        table = table.take(judge(table, still, labels_conflict=labels_conflict(plan)).kept)
        self.near: NearFound | None = find_near_duplicates(plan, reader, table) if near and len(table) else None
        if self.near is not None and self.near.report.dropped:
            table = table.take(~self.near.drops)
        cuts = plan.time_cuts
        if cuts is None and split.time is not None:
            cuts = time_cuts(table[TIME], split)
        self.rule = SideRule(split, plan.config.seed, cuts)
        table, sides = self._without_leaks(table)
        # Windows overlap: where planning has left gaps between the sides, none may move across one.
        if len(table) and plan.cuts is None:
            units = self.rule.units(table.keys)
            numbers, _ = number_features(np.zeros(len(table), np.int64), units)
            entries = Entries(table[TARGET], sides.copy(), numbers)
            warnings += guard_classes(entries, classes, range(len(classes)))
            warnings += guard_splits(entries, split, by_class=bool(classes))
            moved = np.flatnonzero(entries.side != sides).tolist()
            moves = {units[index].tobytes(): int(entries.side[index]) for index in moved}
            self.rule = SideRule(split, plan.config.seed, cuts, moves)
            table, sides = self._without_leaks(table)
        self._positions, self._sides = table[POSITION], sides

    def parts(self) -> tuple[ShardRange, ...]:
        """The final shards: equal numbers of samples each."""
        found: list[ShardRange] = []
        for side in _asked_sides(self.rule):
            # A split without samples is packed, too: what dedupe left out there is counted.
            positions = self._positions[self._sides == side]
            scanned = len(positions) if self.rule.ranged else self._scanned
            count = shard_count(self._plan, self._reader.layout, side, len(positions), scanned)
            firsts = np.cumsum([0, *(len(part) for part in np.array_split(positions, count))])[1:-1]
            found += cut_ranges(self.rule, side, positions[firsts].tolist(), positions)
        return tuple(found)

    def _without_leaks(self, table: KeyTable) -> tuple[KeyTable, NDArray[np.int8]]:
        sides = self.rule.of(table.keys)
        if self.rule.ranged or not len(table):
            return table, sides
        kept = judge(table, sides, labels_conflict=False).kept
        return table.take(kept), sides[kept]


class _Estimate:
    """Only indexes are read, and the keys of rare classes."""

    def __init__(self, plan: Plan, reader: PieceReader, pieces: Sequence[PieceIndex], warnings: list[str]) -> None:
        self._plan, self._reader = plan, reader
        split = plan.config.split
        sketch = merge_sketches([piece.sketch for piece in pieces])
        self._sums = reader.marks.sum(axis=0, dtype=np.int64)
        total = int(self._sums[-1])
        self._share = min(1.0, distinct_rows(sketch) / total)
        cuts = plan.time_cuts
        if cuts is None and split.time is not None:
            cuts = time_cuts(np.array([np.nan if time is None else time for time in sketch.times], np.float64), split)
        self.rule = SideRule(split, plan.config.seed, cuts)
        self._moved: NDArray[np.int64] = np.empty(0, np.int64)
        if plan.cuts is None:
            self._guard(pieces, warnings)

    def parts(self) -> tuple[ShardRange, ...]:
        """The final shards: about equal numbers of samples each."""
        split = self._plan.config.split
        shares = (1 - split.validation - split.test, split.validation, split.test)
        found: list[ShardRange] = []
        for side in _asked_sides(self.rule):
            first, last = (self._count_below(position) for position in self.rule.domain(side))
            samples = int((last - first) * self._share * (1 if self.rule.ranged else shares[side]))
            count = shard_count(self._plan, self._reader.layout, side, samples, round(last - first))
            targets = first + (last - first) * np.arange(1, count) / count
            starts = [int(position) for position in np.interp(targets, self._sums, self._marks())]
            found += cut_ranges(self.rule, side, starts, self._moved)
        return tuple(found)

    def _marks(self) -> NDArray[np.float64]:
        marks: NDArray[np.float64] = np.arange(MARKS + 1, dtype=np.float64) * 2 ** (POSITION_BITS - MARK_BITS)
        return marks

    def _count_below(self, position: int) -> float:
        return float(np.interp(position, self._marks(), self._sums))

    def _guard(self, pieces: Sequence[PieceIndex], warnings: list[str]) -> None:
        classes = self._plan.spec.target.classes
        counts = [
            sum(sum(by.get(label, 0) for by in piece.class_counts.values()) for piece in pieces) for label in classes
        ]
        rare = [code for code, count in enumerate(counts) if count < RARE_CLASS]
        if not rare:
            return
        found = [_of_classes(table, rare) for table in self._reader.read_keys([(0, END)])]
        table = in_order(concatenate(found))
        table = table.take(judge(table, self.rule.of(table.keys), labels_conflict=labels_conflict(self._plan)).kept)
        sides, units = self.rule.of(table.keys), self.rule.units(table.keys)
        numbers, _ = number_features(np.zeros(len(table), np.int64), units)
        entries = Entries(table[TARGET], sides.copy(), numbers)
        warnings += guard_classes(entries, classes, rare)
        moved = np.flatnonzero(entries.side != sides)
        moves = {units[index].tobytes(): int(entries.side[index]) for index in moved.tolist()}
        self.rule = SideRule(self._plan.config.split, self._plan.config.seed, self.rule.cuts, moves)
        self._moved = table[POSITION][moved]


def cut_ranges(rule: SideRule, side: int, starts: Sequence[int], positions: NDArray[np.int64]) -> list[ShardRange]:
    """Shards of one split that begin at `starts` (rising; the first begins at 0), each with its ranges.

    A moved sample lies outside the side's own positions; the shard in whose part of the line it lies takes it.

    Args:
        rule: Tells the side's own positions.
        side: Index into `SPLITS`.
        starts: Where the second and further shards begin.
        positions: Of moved samples, and any others of the side.
    """
    low, high = rule.domain(side)
    outside = np.unique(positions[(positions < low) | (positions >= high)]).tolist() if rule.ranged else []
    found: list[ShardRange] = []
    bounds = [0, *starts, END]
    for first, last in itertools.pairwise(bounds):
        ranges = [(place, place + 1) for place in outside if first <= place < last]
        own = (max(first, low), min(last, high))
        if own[0] < own[1]:
            ranges = sorted([*ranges, own])
        if ranges:
            found.append(ShardRange(split=SPLITS[side], index=len(found), ranges=tuple(ranges)))
    return found


def _asked_sides(rule: SideRule) -> list[int]:
    """The splits that may hold samples."""
    shares = (1.0, rule.split.validation, rule.split.test)
    return [side for side, share in enumerate(shares) if share and rule.domain(side)[0] < rule.domain(side)[1]]


def _of_classes(table: KeyTable, codes: Sequence[int]) -> KeyTable:
    target = table[TARGET]
    chosen = np.isin(target, codes) if target.ndim == 1 else np.any(target[:, codes], axis=1)
    return table.take(np.asarray(chosen))


def labels_conflict(plan: Plan) -> bool:
    """Whether equal features with different labels can't both be right: of images, and not of measured numbers."""
    return plan.spec.kind == "image" and plan.spec.target.task != "regression"
