"""Gradients of pooling, and the usual MaxPool as a training step runs it.

The runtime's own MaxPool takes twenty times as long when it has to tell where its maxima lie. Windows of 2 x 2 that
don't overlap are two comparisons of neighbours, in rows and then in columns, so that of equal values the first wins.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from onnx import NodeProto, TensorProto

from shoal_core.graphs.builder import GraphBuilder
from shoal_core.graphs.rules.rule import Gradient, Node, Rule, Step
from shoal_core.graphs.rules.shape import scatter_flat
from shoal_core.graphs.rules.windows import Window
from shoal_core.graphs.shapes import Shape, product

_LEFT, _UPPER = 2, 3
"""Outputs of a pool by pairs, behind its own two: whether the left of two neighbours won, and the upper one."""


def pools_pairs(graph: GraphBuilder, node: Node) -> bool:
    """Whether a node is a MaxPool that `emit_pairs` can emit."""
    if node.operator != "MaxPool" or any(node.outputs[1:2]) or not graph.has_rank(node.inputs[0]):
        return False
    usual: dict[str, tuple[object, ...]] = {
        "kernel_shape": ([2, 2],),
        "strides": ([2, 2],),
        "pads": ([0, 0, 0, 0], None),
        "dilations": ([1, 1], None),
        "ceil_mode": (0, None),
        "auto_pad": ("NOTSET", "VALID", None),
        "storage_order": (0, None),
    }
    sizes = graph.shape(node.inputs[0])[1:]
    known = len(sizes) == 3 and all(isinstance(size, int) and size > 1 for size in sizes[1:])
    plain = graph.element_type(node.inputs[0]) == TensorProto.FLOAT and isinstance(sizes[0], int)
    return known and plain and all(node.attributes.get(name) in values for name, values in usual.items())


def emit_pairs(graph: GraphBuilder, node: Node) -> Node:
    """Emit a MaxPool that `pools_pairs`; returns the node for the tape."""
    batch, channels, height, width = graph.shape(node.inputs[0])
    shape: Shape = (batch, channels, int(height) // 2, int(width) // 2)
    axes, ends = graph.integers(2, 3), graph.integers(2 * int(shape[2]), 2 * int(shape[3]))
    odd = int(height) % 2 or int(width) % 2
    x = graph.emit("Slice", node.inputs[0], graph.integers(0, 0), ends, axes) if odd else node.inputs[0]
    pairs = graph.emit("Transpose", graph.reshape(x, (product((*shape, 2)), 2)), perm=[1, 0])
    first, second = graph.split(pairs, 2, axis=0)
    left, rows = graph.emit("GreaterOrEqual", first, second), graph.emit("Max", first, second)
    first, second = graph.split(graph.reshape(rows, (product(shape[:3]), 2, shape[3])), 2, axis=1)
    upper, pooled = graph.emit("GreaterOrEqual", first, second), graph.emit("Max", first, second)
    graph.emit("Reshape", pooled, graph.integers(-1, *map(int, shape[1:])), output=node.outputs[0])
    graph.refine(node.outputs[0], shape)
    return replace(node, outputs=(node.outputs[0], "", left, upper))


def _pairs_gradient(step: Step) -> str:
    """Each gradient goes to the row and then to the place that won; the others get 0."""
    graph = step.graph
    batch, channels, height, width = graph.shape(step.gradient)
    rows = _given(step, graph.reshape(step.gradient, (product((batch, channels, height)), 1, width)), _UPPER, axis=1)
    count = product((batch, channels, height, width, 2))
    pairs = graph.emit("Transpose", _given(step, graph.reshape(rows, (1, count)), _LEFT, axis=0), perm=[1, 0])
    whole: Shape = (batch, channels, 2 * int(height), 2 * int(width))
    gradient = graph.reshape(pairs, whole)
    missing = [int(size) - int(made) for size, made in zip(graph.shape(step.x)[2:], whole[2:], strict=True)]
    if any(missing):
        gradient = graph.emit("Pad", gradient, graph.integers(0, 0, 0, 0, 0, 0, *missing))
    return graph.refine(gradient, graph.shape(step.x))


def _given(step: Step, gradient: str, winner: int, axis: int) -> str:
    """A gradient beside its other half, each element in the one that won."""
    graph = step.graph
    won = graph.emit("Mul", gradient, graph.emit("Cast", step.node.outputs[winner], to=TensorProto.FLOAT))
    return graph.emit("Concat", won, graph.emit("Sub", gradient, won), axis=axis)


def keep_indices(graph: GraphBuilder, node: NodeProto) -> None:
    """Make a MaxPool tell where its maxima lie, which its gradient needs."""
    if len(node.output) < 2:
        node.output.append(graph.new_output("indices"))


def _max_pool(step: Step) -> Sequence[Gradient | None]:
    return [lambda: _max_pool_gradient(step)]


def _max_pool_gradient(step: Step) -> str:
    graph = step.graph
    if len(step.node.outputs) > _UPPER:
        return _pairs_gradient(step)
    if int(step.attribute("storage_order", 0)):
        raise step.unsupported("stores its indices column by column")
    indices = step.node.outputs[1]
    kernel = tuple(step.attribute("kernel_shape"))
    window = Window.of(step, kernel)
    plain = not any(window.pads) and not int(step.attribute("ceil_mode", 0)) and set(window.dilations) == {1}
    if window.strides == kernel and plain and graph.element_type(step.x) == TensorProto.FLOAT:
        # Windows that don't overlap: every gradient has a place of its own.
        unpooled = graph.emit(
            "MaxUnpool",
            step.gradient,
            indices,
            graph.shape_of(step.x),
            kernel_shape=list(kernel),
            strides=list(window.strides),
        )
        return graph.refine(unpooled, graph.shape(step.x))
    return scatter_flat(step, indices, step.gradient)


def _average_pool(step: Step) -> Sequence[Gradient | None]:
    window = Window.of(step, tuple(step.attribute("kernel_shape")))
    return [lambda: _average_pool_gradient(step, window)]


def _average_pool_gradient(step: Step, window: Window) -> str:
    """Each output's gradient, divided by its count, goes to all inputs of its window: a ConvTranspose with ones."""
    graph = step.graph
    dtype = graph.dtype(step.x)
    counts = _counts(window, bool(step.attribute("count_include_pad", 0)))
    # With ceil_mode windows may stick out of the padding.
    ends = [after + max(0, -rest) for after, rest in zip(window.after, window.uncovered, strict=True)]
    shared = graph.emit("Div", step.gradient, graph.constant(counts.astype(dtype)))
    single = graph.reshape(shared, (_maps(step), 1, *window.outputs))
    spread = graph.emit(
        "ConvTranspose",
        single,
        graph.constant(np.ones((1, 1, *window.kernel), dtype=dtype)),
        strides=list(window.strides),
        pads=[*window.before, *ends],
        dilations=list(window.dilations),
        output_padding=[max(0, rest) for rest in window.uncovered],
    )
    return graph.reshape_like(spread, step.x)


def _maps(step: Step) -> str | int:
    batch, channels = step.graph.shape(step.x)[:2]
    return batch * channels if isinstance(batch, int) and isinstance(channels, int) else f"{batch}*{channels}"


def _counts(window: Window, include_padding: bool) -> np.ndarray:
    """How many elements each window averages: [*outputs]."""
    total = np.ones((), dtype=np.int64)
    for axis, (size, output, width) in enumerate(zip(window.sizes, window.outputs, window.kernel, strict=True)):
        starts = np.arange(output) * window.strides[axis] - window.before[axis]
        reached = starts[:, None] + np.arange(width) * window.dilations[axis]
        first, end = (-window.before[axis], size + window.after[axis]) if include_padding else (0, size)
        total = total[..., None] * ((reached >= first) & (reached < end)).sum(axis=1)
    return total


def _global_average_pool(step: Step) -> Sequence[Gradient | None]:
    graph = step.graph

    def gradient() -> str:
        count = graph.size_of(step.x, range(2, graph.rank(step.x)))
        known = graph.value(count)
        if known is not None:
            share = graph.emit("Mul", step.gradient, graph.scalar(1 / math.prod(known.ravel().tolist()), step.x))
        else:
            share = graph.emit("Div", step.gradient, graph.emit("Cast", count, to=graph.element_type(step.x)))
        return graph.expand_like(share, step.x)

    return [gradient]


def _global_max_pool(step: Step) -> Sequence[Gradient | None]:
    """Equal maxima share the gradient."""
    graph = step.graph

    def gradient() -> str:
        reached = graph.emit("Cast", graph.emit("Equal", step.x, step.y), to=graph.element_type(step.x))
        count = graph.emit("ReduceSum", reached, graph.integers(*range(2, graph.rank(step.x))), keepdims=1)
        return graph.emit("Mul", reached, graph.emit("Div", step.gradient, count))

    return [gradient]


RULES: dict[str, Rule] = {
    "AveragePool": _average_pool,
    "GlobalAveragePool": _global_average_pool,
    "GlobalMaxPool": _global_max_pool,
    "MaxPool": _max_pool,
}
