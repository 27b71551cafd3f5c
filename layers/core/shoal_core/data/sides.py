"""On which side of the split a sample lies: by the hash of its features, by its group, or by its time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shoal_core.data.config import SplitConfig
from shoal_core.data.pieces import FEATURE_HASH, GROUP, POSITION, TIME
from shoal_core.data.splits import END, hash_words, split_bounds, split_indices, split_positions

TRAIN, VALIDATION, TEST = range(3)


@dataclass(frozen=True)
class SideRule:
    """A pure function from a sample's hashes and time to its side.

    Attributes:
        split: The shares, and what divides: features, `group` or `time`.
        seed: Of the hash.
        cuts: (first time of validation, first time of test), known once all times are; None puts all in training.
        moves: Unit (the hash that decides) -> side, for the few that a guard moved.
    """

    split: SplitConfig
    seed: int
    cuts: tuple[float, float] | None = None
    moves: Mapping[bytes, int] = field(default_factory=dict)

    @property
    def ranged(self) -> bool:
        """Whether each side is one range of positions: features alone decide."""
        return self.split.group is None and self.split.time is None

    def domain(self, side: int) -> tuple[int, int]:
        """The positions [low, high) that hold all samples of a side but moved ones."""
        if not self.ranged:
            return 0, END
        validation, train = split_bounds(self.split)
        return {TEST: (0, validation), VALIDATION: (validation, train), TRAIN: (train, END)}[side]

    def units(self, keys: Mapping[str, NDArray[Any]] | NDArray[Any]) -> NDArray[np.uint8]:
        """The hash that decides, uint8 [N,16]: what has one unit moves together."""
        return np.ascontiguousarray(keys[FEATURE_HASH if self.split.group is None else GROUP])

    def of(self, keys: Mapping[str, NDArray[Any]] | NDArray[Any]) -> NDArray[np.int8]:
        """Index into `SPLITS` per sample, int8 [N], of tensors or records with the fields of a piece's keys."""
        if self.split.time is not None:
            times = keys[TIME].astype(np.float64)
            sides = np.full(len(times), TRAIN, np.int8)
            if self.cuts is not None:
                sides[times >= self.cuts[0]] = VALIDATION
                sides[times >= self.cuts[1]] = TEST
        elif self.split.group is not None:
            sides = split_indices(split_positions(self.seed, keys[GROUP]), self.split)
        else:
            sides = split_indices(np.ascontiguousarray(keys[POSITION]), self.split)
        return self._moved(keys, sides)

    def _moved(self, keys: Mapping[str, NDArray[Any]] | NDArray[Any], sides: NDArray[np.int8]) -> NDArray[np.int8]:
        if not self.moves:
            return sides
        units = self.units(keys)
        moved = hash_words(np.frombuffer(b"".join(self.moves), np.uint8).reshape(len(self.moves), -1))[0]
        for index in np.flatnonzero(np.isin(hash_words(units)[0], moved)).tolist():
            sides[index] = self.moves.get(units[index].tobytes(), int(sides[index]))
        return sides


def time_cuts(times: NDArray[np.float64], split: SplitConfig) -> tuple[float, float]:
    """Where validation and test begin, so that the newest shares are held out: order statistics of the known times.

    Samples of one time stay together, so a side may hold a little less than its share.
    """
    known = np.sort(times[~np.isnan(times)])
    held = [round(share * len(known)) for share in (split.validation + split.test, split.test)]
    first, second = (float(known[len(known) - count]) if count else float("inf") for count in held)
    first, second = _later(known, first, held[0]), _later(known, second, held[1])
    return first, max(first, second)


def _later(known: NDArray[np.float64], cut: float, count: int) -> float:
    """A cut in the middle of equal times moves past them, unless nothing would be left beyond it."""
    if not count or known.searchsorted(cut, side="left") == len(known) - count:
        return cut
    after = known.searchsorted(cut, side="right")
    return float(known[after]) if after < len(known) else cut
