"""Reductions, normalisation and softmax."""

from __future__ import annotations

import numpy as np

from shoal_core.graphs.builder import GraphBuilder
from tests.unit.graphs.cases.case import BATCH, IMAGE, Case, binary, integers_last, unary


def statistics(g: GraphBuilder, x: str) -> list[str]:
    """Constant means and variances of two channels."""
    return [g.constant(np.asarray(values, dtype=g.dtype(x))) for values in ((0.2, -0.1), (0.5, 1.5))]


CASES = [
    Case("reduce_sum", (IMAGE,), integers_last("ReduceSum", [1, -1])),
    Case("reduce_sum_squeezed", (IMAGE,), integers_last("ReduceSum", [0, 2], keepdims=0)),
    Case("reduce_sum_all", (BATCH,), unary("ReduceSum", keepdims=0)),
    Case("reduce_sum_none", (BATCH,), unary("ReduceSum", noop_with_empty_axes=1)),
    Case("reduce_mean", (IMAGE,), integers_last("ReduceMean", [0, 1], keepdims=0)),
    Case("reduce_mean_all", (BATCH,), unary("ReduceMean")),
    Case("softmax", (BATCH,), unary("Softmax")),
    Case("softmax_axis", (("N", 3, 2),), unary("Softmax", axis=1)),
    Case("log_softmax", (BATCH,), unary("LogSoftmax")),
    Case("log_softmax_axis", (("N", 3, 2),), unary("LogSoftmax", axis=-2)),
    Case("reduce_l1", (IMAGE,), integers_last("ReduceL1", [1, -1])),
    Case("reduce_l2", (IMAGE,), integers_last("ReduceL2", [1, 2], keepdims=0), single=True),
    Case("reduce_sum_square", (IMAGE,), integers_last("ReduceSumSquare", [0], keepdims=0)),
    Case("reduce_log_sum", (IMAGE,), integers_last("ReduceLogSum", [3]), single=True, low=0.5, high=2),
    Case("reduce_log_sum_exp", (IMAGE,), integers_last("ReduceLogSumExp", [-1], keepdims=0)),
    Case("reduce_max", (IMAGE,), integers_last("ReduceMax", [1, 2], keepdims=0), distinct=True),
    Case("reduce_min", (IMAGE,), integers_last("ReduceMin", [3]), distinct=True),
    Case("reduce_max_attribute", (BATCH,), unary("ReduceMax", axes=[1]), distinct=True, opset=16),
    Case("reduce_prod", (BATCH,), integers_last("ReduceProd", [1]), single=True),
    Case(
        "batch_normalization",
        (IMAGE, (2,), (2,)),
        lambda g, *x: g.emit("BatchNormalization", *x, *statistics(g, x[0]), epsilon=0.01),
        single=True,
    ),
    Case(
        "batch_normalization_trained",
        (IMAGE, (2,), (2,), (2,), (2,)),
        lambda g, *x: g.emit("BatchNormalization", *x, epsilon=0.01, momentum=0.8),
        buffers=2,
    ),
    Case(
        "batch_normalization_trained_flat",
        (BATCH, (4,), (4,), (4,), (4,)),
        lambda g, *x: g.emit("BatchNormalization", *x, epsilon=0.3),
        single=True,
        buffers=2,
        opset=17,
    ),
    Case("layer_normalization", (IMAGE, (6, 7), (6, 7)), lambda g, *x: g.emit("LayerNormalization", *x, axis=2)),
    Case("layer_normalization_single", (IMAGE, (7,)), binary("LayerNormalization", epsilon=0.01), single=True),
    Case("instance_normalization", (IMAGE, (2,), (2,)), lambda g, *x: g.emit("InstanceNormalization", *x), single=True),
    Case(
        "group_normalization",
        (("N", 6, 3, 2), (6,), (6,)),
        lambda g, *x: g.emit("GroupNormalization", *x, num_groups=3),
        single=True,
    ),
    Case("lp_normalization", (IMAGE,), unary("LpNormalization", axis=1)),
    Case("lp_normalization_l1", (IMAGE,), unary("LpNormalization", axis=-1, p=1)),
    Case("lp_normalization_old", (BATCH,), unary("LpNormalization"), opset=17),
    Case("lrn", (("N", 5, 2, 3),), unary("LRN", size=3, alpha=0.9, beta=0.6, bias=1.5), single=True),
]
