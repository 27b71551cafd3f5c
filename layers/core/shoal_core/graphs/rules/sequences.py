"""Tensors of sequences [T, N, ...]: the arithmetic that recurrent operators share."""

from __future__ import annotations

import numpy as np

from shoal_core.graphs.builder import GraphBuilder
from shoal_core.graphs.shapes import Shape, product


def product_over_steps(graph: GraphBuilder, gradient: str, value: str) -> str:
    """Sum over steps and samples of gradient [T, N, A] x value [T, N, B]: [A, B]."""
    flat = []
    for name in (gradient, value):
        turns, batch, width = graph.shape(name)
        flat.append(graph.reshape(name, (product((turns, batch)), width)))
    return graph.emit("Gemm", *flat, transA=1)


def total_over_steps(graph: GraphBuilder, gates: str) -> str:
    """Sum over steps and samples of gates [T, N, A]: [A]."""
    return graph.emit("ReduceSum", gates, graph.integers(0, 1), keepdims=0)


def shifted(graph: GraphBuilder, values: str, first: str, backwards: bool) -> str:
    """Values [T, N, H] of the step before each step."""
    row = graph.emit("Unsqueeze", first, graph.integers(0))
    start, end = (1, np.iinfo(np.int64).max) if backwards else (0, -1)
    rest = graph.emit("Slice", values, graph.integers(start), graph.integers(end), graph.integers(0))
    parts = (rest, row) if backwards else (row, rest)
    return graph.refine(graph.emit("Concat", *parts, axis=0), graph.shape(values))


def cut_gates(graph: GraphBuilder, gates: str, shape: Shape) -> list[str]:
    """[T, N, G H] as gates [T, N, H]."""
    width, hidden = graph.shape(gates)[-1], shape[-1]
    if not isinstance(width, int) or not isinstance(hidden, int):
        return [gates]
    return [graph.refine(part, shape) for part in _slices(graph, gates, width // hidden, hidden, axis=2)]


def cut_rows(graph: GraphBuilder, matrix: str, parts: int) -> list[str]:
    """The first axis in equal parts."""
    height = graph.shape(matrix)[0]
    return _slices(graph, matrix, parts, height // parts, axis=0) if isinstance(height, int) else [matrix]


def cut_halves(graph: GraphBuilder, vector: str, size: int | str) -> list[str]:
    """The two parts of `size` of a vector."""
    return _slices(graph, vector, 2, size, axis=0) if isinstance(size, int) else [vector, vector]


def _slices(graph: GraphBuilder, whole: str, count: int, size: int, axis: int) -> list[str]:
    if count == 1:
        return [whole]
    return [
        graph.emit("Slice", whole, graph.integers(k * size), graph.integers((k + 1) * size), graph.integers(axis))
        for k in range(count)
    ]


def pick(graph: GraphBuilder, tensor: str, index: int, axis: int = 0) -> str:
    """Entry `index` of an axis, which goes away."""
    return graph.emit("Gather", tensor, graph.constant(np.asarray(index, dtype=np.int64)), axis=axis)
