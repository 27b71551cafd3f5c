"""Content hashes of rows, 128 bits, for whole columns at once.

A cell's digest is 128 bits as two words of 64: of a number, its float64 bits (-0 as 0) mixed with two constants; of an
instant, its microseconds likewise with two others; of a text, BLAKE2b cut to 16 bytes; of a missing cell, zero. Each
word is keyed by its column's name, mixed by the 64-bit finaliser of MurmurHash3 and SplitMix64, and the words of all
columns are added up modulo 2**64 and mixed once more. So the hash depends on the columns' names and meanings alone: not
on their order, on the format they came in, on how the table was cut, nor on columns that are missing in a row.

The mixing is fast and even, not cryptographic: whoever writes both rows can make two collide, and then one of them is
left out as a duplicate.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shoal_core.data.tables.cells import NO_INSTANT

Words = NDArray[np.uint64]
_SHORT = 64
_NUMBER = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F)
_INSTANT = (0x165667B19E3779F9, 0xD6E8FEB86659FD93)


def _mix_murmur(words: Words) -> Words:
    """The finaliser of MurmurHash3 (x64), in place."""
    words ^= words >> np.uint64(33)
    words *= np.uint64(0xFF51AFD7ED558CCD)
    words ^= words >> np.uint64(33)
    words *= np.uint64(0xC4CEB9FE1A85EC53)
    words ^= words >> np.uint64(33)
    return words


def _mix_split(words: Words) -> Words:
    """The finaliser of SplitMix64, in place."""
    words ^= words >> np.uint64(30)
    words *= np.uint64(0xBF58476D1CE4E5B9)
    words ^= words >> np.uint64(27)
    words *= np.uint64(0x94D049BB133111EB)
    words ^= words >> np.uint64(31)
    return words


def number_digests(numbers: NDArray[np.floating]) -> Words:
    """Digests of numbers: uint64 [N,2]; NaN is missing."""
    values = numbers.astype(np.float64) + 0.0
    return _digests(values.view(np.uint64), _NUMBER, ~np.isnan(values))


def instant_digests(instants: NDArray[np.int64]) -> Words:
    """Digests of microseconds since 1970: uint64 [N,2]; `NO_INSTANT` is missing."""
    return _digests(instants.astype(np.int64).view(np.uint64), _INSTANT, instants != NO_INSTANT)


def text_digests(texts: Sequence[str | None]) -> Words:
    """Digests of texts: uint64 [N,2]; None is missing."""
    nothing = bytes(16)
    joined = b"".join(
        nothing if text is None else _short_digest(text) if len(text) <= _SHORT else _digest(text) for text in texts
    )
    return np.frombuffer(joined, "<u8").reshape(len(texts), 2).astype(np.uint64)


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=16).digest()


# Categories come again in every batch.
_short_digest = functools.lru_cache(maxsize=32_768)(_digest)


@dataclass(frozen=True)
class ColumnDigests:
    """Digests of a column: uint64 [D,2] of its values, and int32 [N], the value of each row, -1 where missing."""

    digests: Words
    codes: NDArray[np.int32]

    def rows(self) -> Words:
        """One per row: uint64 [N,2]."""
        return np.concatenate((self.digests, np.zeros((1, 2), np.uint64)))[self.codes]


def row_hashes(columns: Iterable[tuple[str, ColumnDigests]], rows: int) -> NDArray[np.uint8]:
    """The hash of every row: uint8 [N,16], from (name of the column, its digests)."""
    first, second = np.zeros(rows, np.uint64), np.zeros(rows, np.uint64)
    for name, column in columns:
        salts = text_digests([name])[0]
        present = column.digests.any(axis=1)
        for total, word, mix in ((first, 0, _mix_murmur), (second, 1, _mix_split)):
            # Values are mixed once each; the last entry is what a missing cell adds.
            mixed = np.zeros(len(column.digests) + 1, np.uint64)
            mixed[:-1] = mix(column.digests[:, word] ^ salts[word]) * present
            total += mixed.take(column.codes)
    hashes = np.empty((rows, 2), ">u8")
    hashes[:, 0] = _mix_murmur(first)
    hashes[:, 1] = _mix_split(second)
    return hashes.view(np.uint8).reshape(rows, 16)


def plain_digests(digests: Words) -> ColumnDigests:
    """Digests of a column whose rows all have a value of their own."""
    return ColumnDigests(digests, np.arange(len(digests), dtype=np.int32))


def _digests(words: Words, constants: tuple[int, int], present: NDArray[np.bool_]) -> Words:
    result = np.empty((len(words), 2), np.uint64)
    result[:, 0] = _mix_murmur(words ^ np.uint64(constants[0]))
    result[:, 1] = _mix_split(words + np.uint64(constants[1]))
    result[~present] = 0
    return result
