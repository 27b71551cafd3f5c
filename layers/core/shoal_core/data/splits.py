"""Content hashes, and the side of the split that follows from them.

A sample's side is a pure function of (seed, hash of its features): it stays when data grows, and samples with equal
features lie on one side, whatever their labels. The same thresholds hold for every class, so each class is divided by
the same shares, up to sampling noise; exact shares per class can't be had together with a stable side. The label is
left out of the hash on purpose: salted by class, two samples with equal features and different labels could lie on
both sides.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from shoal_core.data.config import SplitConfig
from shoal_core.data.config_types import SPLITS, Split

HASH_BYTES = 16
_POSITION_BITS = 53


def content_hash(*parts: bytes) -> bytes:
    """128-bit hash of byte strings: sha256, cut to 16 bytes; each part is preceded by its length."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.digest()[:HASH_BYTES]


def split_position(seed: int, feature_hash: bytes) -> int:
    """Where a sample lies on the line 0 .. 2**53 that is cut into test, validation and train."""
    digest = content_hash(b"shoal-split-1", str(seed).encode(), feature_hash)
    return int.from_bytes(digest[:8], "big") >> (64 - _POSITION_BITS)


def split_of(position: int, split: SplitConfig) -> Split:
    """The side of a position: [0, test) is test, then validation, the rest train."""
    share = position / 2**_POSITION_BITS
    if share < split.test:
        return "test"
    return "validation" if share < split.test + split.validation else "train"


def split_indices(positions: NDArray[np.int64], split: SplitConfig) -> NDArray[np.int8]:
    """`split_of` for many: index into `SPLITS` per position."""
    sides = {name: index for index, name in enumerate(SPLITS)}
    return np.array([sides[split_of(position, split)] for position in positions.tolist()], np.int8)
