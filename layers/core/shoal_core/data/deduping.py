"""Which samples of a range of positions stay: exact duplicates, conflicts and leaks are decided from content alone.

Equal features have equal positions, so a range decides all of it for itself, and the result doesn't depend on how the
set was cut into work items or into ranges.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shoal_core.data.pieces import FEATURE_HASH, POSITION, ROW_HASH, TARGET, order_rows
from shoal_core.data.reading import KeyTable
from shoal_core.data.splits import hash_words

KEPT, CONFLICT, DUPLICATE, NEAR, LEAK = range(5)
CODES = ("", "conflicting_label", "duplicate", "near_duplicate", "other_split")
"""Names of the verdicts, as the report counts them."""


@dataclass
class Verdicts:
    """What becomes of each sample of a table.

    Attributes:
        code: int8 [N], index into `CODES`.
        twin: int64 [N], of a duplicate or a leak the place in the table of the sample that is kept; else its own.
        feature: int64 [N], equal for equal features.
    """

    code: NDArray[np.int8]
    twin: NDArray[np.int64]
    feature: NDArray[np.int64]

    @property
    def kept(self) -> NDArray[np.bool_]:
        """Which stay."""
        stays: NDArray[np.bool_] = self.code == KEPT
        return stays


def in_order(table: KeyTable) -> KeyTable:
    """A table whose parts came item by item, in the order of all its samples."""
    return table.take(order_rows(table[POSITION], table[ROW_HASH]))


def judge(
    table: KeyTable,
    sides: NDArray[np.int8],
    *,
    labels_conflict: bool,
    near: NDArray[np.uint8] | None = None,
) -> Verdicts:
    """Judge an ordered table.

    1. Where `labels_conflict` (images), equal features with different labels all go: which one is right can't be known.
       For tables, equal features with different targets are normal and stay.
    2. Of equal rows the first one stays.
    3. Features listed in `near` (uint8 [M,16]) go: they nearly equal others that stay.
    4. Features that occur on several sides (splits by group or time) stay in training, else in validation.

    Args:
        table: The keys, by `in_order`; all samples of any feature that it holds.
        sides: Index into `SPLITS` per sample.
        labels_conflict: Whether equal features must have equal labels.
        near: Hashes of features that are dropped as near-duplicates.
    """
    position = table[POSITION]
    feature, ordered = number_features(position, table[FEATURE_HASH])
    code = np.zeros(len(table), np.int8)
    twin = np.arange(len(table))
    if labels_conflict and not ordered:
        code[_conflicting(feature, table[TARGET])] = CONFLICT
    _mark_duplicates(position, table[ROW_HASH], code, twin)
    if near is not None and len(near):
        high, _ = hash_words(table[FEATURE_HASH])
        listed = np.zeros(len(table), bool)
        known = set(map(bytes, near))
        for index in np.flatnonzero(np.isin(high, hash_words(near)[0])).tolist():
            listed[index] = table.keys[FEATURE_HASH][index].tobytes() in known
        code[(code == KEPT) & listed] = NEAR
    _mark_leaks(feature, sides, code, twin)
    return Verdicts(code, twin, feature)


def number_features(position: NDArray[np.int64], hashes: NDArray[Any]) -> tuple[NDArray[np.int64], bool]:
    """Number features by order, equal ones alike, and tell whether all differ."""
    step = np.diff(position) != 0
    if step.all():
        return np.arange(len(position)), True
    high, low = hash_words(hashes)
    mixed = ~step & ((np.diff(high) != 0) | (np.diff(low) != 0))
    if not mixed.any():
        return np.concatenate([[0], np.cumsum(step)]), False
    order = np.lexsort((low, high, position))
    changes = (np.diff(position[order]) != 0) | (np.diff(high[order]) != 0) | (np.diff(low[order]) != 0)
    numbers = np.empty(len(position), np.int64)
    numbers[order] = np.concatenate([[0], np.cumsum(changes)])
    return numbers, False


def _conflicting(feature: NDArray[np.int64], target: NDArray[Any]) -> NDArray[np.bool_]:
    """Samples whose features have more than one label; of several labels the whole row counts."""
    label = target if target.ndim == 1 else np.unique(target, axis=0, return_inverse=True)[1].reshape(-1)
    first = np.full(int(feature.max()) + 1, -1, np.int64)
    first[feature[::-1]] = np.arange(len(feature))[::-1]
    differs = label != label[first[feature]]
    return np.bincount(feature, weights=differs)[feature] > 0


def _mark_duplicates(
    position: NDArray[np.int64], row_hash: NDArray[Any], code: NDArray[np.int8], twin: NDArray[np.int64]
) -> None:
    equal = np.diff(position) == 0
    if not equal.any():
        return
    high, low = hash_words(row_hash)
    equal &= (np.diff(high) == 0) & (np.diff(low) == 0)
    again = np.concatenate([[False], equal])
    first = np.maximum.accumulate(np.where(again, 0, np.arange(len(position))))
    gone = again & (code == KEPT)
    code[gone] = DUPLICATE
    twin[gone] = first[gone]


def _mark_leaks(
    feature: NDArray[np.int64], sides: NDArray[np.int8], code: NDArray[np.int8], twin: NDArray[np.int64]
) -> None:
    """Training comes first, then validation: what is kept elsewhere is a leak there."""
    kept = np.flatnonzero(code == KEPT)
    if not len(kept) or not len(feature) or int(feature.max()) + 1 == len(feature):
        return
    order = kept[np.lexsort((sides[kept], feature[kept]))]
    starts = np.concatenate([[True], np.diff(feature[order]) != 0])
    first = order[np.maximum.accumulate(np.where(starts, np.arange(len(order)), 0))]
    leaks = sides[order] != sides[first]
    code[order[leaks]] = LEAK
    twin[order[leaks]] = first[leaks]
