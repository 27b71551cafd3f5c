"""What moves, repeats, cuts, reads and writes elements."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from shoal_core.graphs.builder import GraphBuilder
from tests.unit.graphs.cases.case import BATCH, IMAGE, Case, indexed, integers_last, node, unary


def split(g: GraphBuilder, x: str) -> str:
    first, _unused, last = node(g, "Split", [x, g.integers(1, 2, 2)], 3, axis=1)
    return g.emit("Mul", first, last)


def gather(*indices: Any, axis: int) -> Callable[..., str]:
    return lambda g, x: g.emit("Gather", x, g.constant(np.asarray(indices[0], dtype=np.int64)), axis=axis)


def split_number(g: GraphBuilder, x: str) -> str:
    """A number of parts, of which the last is shorter."""
    first, last = node(g, "Split", [x], 2, axis=1, num_outputs=2)
    return g.emit("Mul", *(g.emit("ReduceSum", part, g.integers(1), keepdims=0) for part in (first, last)))


CASES = [
    Case("reshape", (IMAGE,), integers_last("Reshape", [0, -1])),
    Case("reshape_unknown", (("N", 2, "M"),), integers_last("Reshape", [-1])),
    Case("flatten", (IMAGE,), unary("Flatten", axis=2)),
    Case("squeeze", (("N", 1, 3, 1),), integers_last("Squeeze", [1, -1])),
    Case("unsqueeze", (BATCH,), integers_last("Unsqueeze", [0, 2])),
    Case("transpose", (IMAGE,), unary("Transpose", perm=[2, 0, 3, 1])),
    Case("transpose_reversed", (("N", 2, 3),), unary("Transpose")),
    Case("expand", (("N", 1, 3),), integers_last("Expand", [2, 1, 4, 1])),
    Case(
        "expand_unknown", (("N", 1), ("N", "M")), lambda g, a, b: g.emit("Mul", g.emit("Expand", a, g.shape_of(b)), b)
    ),
    Case("concat", (("N", 2), ("N", 3), ("N", 1)), lambda g, *x: g.emit("Concat", *x, axis=-1)),
    Case("concat_batch", (("N", 2), ("M", 2), (1, 2)), lambda g, *x: g.emit("Concat", *x, axis=0)),
    Case("split", (("N", 5),), split),
    Case("slice", (IMAGE,), integers_last("Slice", [1, -5], [100, -1], [2, 3])),
    Case("slice_batch", (("N", 3),), integers_last("Slice", [1], [3], [0])),
    Case("slice_steps", (IMAGE,), integers_last("Slice", [-1, 1], [-100, 6], [2, 3], [-2, 3])),
    Case("pad", (BATCH,), lambda g, x: g.emit("Pad", x, g.integers(1, 0, 0, 2), g.scalar(3, x))),
    Case("pad_crop", (IMAGE,), integers_last("Pad", [0, 0, -1, 2, 0, 0, 1, -2])),
    Case("pad_axes", (IMAGE,), lambda g, x: g.emit("Pad", x, g.integers(1, 2), "", g.integers(-1))),
    Case("gather_rows", ((5, 3),), gather([[0, 3], [3, -1]], axis=0)),
    Case("gather_columns", (("N", 4),), gather([3, 1, 1], axis=1)),
    Case("gather_one", (("N", 4, 2),), gather(2, axis=-2)),
    Case(
        "reverse_sequence", ((5, 3, 2),), indexed("ReverseSequence", [1, 3, 5], time_axis=0, batch_axis=1), sizes=({},)
    ),
    Case("reverse_sequence_batch_first", ((2, 4),), indexed("ReverseSequence", [4, 2], time_axis=1, batch_axis=0)),
    Case("cum_sum", (BATCH,), lambda g, x: g.emit("CumSum", x, g.constant(np.asarray(1)))),
    Case(
        "cum_sum_back", (BATCH,), lambda g, x: g.emit("CumSum", x, g.constant(np.asarray(-1)), exclusive=1, reverse=1)
    ),
    Case("gather_elements", (BATCH,), indexed("GatherElements", [[3, 0, 3], [1, -1, 2]], axis=1)),
    Case("gather_nd", (IMAGE,), indexed("GatherND", [[[1, 1], [0, -1]], [[1, 1], [0, 0]]])),
    Case("gather_nd_batch", (("N", 4, 2),), indexed("GatherND", [[[3], [0]]] * 2, batch_dims=1), sizes=({"N": 2},)),
    Case("scatter_nd", ((5, 3), (2, 3)), indexed("ScatterND", [[4], [1]])),
    Case("scatter_nd_add", ((5, 3), (2, 3)), indexed("ScatterND", [[4], [4]], reduction="add")),
    Case("scatter_elements", (BATCH, (2, 2)), indexed("ScatterElements", [[3, 0], [1, -1]], axis=1)),
    Case(
        "scatter_elements_add", (BATCH, (2, 2)), indexed("ScatterElements", [[3, 3], [1, -1]], axis=1, reduction="add")
    ),
    Case("top_k", (IMAGE,), lambda g, x: node(g, "TopK", [x, g.integers(3)], 2, axis=2)[0], distinct=True),
    Case("tile", (("N", 3),), integers_last("Tile", [2, 3])),
    Case("trilu", (IMAGE,), lambda g, x: g.emit("Trilu", x, g.constant(np.asarray(1)), upper=0)),
    Case("pad_reflect", (IMAGE,), integers_last("Pad", [0, 0, 2, 1, 0, 0, 3, 2], mode="reflect")),
    Case("pad_edge", (IMAGE,), integers_last("Pad", [0, 0, 2, 1, 0, 0, 0, 2], mode="edge")),
    Case("pad_wrap", (IMAGE,), integers_last("Pad", [0, 0, 1, 2, 0, 0, 2, 1], mode="wrap")),
    Case("split_number", (("N", 5),), split_number),
    Case("compress", (IMAGE,), lambda g, x: g.emit("Compress", x, g.constant(np.asarray([0, 1, 1], bool)), axis=2)),
    Case("compress_flat", (BATCH,), lambda g, x: g.emit("Compress", x, g.constant(np.asarray([0, 1, 0, 0, 1], bool)))),
]
