"""Tensor shapes with symbolic dimensions: a graph is built once and runs with any batch size."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

Dim = int | str
Shape = tuple[Dim, ...]


def static(shape: Shape) -> tuple[int, ...] | None:
    """The shape as integers, or None if a dimension is symbolic."""
    sizes = tuple(dim for dim in shape if isinstance(dim, int))
    return sizes if len(sizes) == len(shape) else None


def product(dims: Iterable[Dim]) -> Dim:
    """Number of elements; symbolic (such as `N*49`) if a dimension is, unless another is 0."""
    dims = tuple(dims)
    sizes = math.prod(dim for dim in dims if isinstance(dim, int))
    symbols = [dim for dim in dims if isinstance(dim, str)]
    if not symbols or sizes == 0:
        return sizes
    return "*".join(symbols if sizes == 1 else [*symbols, str(sizes)])


def reshape_sizes(shape: Shape) -> tuple[int, ...] | None:
    """The sizes that `Reshape` needs, -1 for one symbolic dimension, or None if several are symbolic."""
    if sum(isinstance(dim, str) for dim in shape) > 1 or 0 in shape:
        return static(shape)
    return tuple(dim if isinstance(dim, int) else -1 for dim in shape)


def size_in(shape: Shape, sizes: Mapping[str, int]) -> int:
    """Number of elements once the symbols' sizes are known; one that isn't counts as the largest that is."""
    largest = max(sizes.values(), default=1)
    factors = [factor for dim in shape for factor in str(dim).split("*")]
    return math.prod(int(factor) if factor.isdigit() else sizes.get(factor, largest) for factor in factors)
