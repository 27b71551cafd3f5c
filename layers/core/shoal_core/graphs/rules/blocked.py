"""Convolutions in blocks of channels, the layout that ONNX Runtime's fast kernels work on.

For a model whose weights are constants, the runtime changes the layout itself (its NCHWc transformation, part of all
optimisations). A training step's weights are inputs, so that never happens, and it multiplies matrices instead, at 1.3
to 1.9 times the time. Here the step's own graph calls the same kernels, of the runtime's domain `com.microsoft.nchwc`:
data are reordered from [N, C, H, W] to [N, C / B, H, W, B] and back, and weights are brought into blocks, each step.

B is 8 or 16, whichever the processor that runs the step has kernels for; the graph asks the runtime. Shapes are told as
[N, C, H, W] all along. Only x86-64 is sure to have such kernels.

The weight's gradient is such a convolution as well: with samples as channels, the output's gradient slides over the
input as one large kernel, and what comes out is as large as the kernel.
"""

from __future__ import annotations

import math
import platform
from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import helper

from shoal_core.graphs.builder import GraphBuilder
from shoal_core.graphs.rules.rule import Node, Step
from shoal_core.graphs.rules.windows import Window
from shoal_core.graphs.shapes import Dim, Shape

DOMAIN = "com.microsoft.nchwc"
"""What it has: onnxruntime/core/graph/contrib_ops/nchwc_schema_defs.cc."""
_BLOCK = 16
# The batch, filled up to whole blocks, and by how much.
_WHOLE, _MISSING = "whole_blocks", 1
"""The larger of the two sizes: what is a multiple of it is one of both."""
_FEW_CHANNELS = 8
# The weight's gradient of narrow layers is as fast by matrix products.
_NARROW = 256


def has_blocks() -> bool:
    """Whether this machine's runtime has kernels for blocks."""
    return platform.machine().lower() in ("x86_64", "amd64")


def runs_in_blocks(graph: GraphBuilder, node: Node) -> bool:
    """Whether a forward convolution is one that blocks make faster."""
    if not graph.blocked or node.operator != "Conv" or not all(map(graph.has, filter(None, node.inputs))):
        return False
    if not all(map(graph.has_rank, node.inputs[:2])) or not _fits(_wide_kernel(graph, node)):
        return False
    sizes = graph.shape(node.inputs[0])[1:]
    return all(isinstance(size, int) for size in sizes) and (_fits(sizes[0]) or int(sizes[0]) < _FEW_CHANNELS)


def emit_convolution(graph: GraphBuilder, node: Node) -> Node:
    """Emit a convolution that `runs_in_blocks`; returns the node for the tape."""
    x, weight, *bias = node.inputs
    outputs, channels = graph.shape(weight)[:2]
    data = _to_blocks(graph, x) if _fits(channels) else x
    attributes = {name: value for name, value in node.attributes.items() if name != "group"}
    shape = graph.shape_after(helper.make_node("Conv", node.inputs, node.outputs, **node.attributes))
    blocks = _emit(graph, "Conv", [data, _weight_in_blocks(graph, weight), *bias], shape, **attributes)
    _emit(graph, "ReorderOutput", [blocks], shape, output=node.outputs[0], channels=int(outputs))
    return node


def input_gradient(step: Step, window: Window) -> str | None:
    """The input's gradient, or None where blocks don't make it faster."""
    graph, weight = step.graph, step.node.inputs[1]
    outputs, channels = _wide_kernel(graph, step.node), graph.shape(weight)[1]
    if not graph.blocked or not _fits(outputs) or not _fits(channels):
        return None
    if set(window.strides) != {1}:
        return _input_gradient_by_phases(step, window)
    pads = window.turned_pads
    if min(pads) < 0:
        return None
    shape = graph.shape(step.x)
    kernel = _weight_in_blocks(graph, weight, turned=True)
    attributes: dict[str, Any] = {
        "kernel_shape": list(window.kernel),
        "pads": pads,
        "dilations": list(window.dilations),
    }
    blocks = _emit(graph, "Conv", [_to_blocks(graph, step.gradient), kernel], shape, **attributes)
    return _emit(graph, "ReorderOutput", [blocks], shape, channels=int(channels))


def _input_gradient_by_phases(step: Step, window: Window) -> str | None:
    """The same with strides: places of the input that lie a stride apart meet the same elements of the kernel.

    So each phase is a convolution without strides, by a part of the kernel, and their results lie in turns. None where
    phases differ in size, or one meets no element.
    """
    graph, weight = step.graph, step.node.inputs[1]
    phases = window.phases()
    if phases is None:
        return None
    gradient, block = _to_blocks(graph, step.gradient), _block_size(graph)
    batch, channels, _, width = graph.shape(step.x)
    shape: Shape
    rows = []
    for row in phases[0]:
        parts = []
        for column in phases[1]:
            starts, ends = graph.integers(row.first, column.first), graph.integers(*window.kernel)
            kernel = graph.emit("Slice", weight, starts, ends, graph.integers(2, 3), graph.integers(*window.strides))
            attributes: dict[str, Any] = {
                "kernel_shape": [row.taps, column.taps],
                "pads": [row.before, column.before, row.after, column.after],
            }
            shape = (batch, channels, row.places, column.places)
            parts.append(_emit(graph, "Conv", [gradient, _weight_in_blocks(graph, kernel, True)], shape, **attributes))
        rows.append(_in_turns(graph, parts, block))
    whole = _in_turns(graph, rows, graph.emit("Mul", block, graph.integers(int(width))))
    shape = graph.shape(step.x)
    blocks = graph.refine(graph.emit("Reshape", whole, graph.integers(-1, *map(int, shape[1:]))), shape)
    return _emit(graph, "ReorderOutput", [blocks], shape, channels=int(channels))


def _in_turns(graph: GraphBuilder, parts: Sequence[str], run: str) -> str:
    """Tensors of one size laid into each other, so many numbers of each in turn."""
    sizes = graph.emit("Concat", graph.integers(-1), run, axis=0)
    return graph.emit("Concat", *(graph.emit("Reshape", part, sizes) for part in parts), axis=1)


def weight_gradient(step: Step, window: Window) -> str | None:
    """The weight's gradient, or None where blocks don't make it faster."""
    graph, weight = step.graph, step.node.inputs[1]
    outputs, channels = _wide_kernel(graph, step.node), graph.shape(weight)[1]
    if not graph.blocked or not _fits(outputs) or int(outputs) * int(channels) <= _NARROW:
        return None
    data = _samples_as_channels(step, window)
    filters = _gradient_as_filters(step)
    shape = (channels, outputs, *window.kernel)
    attributes: dict[str, Any] = {
        "kernel_shape": list(window.outputs),
        "dilations": list(window.strides),
        "strides": list(window.dilations),
    }
    blocks = _emit(graph, "Conv", [data, filters], shape, **attributes)
    plain = _emit(graph, "ReorderOutput", [blocks], shape, channels=int(outputs))
    return graph.emit("Transpose", plain, perm=[1, 0, 2, 3])


def _wide_kernel(graph: GraphBuilder, node: Node) -> Dim:
    """Output channels of a two-dimensional convolution without groups whose kernel has several elements, or 0."""
    shape = graph.shape(node.inputs[1])
    plain = graph.dtype(node.inputs[1]) == np.float32 and int(node.attributes.get("group", 1)) == 1
    wide = len(shape) == 4 and all(isinstance(dim, int) for dim in shape) and shape[2:] != (1, 1)
    return shape[0] if plain and wide else 0


def _fits(channels: Dim) -> bool:
    return isinstance(channels, int) and channels > 0 and channels % _BLOCK == 0


def _to_blocks(graph: GraphBuilder, x: str) -> str:
    return _emit(graph, "ReorderInput", [x], graph.shape(x))


def _weight_in_blocks(graph: GraphBuilder, weight: str, turned: bool = False) -> str:
    """[O, C, h, w] with the block of inputs and that of outputs last; `turned` for the way back from O to C."""
    outputs, channels, *kernel = (int(dim) for dim in graph.shape(weight))
    taps, block = math.prod(kernel), _block_size(graph)
    rows = [graph.emit("Div", graph.integers(outputs), block), block]
    # Its shape is told as if B were 16.
    shape: Shape = (outputs // _BLOCK, _BLOCK, channels, taps)
    columns, order = [graph.integers(channels)], [0, 2, 3, 1]
    if _fits(channels):
        shape = (outputs // _BLOCK, _BLOCK, channels // _BLOCK, _BLOCK, taps)
        columns = [graph.emit("Div", graph.integers(channels), block), block]
        order = [2, 0, 4, 1, 3] if turned else [0, 2, 4, 3, 1]
    sizes = graph.emit("Concat", *rows, *columns, graph.integers(taps), axis=0)
    cut = graph.refine(graph.emit("Reshape", weight, sizes), shape)
    blocks = graph.emit("Transpose", cut, perm=order)
    if turned:
        # The kernel's elements from the last to the first.
        start, end = graph.integers(-1), graph.integers(-taps - 1)
        blocks = graph.emit("Slice", blocks, start, end, graph.integers(2), graph.integers(-1))
    whole: Shape = (channels, outputs, *kernel) if turned else (outputs, channels, *kernel)
    return graph.refine(graph.emit("Reshape", blocks, graph.integers(*map(int, whole))), whole)


def _samples_as_channels(step: Step, window: Window) -> str:
    """The input, padded as the windows see it, as blocks of [C, samples, ...], samples filled up to whole blocks."""
    graph = step.graph
    channels = graph.shape(step.x)[1]
    needed = [
        (output - 1) * stride + (width - 1) * dilation + 1
        for output, stride, width, dilation in zip(
            window.outputs, window.strides, window.kernel, window.dilations, strict=True
        )
    ]
    ends = [need - size - before for need, size, before in zip(needed, window.sizes, window.before, strict=True)]
    pads = graph.emit(
        "Concat", graph.integers(0, 0, *window.before), _missing(graph, step.x), graph.integers(0, *ends), axis=0
    )
    padded = graph.refine(graph.emit("Pad", step.x, pads), (_WHOLE, channels, *needed))
    return _to_blocks(graph, graph.emit("Transpose", padded, perm=[1, 0, 2, 3]))


def _gradient_as_filters(step: Step) -> str:
    """The gradient [N, O, h, w] as a weight [O, samples, h, w] in blocks, samples filled up to whole blocks."""
    graph, block = step.graph, _block_size(step.graph)
    shape = graph.shape(step.gradient)
    places = math.prod(int(size) for size in shape[2:])
    outputs = graph.integers(int(shape[1]))
    missing = graph.emit("Concat", _missing(graph, step.gradient), graph.integers(*map(int, shape[1:])), axis=0)
    nothing = graph.refine(graph.emit("Expand", graph.scalar(0, step.gradient), missing), (_MISSING, *shape[1:]))
    whole = graph.refine(graph.emit("Concat", _to_blocks(graph, step.gradient), nothing, axis=0), (_WHOLE, *shape[1:]))
    sizes = graph.emit(
        "Concat",
        graph.integers(-1),
        block,
        graph.emit("Div", outputs, block),
        graph.integers(places),
        block,
        axis=0,
    )
    cut = graph.refine(graph.emit("Reshape", whole, sizes), (f"{_WHOLE}*1", 1, int(shape[1]), places, 1))
    filters = graph.emit("Transpose", cut, perm=[2, 0, 3, 1, 4])
    shape = (shape[1], _WHOLE, *shape[2:])
    return graph.refine(graph.emit("Reshape", filters, graph.integers(int(shape[0]), -1, *map(int, shape[2:]))), shape)


def _missing(graph: GraphBuilder, x: str) -> str:
    """How many samples a batch lacks to whole blocks, int64 [1]."""
    samples = graph.size_of(x, [0])
    samples = graph.emit("Unsqueeze", samples, graph.integers(0))
    return graph.emit("Mod", graph.emit("Neg", samples), _block_size(graph))


def _block_size(graph: GraphBuilder) -> str:
    """B, int64 [1]: to how many channels the runtime fills up four."""
    four = graph.constant(np.zeros((1, 4, 1, 1), np.float32))
    return graph.emit("Shape", _emit(graph, "ReorderInput", [four], (1, _BLOCK, 1, 1)), start=1, end=2)


def _emit(
    graph: GraphBuilder,
    operator: str,
    inputs: Sequence[str],
    shape: Shape,
    output: str | None = None,
    **attributes: Any,  # noqa: ANN401
) -> str:
    return graph.emit_foreign(DOMAIN, operator, inputs, shape, output, **attributes)
