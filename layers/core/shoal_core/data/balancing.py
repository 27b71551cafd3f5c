"""Guards of small sets: no class without a training sample, no empty split that was asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shoal_core.data.config import SplitConfig
from shoal_core.data.config_types import SPLITS
from shoal_core.data.sides import TEST, TRAIN, VALIDATION


@dataclass
class Entries:
    """Samples that stay, in order of position; `side` changes as guards move some.

    Attributes:
        target: int64 or float32 [N], or uint8 [N,classes].
        side: int8 [N], index into `SPLITS`.
        unit: int64 [N], equal for samples that move together.
    """

    target: NDArray[Any]
    side: NDArray[np.int8]
    unit: NDArray[np.int64]

    def members(self, code: int) -> NDArray[np.int64]:
        """Samples of a class, or with a label."""
        has = self.target[:, code] > 0 if self.target.ndim == 2 else self.target == code
        return np.flatnonzero(has)

    def move(self, index: int, side: int) -> None:
        """Move a sample and all that moves with it."""
        self.side[self.unit == self.unit[index]] = side


def guard_classes(entries: Entries, classes: Sequence[str], codes: Sequence[int]) -> list[str]:
    """A class without a training sample gets its sample with the highest position; tell each move.

    That is the sample nearest to the training side, so a class with a single sample goes to training.
    """
    warnings: list[str] = []
    for code in codes:
        label = classes[code]
        members = entries.members(code)
        if not members.size:
            warnings.append(f"Class {label!r} has no samples left.")
            continue
        if members.size == 1:
            warnings.append(f"Class {label!r} has one sample only; it is used for training and can't be tested.")
        if not (entries.side[members] == TRAIN).any():
            entries.move(int(members[-1]), TRAIN)
            if members.size > 1:
                warnings.append(f"Class {label!r} had no training sample; one was moved from the held-out ones.")
    return warnings


def guard_splits(entries: Entries, split: SplitConfig, *, by_class: bool) -> list[str]:
    """Fill an empty test (then validation) split that was asked for, and an empty training split; tell each move.

    An empty split takes the training sample with the lowest position whose classes keep other training samples. These
    moves happen in sets of a few dozen samples, and end when data grows.
    """
    warnings = []
    for side, share in ((TEST, split.test), (VALIDATION, split.validation)):
        if share and not (entries.side == side).any():
            warnings.append(_fill(entries, side, by_class))
    if len(entries.side) and not (entries.side == TRAIN).any():
        entries.move(len(entries.side) - 1, TRAIN)
        warnings.append("The training split was empty; one sample was moved to it.")
    return warnings


def _fill(entries: Entries, side: int, by_class: bool) -> str:
    name = SPLITS[side]
    train = entries.side == TRAIN
    tried: set[int] = set()
    for index in np.flatnonzero(train).tolist():
        unit = int(entries.unit[index])
        if unit in tried:
            continue
        tried.add(unit)
        group = (entries.unit == unit) & train
        rest = train & ~group
        if rest.any() and (not by_class or _covered(entries.target[group], entries.target[rest])):
            entries.move(index, side)
            return f"The {name} split was empty; {int(group.sum())} of the training samples went to it."
    return f"The {name} split is empty: there are too few samples."


def _covered(needed: NDArray[Any], rest: NDArray[Any]) -> bool:
    if needed.ndim == 2:
        return bool((rest.any(axis=0) | ~needed.any(axis=0)).all())
    return bool(np.isin(needed, rest).all())
