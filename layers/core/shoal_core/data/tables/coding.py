"""Equal cells of a column found at the speed of memory: every row gets the number of its value.

Keys are compared word by word, so the numbers are exact; hashing only says where to look. A round puts each row into a
table by a hash of its key, where the first row of every slot stays, and settles the rows that equal what they find
there. What fell into another key's slot goes through the next round with another hash.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]
# Odd constants of xxHash64 and SplitMix64; rows of keys that collide under all of them are sorted.
_MULTIPLIERS = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0xD6E8FEB86659FD93, 0xBF58476D1CE4E5B9)
_SPREAD = np.uint64(32)


def number_keys(
    words: Sequence[Words], rows: NDArray[np.int64] | None, count: int
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Number the distinct keys of rows in the order in which they first appear.

    Args:
        words: uint64 [M] each: the keys of M rows, word by word.
        rows: int64 [M], rising: which rows of the column those are; None is all of them.
        count: Rows of the column.

    Returns:
        int32 [count], the number of each row's key, -1 where it has none; and the first row of each key, int64 [keys].
    """
    first = _first_places(words)
    firsts = np.flatnonzero(first == np.arange(len(first), dtype=np.int32))
    numbers = np.empty(len(first), np.int32)
    numbers[firsts] = np.arange(len(firsts), dtype=np.int32)
    found = numbers[first]
    if rows is None:
        return found, firsts
    codes = np.full(count, -1, np.int32)
    codes[rows] = found
    return codes, rows[firsts]


def _first_places(words: Sequence[Words]) -> NDArray[np.int32]:
    """The first place at which each place's key stands: int32 [M]."""
    count = len(words[0])
    first = np.empty(count, np.int32)
    bits = max(8, (2 * count).bit_length())
    table = np.empty(1 << bits, np.int32)
    pending = np.arange(count, dtype=np.int32)
    for multiplier in _MULTIPLIERS:
        slots = _slots(words, np.uint64(multiplier), np.uint64(64 - bits))
        # Of several values for one place the last one stays, so the first row goes last.
        table[slots[::-1]] = pending[::-1]
        found = table[slots]
        whole = len(pending) == count
        held = found if whole else np.searchsorted(pending, found)
        same = np.ones(len(pending), np.bool_)
        for word in words:
            same &= word[held] == word
        if same.all():
            first[pending] = found
            return first
        first[pending[same]] = found[same]
        rest = ~same
        pending = pending[rest]
        words = [word[rest] for word in words]
    first[pending] = _sorted_places(words, pending)
    return first


def _slots(words: Sequence[Words], multiplier: np.uint64, shift: np.uint64) -> NDArray[np.int64]:
    mixed = words[0] * multiplier
    for word in words[1:]:
        mixed ^= mixed >> _SPREAD
        mixed += word
        mixed *= multiplier
    mixed >>= shift
    return mixed.view(np.int64)


def _sorted_places(words: Sequence[Words], places: NDArray[np.int32]) -> NDArray[np.int32]:
    keys: list[NDArray[Any]] = [places, *words]
    order = np.lexsort(keys)
    starts = np.zeros(len(order), np.bool_)
    starts[:1] = True
    for word in words:
        ordered = word[order]
        starts[1:] |= ordered[1:] != ordered[:-1]
    groups = np.maximum.accumulate(np.where(starts, np.arange(len(order)), 0))
    found = np.empty(len(order), np.int32)
    found[order] = places[order[groups]]
    return found
