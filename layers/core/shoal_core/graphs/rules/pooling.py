"""Gradients of pooling."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from onnx import NodeProto, TensorProto

from shoal_core.graphs.builder import GraphBuilder
from shoal_core.graphs.rules.rule import Gradient, Rule, Step
from shoal_core.graphs.rules.shape import scatter_flat
from shoal_core.graphs.rules.windows import Window


def keep_indices(graph: GraphBuilder, node: NodeProto) -> None:
    """Make a MaxPool tell where its maxima lie, which its gradient needs."""
    if len(node.output) < 2:
        node.output.append(graph.new_output("indices"))


def _max_pool(step: Step) -> Sequence[Gradient | None]:
    return [lambda: _max_pool_gradient(step)]


def _max_pool_gradient(step: Step) -> str:
    graph = step.graph
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
