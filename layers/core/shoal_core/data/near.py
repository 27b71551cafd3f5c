"""Groups of near-duplicates, whatever the samples are: the width of `near_hash` tells what made it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

TEXT_WORDS = 8
"""Words of 64 bits in the signature of a text; images have more (`images.perceptual`)."""


def near_groups(near_hash: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Group samples that are nearly equal; the groups don't depend on the order of the samples.

    Args:
        near_hash: uint64 [N, B], from `texts.near` or from `images.perceptual`.

    Returns:
        int64 [N]: a number per group, the position of one of its members.
    """
    # Each module needs this one's `Groups`, and a set needs one of them.
    if near_hash.shape[1] == TEXT_WORDS:
        from shoal_core.data.texts.near import group_texts

        return group_texts(near_hash)
    from shoal_core.data.images.perceptual import near_groups as group_images

    return group_images(near_hash)


class Groups:
    """Union-find over 0..count, many pairs at a time; the root of a group is its smallest member.

    Args:
        count: Number of members, each a group of its own at first.
    """

    def __init__(self, count: int) -> None:
        self._parents = np.arange(count)

    def join(self, left: NDArray[np.int64], right: NDArray[np.int64]) -> None:
        """Make one group of each pair: the larger root hangs on the smaller one until every pair has one root."""
        while left.size:
            one, other = self._find(left), self._find(right)
            apart = one != other
            left, right, one, other = left[apart], right[apart], one[apart], other[apart]
            np.minimum.at(self._parents, np.maximum(one, other), np.minimum(one, other))

    def roots(self) -> NDArray[np.int64]:
        """The root of every member: int64 [count]."""
        return self._find(np.arange(len(self._parents)))

    def _find(self, members: NDArray[np.int64]) -> NDArray[np.int64]:
        found = self._parents[members]
        while True:
            further = self._parents[found]
            if np.array_equal(further, found):
                break
            found = further
        self._parents[members] = found
        return found
