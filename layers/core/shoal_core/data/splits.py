"""Content hashes, and the side of the split that follows from them.

A sample's side is a pure function of (seed, hash of its features): it stays when data grows, and samples with equal
features lie on one side, whatever their labels. The same thresholds hold for every class, so each class is divided by
the same shares, up to sampling noise; exact shares per class can't be had together with a stable side. The label is
left out of the hash on purpose: salted by class, two samples with equal features and different labels could lie on
both sides.

Content hashes are uniform already, so a position costs two rounds of a 64-bit mixer per sample, in numpy: the finaliser
of splitmix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014).
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shoal_core.data.config import SplitConfig
from shoal_core.data.config_types import SPLITS, Split

HASH_BYTES = 16
POSITION_BITS = 53
END = 1 << POSITION_BITS
"""Positions lie in 0 .. END - 1."""
_GOLDEN = 0x9E3779B97F4A7C15
_WORD = (1 << 64) - 1


def content_hash(*parts: bytes) -> bytes:
    """128-bit hash of byte strings: sha256, cut to 16 bytes; each part is preceded by its length."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.digest()[:HASH_BYTES]


def hash_words(hashes: NDArray[Any]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """uint8 [N,16] hashes as two big-endian words of 64 bits, which sort as the hashes do."""
    words = np.ascontiguousarray(hashes).view(">u8").astype(np.uint64)
    return words[:, 0], words[:, 1]


def split_positions(seed: int, hashes: NDArray[Any]) -> NDArray[np.int64]:
    """Where hashes (uint8 [N,16]) lie on the line 0 .. 2**53 that is cut into test, validation and train: int64 [N]."""
    high, low = hash_words(hashes)
    salt = np.uint64((seed + 1) * _GOLDEN & _WORD)
    mixed = _mix(high ^ _mix(low + salt))
    return (mixed >> np.uint64(64 - POSITION_BITS)).astype(np.int64)


def split_bounds(split: SplitConfig) -> tuple[int, int]:
    """The first position of validation and the first one of train: [0, first) is test."""
    return round(split.test * END), round((split.test + split.validation) * END)


def split_of(position: int, split: SplitConfig) -> Split:
    """The side of a position: [0, test) is test, then validation, the rest train."""
    validation, train = split_bounds(split)
    if position < validation:
        return "test"
    return "validation" if position < train else "train"


def split_indices(positions: NDArray[np.int64], split: SplitConfig) -> NDArray[np.int8]:
    """`split_of` for many: index into `SPLITS` per position."""
    order = np.array([SPLITS.index("test"), SPLITS.index("validation"), SPLITS.index("train")], np.int8)
    return order[np.searchsorted(np.array(split_bounds(split), np.int64), positions, side="right")]


def _mix(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """splitmix64's finaliser: a bijection whose every output bit depends on every input bit."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))
