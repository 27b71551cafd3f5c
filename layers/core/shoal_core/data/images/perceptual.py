"""Near-duplicate images: a 64-bit perceptual hash per image, and groups of images that look the same.

The hash is the signs of the low frequencies of the discrete cosine transform around their median (pHash: C. Zauner,
"Implementation and Benchmarking of Perceptual Image Hash Functions", 2010). It is taken of the encoded pixels, so it
costs no decoding, in whole numbers, so it is the same on every machine.

64 bits say little about small images: among 70,000 different MNIST digits 45,637 have a neighbour within 4 bits. So the
hash only proposes pairs, and a sketch (the 63 frequencies themselves and the mean of each channel) decides: no pair of
those digits passes it, nor of 700 Tux Paint stamps except one that is drawn twice, while copies by JPEG at quality
50, noise of 5 steps, or half the size do for photographs of 64 by 64 pixels.
"""

from __future__ import annotations

import functools
import itertools
import math

import numpy as np
from numpy.typing import NDArray

from shoal_core.data.near import Groups

NEAR_WORDS = 18
"""The hash, then the sketch as 68 numbers of 16 bits: 63 frequencies, the means of up to 3 channels, zeros."""
NEAR_BITS = 4
"""Pairs whose hashes differ in more bits aren't looked at."""
LIKENESS = 0.9995
"""Near-duplicates have at least this cosine between their frequencies."""
MEAN_STEPS = 26
"""And channel means that differ by at most this much, of 255."""

_FREQUENCIES = 8
_WAVES = _FREQUENCIES**2 - 1
_SCALE = 1024
_LARGEST = 32767
_CHUNK = 1 << 16
# ITU-R 601 luma in 256ths.
_LUMA = np.array([77, 150, 29], np.uint16)


def near_hashes(images: NDArray[np.uint8], color: str = "rgb") -> NDArray[np.uint64]:
    """Perceptual hashes of images, each with its sketch.

    Args:
        images: uint8 [N, C, H, W], C being 1 or 3.
        color: What three channels are: `rgb`, `hsv` or `ycbcr`.

    Returns:
        uint64 [N, 18]: see `NEAR_WORDS`. The largest frequency is scaled to 32767.
    """
    grey = _brightness(images, color).astype(np.float64)
    # Whole numbers below 2**53: float64 products and sums are exact, whatever the order of the additions.
    rows, columns = _cosines(images.shape[2]), _cosines(images.shape[3])
    waves = (rows @ grey @ columns.T).reshape(len(images), -1)[:, 1:]
    middle = np.sort(waves, axis=1)[:, _WAVES // 2]
    bits = np.zeros((len(images), 64), np.uint8)
    bits[:, :_WAVES] = waves > middle[:, np.newaxis]
    sketches = np.zeros((len(images), 4 * (NEAR_WORDS - 1)), "<i2")
    largest = np.maximum(np.abs(waves).max(axis=1, keepdims=True), 1)
    sketches[:, :_WAVES] = np.rint(waves * (_LARGEST / largest))
    pixels = images.shape[2] * images.shape[3]
    sums = images.reshape(*images.shape[:2], pixels).sum(axis=2, dtype=np.uint32)
    sketches[:, _WAVES : _WAVES + images.shape[1]] = sums // np.uint32(pixels)
    words = np.empty((len(images), NEAR_WORDS), np.uint64)
    words[:, 0] = np.packbits(bits, axis=1).view(">u8").reshape(-1)
    words[:, 1:] = sketches.view("<u8")
    return words


def _brightness(images: NDArray[np.uint8], color: str) -> NDArray[np.uint8]:
    if images.shape[1] == 1 or color == "ycbcr":
        return images[:, 0]
    if color == "hsv":
        return images[:, 2]
    luma = np.einsum("nchw,c->nhw", images.astype(np.uint16), _LUMA)
    grey: NDArray[np.uint8] = (luma >> 8).astype(np.uint8)
    return grey


@functools.lru_cache(maxsize=8)
def _cosines(size: int) -> NDArray[np.float64]:
    """The first basis functions of the DCT-II of that length, in whole 1024ths: [8, size]."""
    angles = np.pi / size * np.outer(np.arange(_FREQUENCIES), np.arange(size) + 0.5)
    waves: NDArray[np.float64] = np.rint(np.cos(angles) * _SCALE)
    return waves


def near_groups(hashes: NDArray[np.uint64], bits: int = NEAR_BITS) -> NDArray[np.int64]:
    """Group images whose hashes differ in at most `bits` bits and whose sketches are alike; chains are one group.

    The groups are the same whatever the order of the images. Candidates share a key made of some bands of their bits
    (multi-index hashing: M. Norouzi, A. Punjani, D. Fleet, 2012), so nothing is compared with everything: two hashes
    that differ in at most b of b + k bands agree in k of them.

    Args:
        hashes: uint64 [N, 18] from `near_hashes`. Images of one flat colour are alike to equal ones only.
        bits: The largest distance, from 0 to 16.

    Returns:
        int64 [N]: a number per group, the position of one of its members.
    """
    if not len(hashes):
        return np.empty(0, np.int64)
    keys = np.ascontiguousarray(hashes, "<u8").view(f"V{8 * hashes.shape[1]}").reshape(-1)
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    groups = Groups(len(first))
    pairs = _Pairs(hashes[first], bits)
    chosen = np.flatnonzero(pairs.norms)
    if len(chosen) > 1:
        for mask in _masks(bits, len(chosen)):
            _join(chosen, mask, pairs, groups)
    return first[groups.roots()][inverse].astype(np.int64)


class _Pairs:
    """Tells which pairs of images are near."""

    def __init__(self, hashes: NDArray[np.uint64], bits: int) -> None:
        self.hashes = np.ascontiguousarray(hashes[:, 0])
        self._bits = bits
        sketches = np.ascontiguousarray(hashes[:, 1:], "<u8").view("<i2")
        self._waves, self._means = sketches[:, :_WAVES], sketches[:, _WAVES:]
        squares = np.einsum("nw,nw->n", self._waves, self._waves, dtype=np.float64)
        self.norms = np.sqrt(squares)

    def near(self, left: NDArray[np.int64], right: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether each pair is near."""
        near: NDArray[np.bool_] = np.bitwise_count(self.hashes[left] ^ self.hashes[right]) <= self._bits
        candidates = np.flatnonzero(near)
        for start in range(0, len(candidates), _CHUNK):
            part = candidates[start : start + _CHUNK]
            near[part] = self._alike(left[part], right[part])
        return near

    def _alike(self, left: NDArray[np.int64], right: NDArray[np.int64]) -> NDArray[np.bool_]:
        steps = np.abs(self._means[left].astype(np.int32) - self._means[right]).max(axis=1)
        # Sums of 63 products of 16-bit numbers are exact in float64, so they don't depend on the machine.
        dots = np.einsum("nw,nw->n", self._waves[left], self._waves[right], dtype=np.float64)
        alike: NDArray[np.bool_] = (steps <= MEAN_STEPS) & (dots >= LIKENESS * self.norms[left] * self.norms[right])
        return alike


def _masks(bits: int, count: int) -> list[np.uint64]:
    """Which bits make a key: as many tables as it takes for keys with at least 4 values per hash, where 64 allow it."""
    together = 1
    while together < 4 and together * 64 // (bits + together) < math.log2(count) + 2:
        together += 1
    edges = [64 * band // (bits + together) for band in range(bits + together + 1)]
    bands = [((1 << stop) - 1) ^ ((1 << start) - 1) for start, stop in itertools.pairwise(edges)]
    return [np.uint64(sum(chosen)) for chosen in itertools.combinations(bands, together)]


def _join(chosen: NDArray[np.int64], mask: np.uint64, pairs: _Pairs, groups: Groups) -> None:
    """Join all images with equal masked bits that are near."""
    keys = pairs.hashes[chosen] & mask
    order = np.argsort(keys, kind="stable")
    keys, order = keys[order], chosen[order]
    starts = np.flatnonzero(np.concatenate(([True], keys[1:] != keys[:-1])))
    stops = np.append(starts[1:], len(keys))
    # How many images with the same key follow each one.
    follow = np.repeat(stops, stops - starts) - np.arange(len(keys)) - 1
    left = np.flatnonzero(follow)
    step = 1
    while left.size:
        one, two = order[left], order[left + step]
        near = pairs.near(one, two)
        groups.join(one[near], two[near])
        step += 1
        left = left[follow[left] >= step]
