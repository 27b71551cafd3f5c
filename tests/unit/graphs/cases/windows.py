"""Sliding windows, pooling and resizing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from shoal_core.graphs.builder import GraphBuilder
from tests.unit.graphs.cases.case import IMAGE, Case, unary


def conv(**attributes: Any) -> Callable[..., str]:
    return lambda g, *inputs: g.emit("Conv", *inputs, **attributes)


def resize(*scales: float) -> Callable[..., str]:
    def build(g: GraphBuilder, x: str) -> str:
        factors = g.constant(np.asarray([1, 1, *scales], dtype=np.float32))
        return g.emit(
            "Resize", x, "", factors, mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"
        )

    return build


def transposed(**attributes: Any) -> Callable[..., str]:
    return lambda g, *inputs: g.emit("ConvTranspose", *inputs, **attributes)


def interpolated(*spatial: float, sizes: bool = False, **attributes: Any) -> Callable[..., str]:
    """Resize of the axes after batch and channel, to scales or to sizes."""

    def build(g: GraphBuilder, x: str) -> str:
        if not sizes:
            return g.emit("Resize", x, "", g.constant(np.asarray([1, 1, *spatial], dtype=np.float32)), **attributes)
        whole = g.emit("Concat", g.emit("Shape", x, end=2), g.integers(*map(int, spatial)), axis=0)
        return g.refine(g.emit("Resize", x, "", "", whole, **attributes), (*g.shape(x)[:2], *map(int, spatial)))

    return build


def of_axes(**attributes: Any) -> Callable[..., str]:
    """Resize of the last two axes, named from behind."""
    scales = np.asarray([0.5, 2], dtype=np.float32)
    return lambda g, x: g.emit("Resize", x, "", g.constant(scales), axes=[-1, -2], **attributes)


CASES = [
    Case("conv", (IMAGE, (3, 2, 3, 3), (3,)), conv(pads=[1, 1, 1, 1]), single=True),
    Case("conv_strides", (IMAGE, (3, 2, 3, 2)), conv(strides=[2, 3], pads=[0, 1, 2, 1]), single=True),
    Case("conv_dilations", (IMAGE, (3, 2, 2, 3)), conv(dilations=[3, 2]), single=True),
    Case("conv_groups", (("N", 4, 5, 5), (6, 2, 3, 3), (6,)), conv(group=2, pads=[1, 1, 1, 1]), single=True),
    Case("conv_depthwise", (("N", 3, 5, 5), (3, 1, 3, 3)), conv(group=3), single=True),
    Case("conv_same_upper", (IMAGE, (2, 2, 3, 2)), conv(auto_pad="SAME_UPPER", strides=[2, 2]), single=True),
    Case("conv_same_lower", (IMAGE, (2, 2, 3, 2)), conv(auto_pad="SAME_LOWER", strides=[2, 2]), single=True),
    Case("conv_valid", (IMAGE, (2, 2, 3, 3)), conv(auto_pad="VALID"), single=True),
    Case("conv_pointwise", (IMAGE, (3, 2, 1, 1)), conv(), single=True),
    Case("conv_many_channels", (("N", 9, 4, 4), (2, 9, 2, 2)), conv(), single=True),
    Case("conv_many_channels_groups", (("N", 18, 3, 3), (2, 9, 2, 2)), conv(group=2), single=True),
    Case("conv_joined", (("N", 9, 2, 2), (5, 9, 2, 2)), conv(), single=True),
    Case("conv_1d", (("N", 2, 9), (3, 2, 3), (3,)), conv(strides=[2], pads=[1, 1]), single=True),
    Case("conv_3d", (("N", 1, 3, 4, 3), (2, 1, 2, 2, 2)), conv(), single=True),
    Case("max_pool", (IMAGE,), unary("MaxPool", kernel_shape=[2, 2], strides=[2, 2]), single=True, distinct=True),
    Case("max_pool_double", (IMAGE,), unary("MaxPool", kernel_shape=[2, 2], strides=[2, 2]), distinct=True),
    Case(
        "max_pool_overlap",
        (IMAGE,),
        unary("MaxPool", kernel_shape=[3, 3], strides=[2, 1], pads=[1, 1, 1, 1]),
        single=True,
        distinct=True,
    ),
    Case("max_pool_ceil", (IMAGE,), unary("MaxPool", kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1), distinct=True),
    Case(
        "max_pool_dilated",
        (IMAGE,),
        unary("MaxPool", kernel_shape=[2, 2], dilations=[2, 3], strides=[2, 2]),
        single=True,
        distinct=True,
    ),
    Case("average_pool", (IMAGE,), unary("AveragePool", kernel_shape=[2, 2], strides=[2, 2]), single=True),
    Case(
        "average_pool_pads",
        (IMAGE,),
        unary("AveragePool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
        single=True,
    ),
    Case(
        "average_pool_count_pads",
        (IMAGE,),
        unary("AveragePool", kernel_shape=[3, 2], pads=[1, 0, 1, 1], count_include_pad=1),
        single=True,
    ),
    Case("global_average_pool", (IMAGE,), unary("GlobalAveragePool"), single=True),
    Case("global_average_pool_unknown", (("N", 2, "M", 3),), unary("GlobalAveragePool"), single=True),
    Case("global_max_pool", (IMAGE,), unary("GlobalMaxPool"), single=True, distinct=True),
    Case(
        "average_pool_ceil",
        (IMAGE,),
        unary("AveragePool", kernel_shape=[2, 3], strides=[2, 3], pads=[1, 0, 0, 0], ceil_mode=1),
        single=True,
    ),
    Case(
        "average_pool_ceil_count_pads",
        (IMAGE,),
        unary("AveragePool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1], ceil_mode=1, count_include_pad=1),
        single=True,
    ),
    Case("depth_to_space", (("N", 8, 2, 3),), unary("DepthToSpace", blocksize=2)),
    Case("depth_to_space_crd", (("N", 8, 2, 3),), unary("DepthToSpace", blocksize=2, mode="CRD")),
    Case("space_to_depth", (("N", 2, 4, 6),), unary("SpaceToDepth", blocksize=2)),
    Case("resize", (IMAGE,), resize(2, 3), single=True),
    Case("resize_smaller", (IMAGE,), resize(0.5, 1), single=True),
    Case("conv_transpose", (IMAGE, (2, 3, 3, 3), (3,)), transposed(pads=[1, 1, 1, 1]), single=True),
    Case(
        "conv_transpose_strides",
        (("N", 2, 3, 4), (2, 3, 3, 2), (3,)),
        transposed(strides=[2, 3], pads=[1, 0, 1, 1], output_padding=[1, 2]),
        single=True,
    ),
    Case("conv_transpose_doubling", (("N", 3, 2, 3), (3, 2, 2, 2)), transposed(strides=[2, 2]), single=True),
    Case("conv_transpose_gaps", (("N", 3, 2, 3), (3, 2, 1, 2)), transposed(strides=[2, 3]), single=True),
    Case(
        "conv_transpose_groups",
        (("N", 4, 3, 3), (4, 3, 3, 2), (6,)),
        transposed(group=2, strides=[2, 1], dilations=[1, 2]),
        single=True,
    ),
    Case("conv_transpose_depthwise", (("N", 3, 3, 3), (3, 1, 2, 2)), transposed(group=3, strides=[2, 2]), single=True),
    Case(
        "conv_transpose_same_upper",
        (("N", 2, 3, 4), (2, 3, 3, 4)),
        transposed(auto_pad="SAME_UPPER", strides=[2, 2]),
        single=True,
    ),
    Case(
        "conv_transpose_same_lower",
        (("N", 2, 3, 4), (2, 3, 3, 4)),
        transposed(auto_pad="SAME_LOWER", strides=[2, 2]),
        single=True,
    ),
    Case(
        "conv_transpose_output_shape",
        (("N", 2, 3, 4), (2, 3, 3, 4)),
        transposed(output_shape=[6, 9], strides=[2, 2]),
        single=True,
    ),
    Case("conv_transpose_1d", (("N", 2, 5), (2, 3, 4), (3,)), transposed(strides=[2], pads=[1, 1]), single=True),
    Case("conv_transpose_3d", (("N", 2, 2, 3, 2), (2, 1, 2, 2, 2)), transposed(strides=[1, 2, 1]), single=True),
    Case("resize_linear", (("N", 2, 3, 4),), interpolated(2, 1.5, mode="linear"), single=True),
    Case(
        "resize_linear_corners",
        (("N", 2, 3, 4),),
        interpolated(6, 3, sizes=True, mode="linear", coordinate_transformation_mode="align_corners"),
        single=True,
    ),
    Case("resize_linear_sizes", (("N", 2, 3, 4),), interpolated(5, 4, sizes=True, mode="linear"), single=True),
    Case("resize_linear_1d", (("N", 2, 4),), interpolated(2, mode="linear"), single=True),
    Case("resize_linear_3d", (("N", 1, 2, 3, 2),), interpolated(2, 2, 1.5, mode="linear"), single=True),
    Case("resize_linear_axes", (("N", 2, 3, 4),), of_axes(mode="linear"), single=True),
    Case(
        "resize_antialias",
        (("N", 1, 6, 8),),
        interpolated(0.5, 0.5, mode="linear", antialias=1, exclude_outside=1),
        single=True,
    ),
    Case("resize_cubic", (("N", 2, 4, 5),), interpolated(2, 2, mode="cubic", cubic_coeff_a=-0.75), single=True),
    Case(
        "resize_nearest_half_pixel",
        (("N", 2, 3, 4),),
        interpolated(5, 8, sizes=True, mode="nearest", coordinate_transformation_mode="half_pixel"),
        single=True,
    ),
    Case(
        "resize_nearest_blocks",
        (("N", 2, 3, 4),),
        interpolated(6, 12, sizes=True, mode="nearest", coordinate_transformation_mode="half_pixel"),
        single=True,
    ),
    Case(
        "resize_nearest_not_blocks",
        (("N", 2, 3, 4),),
        interpolated(
            2, 2, mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="round_prefer_ceil"
        ),
        single=True,
    ),
    Case("resize_nearest_fraction", (("N", 2, 3, 4),), resize(2.1, 1), single=True),
]
