"""Gradients of resizing.

Resizing is linear, and works axis by axis. By the nearest element it copies, so the gradient is added up where each
element was copied from: block by block where sides grow by whole factors. By interpolation, the same resize of the rows
of an identity matrix is the matrix of one axis, whichever way the coordinates are transformed; the gradient is a
product with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import TensorProto

from shoal_core.graphs.rules.rule import Gradient, Rule, Step, normalised
from shoal_core.graphs.rules.shape import positions, scatter_flat
from shoal_core.graphs.shapes import Dim

_ROI, _SCALES, _SIZES = 1, 2, 3
# Of a resize of several axes; one axis alone knows none of these.
_OF_ALL_AXES = ("axes", "keep_aspect_ratio_policy")


def _resize(step: Step) -> Sequence[Gradient | None]:
    def gradient() -> str:
        if step.attribute("mode", "nearest") != "nearest":
            return _by_matrix(step)
        factors = _factors(step)
        return _by_position(step) if factors is None else _by_block(step, factors)

    return [gradient, None, None, None]


def _factors(step: Step) -> list[int] | None:
    """By how much each axis grows, where every element becomes a block of copies of itself; else None."""
    graph = step.graph
    if step.node.has_input(_SCALES) and not step.node.has_input(_SIZES):
        scales = graph.value(step.node.inputs[_SCALES])
        if scales is None or np.any(scales != np.rint(scales)):  # 3 times 2.1 is 6, too
            return None
    coordinates = step.attribute("coordinate_transformation_mode", "half_pixel")
    rounding = step.attribute("nearest_mode", "round_prefer_floor")
    if (coordinates, rounding) != ("asymmetric", "floor") and not (
        coordinates in ("half_pixel", "half_pixel_symmetric") and rounding.startswith("round")
    ):
        return None
    factors = []
    for size, resized in zip(graph.shape(step.x), graph.shape(step.y), strict=True):
        if size == resized:
            factors.append(1)
        elif isinstance(size, int) and isinstance(resized, int) and size and resized % size == 0:
            factors.append(resized // size)
        else:
            return None
    return factors


def _by_block(step: Step, factors: Sequence[int]) -> str:
    graph = step.graph
    shape = graph.shape(step.x)
    cut: list[Dim] = []
    within: list[int] = []
    for size, factor in zip(shape, factors, strict=True):
        cut.append(size)
        if factor > 1:
            within.append(len(cut))
            cut.append(factor)
    if not within:
        return step.gradient
    blocks = graph.reshape(step.gradient, tuple(cut))
    return graph.refine(graph.emit("ReduceSum", blocks, graph.integers(*within), keepdims=0), shape)


def _by_position(step: Step) -> str:
    """The same resize of the elements' positions tells which one each output was copied from."""
    numbers = step.emit("Cast", positions(step.graph, step.x), to=TensorProto.INT32)
    copied = step.emit("Resize", numbers, *step.node.inputs[1:], **step.node.attributes)
    return scatter_flat(step, step.emit("Cast", copied, to=TensorProto.INT64), step.gradient)


def _by_matrix(step: Step) -> str:
    graph = step.graph
    if step.attribute("coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize":
        raise step.unsupported("crops before it interpolates")
    if step.attribute("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise step.unsupported("interpolates and keeps the ratio of the sides")
    before, after = graph.shape(step.x), graph.shape(step.y)
    rank = len(before)
    gradient = step.gradient
    for axis in range(rank):
        size, resized = before[axis], after[axis]
        if size == resized:
            continue
        if not isinstance(size, int) or not isinstance(resized, int):
            raise step.unsupported(f"interpolates from {before} to {after}, which isn't fixed,")
        matrix = _matrix(step, axis, size, resized)
        if axis == rank - 2:
            gradient = graph.emit("MatMul", matrix, gradient)
            continue
        turned = graph.emit("Transpose", matrix, perm=[1, 0])
        swapped = list(range(rank))
        swapped[axis], swapped[-1] = swapped[-1], swapped[axis]
        if axis == rank - 1:
            gradient = graph.emit("MatMul", gradient, turned)
        else:
            product = graph.emit("MatMul", graph.emit("Transpose", gradient, perm=swapped), turned)
            gradient = graph.emit("Transpose", product, perm=swapped)
    return graph.refine(gradient, before)


def _matrix(step: Step, axis: int, size: int, resized: int) -> str:
    """How much each element of an axis gives to each resized one: [size, resized]."""
    graph = step.graph
    identity = graph.constant(np.eye(size, dtype=graph.dtype(step.x)))
    attributes: dict[str, Any] = {
        name: value for name, value in step.node.attributes.items() if name not in _OF_ALL_AXES
    }
    scales = graph.value(step.node.inputs[_SCALES]) if step.node.has_input(_SCALES) else None
    if scales is None or not scales.size:
        if step.node.has_input(_SCALES) and not step.node.has_input(_SIZES):
            raise step.unsupported("interpolates by scales that are only known at run time")
        return graph.emit("Resize", identity, "", "", graph.integers(size, resized), **attributes)
    rank = graph.rank(step.x)
    axes = [normalised(int(given), rank) for given in step.attribute("axes", range(rank))]
    scale = np.asarray([1, np.ravel(scales)[axes.index(axis)]], dtype=np.float32)
    return graph.refine(graph.emit("Resize", identity, "", graph.constant(scale), **attributes), (size, resized))


RULES: dict[str, Rule] = {"Resize": _resize}
