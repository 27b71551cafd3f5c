"""The ledger: hashes and labels of every sample of a set, without the samples; about 60 bytes each.

Dedupe, the guards of small sets and the order of the final shards are decided here, from content alone, so the result
doesn't depend on how the set was cut into work items.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from shoal_core.data.config import SplitConfig
from shoal_core.data.config_types import SPLITS
from shoal_core.data.pieces import FEATURE_HASH, POSITION, ROW_HASH, PieceIndex, hash_words
from shoal_core.data.report import MAX_EXAMPLES
from shoal_core.data.shards import read_rows
from shoal_core.store import ObjectStore

TRAIN, VALIDATION, TEST = range(3)
_COLUMNS = (FEATURE_HASH, ROW_HASH, POSITION, "target")


@dataclass
class Ledger:
    """One entry per sample, in the order of (position, row hash, work item).

    Attributes:
        target: int64 or float32 [N].
        position: int64 [N], the split position.
        feature: int64 [N], equal for equal features, numbered by order.
        row: int64 [N], equal for equal rows.
        origin: int8 [N], index into `SPLITS` of the piece file that holds the sample.
        side: int8 [N], index into `SPLITS` of where it goes.
        piece: int32 [N], work item.
        place: int64 [N], row within the piece file.
    """

    target: NDArray[Any]
    position: NDArray[np.int64]
    feature: NDArray[np.int64]
    row: NDArray[np.int64]
    origin: NDArray[np.int8]
    side: NDArray[np.int8]
    piece: NDArray[np.int32]
    place: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.target)

    def keep(self, chosen: NDArray[Any]) -> None:
        """Keep only the chosen entries."""
        for name, array in vars(self).items():
            setattr(self, name, array[chosen])


def read_ledger(artifacts: ObjectStore, pieces: Sequence[PieceIndex]) -> Ledger | None:
    """Read the hashes and labels of all pieces; None when there is no sample."""
    parts: list[dict[str, NDArray[Any]]] = []
    for piece in pieces:
        for split_index, split in enumerate(SPLITS):
            file = piece.files.get(split)
            if file is None:
                continue
            with artifacts.open(file.key) as stream:
                part = read_rows(stream, 0, file.samples, _COLUMNS, file.key)
            part["origin"] = np.full(file.samples, split_index, np.int8)
            part["piece"] = np.full(file.samples, piece.item, np.int32)
            part["place"] = np.arange(file.samples, dtype=np.int64)
            parts.append(part)
    if not parts:
        return None
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    high, low = hash_words(joined[ROW_HASH])
    order = np.lexsort((joined["piece"], low, high, joined[POSITION]))
    joined = {name: array[order] for name, array in joined.items()}
    return Ledger(
        target=joined["target"],
        position=joined[POSITION],
        feature=_number(joined[FEATURE_HASH]),
        row=_number(joined[ROW_HASH]),
        origin=joined["origin"],
        side=joined["origin"].copy(),
        piece=joined["piece"],
        place=joined["place"],
    )


@dataclass(frozen=True)
class Entry:
    """Where a sample's tensors are: work item, index into `SPLITS` of its piece file, row in that file."""

    item: int
    origin: int
    row: int


@dataclass(frozen=True)
class LeftOut:
    """A sample that went in dedupe: `twin` is the kept sample that a `duplicate` equals; a conflict has none."""

    code: Literal["duplicate", "conflicting_label"]
    entry: Entry
    twin: Entry | None = None


@dataclass(frozen=True)
class Duplicates:
    """What dedupe left out: counts by code, and the first `MAX_EXAMPLES` of them."""

    counts: dict[str, int]
    examples: tuple[LeftOut, ...] = ()


def drop_duplicates(ledger: Ledger, labels_conflict: bool) -> Duplicates:
    """Keep the first of equal rows; where `labels_conflict` (images), drop equal features with different labels.

    For tables, equal features with different targets are normal and stay.
    """
    counts: dict[str, int] = {}
    examples: list[LeftOut] = []
    if labels_conflict:
        groups = int(ledger.feature.max()) + 1
        low = np.full(groups, np.iinfo(np.int64).max)
        high = np.full(groups, np.iinfo(np.int64).min)
        np.minimum.at(low, ledger.feature, ledger.target)
        np.maximum.at(high, ledger.feature, ledger.target)
        agreeing = (low == high)[ledger.feature]
        if not agreeing.all():
            counts["conflicting_label"] = int((~agreeing).sum())
            gone = np.flatnonzero(~agreeing)[:MAX_EXAMPLES].tolist()
            examples += [LeftOut("conflicting_label", _entry(ledger, index)) for index in gone]
            ledger.keep(agreeing)
    # The order puts the first work item's first row first among equal ones.
    _, first, group = np.unique(ledger.row, return_index=True, return_inverse=True)
    if len(first) < len(ledger):
        counts["duplicate"] = len(ledger) - len(first)
        twins = first[group.reshape(-1)]
        gone = np.flatnonzero(twins != np.arange(len(ledger)))[:MAX_EXAMPLES].tolist()
        examples += [LeftOut("duplicate", _entry(ledger, index), _entry(ledger, int(twins[index]))) for index in gone]
        ledger.keep(np.sort(first))
    return Duplicates(counts, tuple(examples[:MAX_EXAMPLES]))


def _entry(ledger: Ledger, index: int) -> Entry:
    return Entry(int(ledger.piece[index]), int(ledger.origin[index]), int(ledger.place[index]))


def guard_small_sets(ledger: Ledger, classes: Sequence[str], split: SplitConfig) -> list[str]:
    """Move a few samples where a split or a class would be empty; tell each move.

    1. A class without a training sample gets one: its sample with the highest position, the one nearest to the
       training side, so a class with a single sample goes to training.
    2. An empty test (then validation) split that was asked for takes the training sample with the lowest position whose
       class keeps another training sample.

    Samples with equal features move together. These are the only moves away from the side that the hash gives; they
    happen in sets of a few dozen samples, and end when data grows.
    """
    warnings: list[str] = []
    for code, label in enumerate(classes):
        members = np.flatnonzero(ledger.target == code)
        if not members.size:
            warnings.append(f"Class {label!r} has no samples left.")
            continue
        if members.size == 1:
            warnings.append(f"Class {label!r} has one sample only; it is used for training and can't be tested.")
        if not (ledger.side[members] == TRAIN).any():
            _move(ledger, int(members[-1]), TRAIN)
            if members.size > 1:
                warnings.append(f"Class {label!r} had no training sample; one was moved from the held-out ones.")
    for side, share in ((TEST, split.test), (VALIDATION, split.validation)):
        if share and not (ledger.side == side).any():
            warnings.append(_fill(ledger, side, bool(classes)))
    if not (ledger.side == TRAIN).any():
        _move(ledger, len(ledger) - 1, TRAIN)
        warnings.append("The training split was empty; one sample was moved to it.")
    return warnings


def _fill(ledger: Ledger, side: int, by_class: bool) -> str:
    name = SPLITS[side]
    train = np.flatnonzero(ledger.side == TRAIN)
    for index in train.tolist():
        group = (ledger.feature == ledger.feature[index]) & (ledger.side == TRAIN)
        rest = (ledger.side == TRAIN) & ~group
        needed = ledger.target[group] if by_class else ledger.target[:0]
        if rest.any() and np.isin(needed, ledger.target[rest]).all():
            _move(ledger, index, side)
            return f"The {name} split was empty; {int(group.sum())} of the training samples went to it."
    return f"The {name} split is empty: there are too few samples."


def _move(ledger: Ledger, index: int, side: int) -> None:
    ledger.side[ledger.feature == ledger.feature[index]] = side


def _number(hashes: NDArray[Any]) -> NDArray[np.int64]:
    """Number equal hashes alike."""
    words = np.ascontiguousarray(hashes).view(np.dtype((np.void, hashes.shape[1]))).reshape(-1)
    return np.unique(words, return_inverse=True)[1].reshape(-1).astype(np.int64)
