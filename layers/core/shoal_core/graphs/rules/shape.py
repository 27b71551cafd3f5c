"""Gradients of operators that move, repeat or cut elements without computing on them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from shoal_core.graphs.builder import GraphBuilder
from shoal_core.graphs.rules.rule import Gradient, Rule, Step, normalised
from shoal_core.graphs.shapes import product


def _reshape(step: Step) -> Sequence[Gradient | None]:
    """Reshape, Flatten, Squeeze and Unsqueeze: the elements keep their order."""
    return [lambda: step.graph.reshape_like(step.gradient, step.x), None]


def _transpose(step: Step) -> Sequence[Gradient | None]:
    rank = step.graph.rank(step.x)
    order = list(step.attribute("perm", range(rank - 1, -1, -1)))
    inverse = [order.index(axis) for axis in range(rank)]
    return [lambda: step.emit("Transpose", step.gradient, perm=inverse)]


def _expand(step: Step) -> Sequence[Gradient | None]:
    return [lambda: step.to_input(step.gradient, 0), None]


def _concat(step: Step) -> Sequence[Gradient | None]:
    graph = step.graph
    axis = normalised(int(step.attribute("axis")), graph.rank(step.y))

    def offset(index: int) -> str:
        """Where input `index` starts along the axis, int64 [1]."""
        sizes = [graph.shape(name)[axis] for name in step.node.inputs[:index]]
        known = [size for size in sizes if isinstance(size, int)]
        total = graph.integers(sum(known))
        for name, size in zip(step.node.inputs, sizes, strict=False):
            if not isinstance(size, int):
                total = graph.emit("Add", total, graph.emit("Shape", name, start=axis, end=axis + 1))
        return total

    def gradient(index: int) -> Gradient:
        def emit() -> str:
            part = graph.emit("Slice", step.gradient, offset(index), offset(index + 1), graph.integers(axis))
            return graph.refine(part, graph.shape(step.node.inputs[index]))

        return emit

    return [gradient(index) for index in range(len(step.node.inputs))]


def _split(step: Step) -> Sequence[Gradient | None]:
    def gradient() -> str:
        axis = normalised(int(step.attribute("axis", 0)), step.graph.rank(step.x))
        parts = [
            part if part is not None else step.graph.zeros_like(output)
            for part, output in zip(step.gradients, step.node.outputs, strict=True)
        ]
        return step.graph.refine(step.emit("Concat", *parts, axis=axis), step.graph.shape(step.x))

    return [gradient, None]


def _slice(step: Step) -> Sequence[Gradient | None]:
    def gradient() -> str:
        pads = _slice_pads(step)
        if pads is None:
            return _scatter_slice(step)
        return step.graph.refine(step.emit("Pad", step.gradient, step.graph.integers(*pads)), step.graph.shape(step.x))

    return [gradient, None, None, None, None]


def _slice_pads(step: Step) -> list[int] | None:
    """The padding that undoes a slice of step 1 over fixed sizes, or None if this isn't one."""
    graph, node = step.graph, step.node
    shape = graph.shape(step.x)
    operands = [graph.value(name) if name else None for name in node.inputs[1:]]
    starts, ends = operands[0], operands[1]
    if starts is None or ends is None or any(name and graph.value(name) is None for name in node.inputs[3:]):
        return None
    axes = operands[2] if len(operands) > 2 and operands[2] is not None else np.arange(len(starts))
    steps = operands[3] if len(operands) > 3 and operands[3] is not None else np.ones(len(starts))
    before, after = [0] * len(shape), [0] * len(shape)
    for start, end, axis, stride in zip(starts, ends, axes, steps, strict=True):
        place = normalised(int(axis), len(shape))
        size = shape[place]
        if stride != 1 or not isinstance(size, int):
            return None
        first, last, _ = slice(int(start), int(end)).indices(size)
        before[place], after[place] = first, size - max(first, last)
    return [*before, *after]


def _scatter_slice(step: Step) -> str:
    """Any slice: the same slice of the elements' positions tells where each gradient belongs."""
    chosen = step.emit("Slice", positions(step.graph, step.x), *step.node.inputs[1:])
    return scatter_flat(step, chosen, step.gradient)


def positions(graph: GraphBuilder, like: str) -> str:
    """The number of each element in row order, int64, in the shape of `like`."""
    count = graph.size_of(like, range(graph.rank(like)))
    zero, one = (graph.constant(np.asarray(value, dtype=np.int64)) for value in (0, 1))
    return graph.reshape_like(graph.emit("Range", zero, count, one), like)


def scatter_flat(step: Step, places: str, gradient: str) -> str:
    """Zeros shaped as the input, plus `gradient` added at flat `places` (one per element of `gradient`)."""
    graph = step.graph
    flat = graph.integers(-1)
    zeros = graph.emit("Reshape", graph.zeros_like(step.x), flat)
    added = graph.emit(
        "ScatterElements",
        zeros,
        graph.emit("Reshape", places, flat),
        graph.emit("Reshape", gradient, flat),
        axis=0,
        reduction="add",
    )
    return graph.reshape_like(added, step.x)


def _pad(step: Step) -> Sequence[Gradient | None]:
    def gradient() -> str:
        if step.attribute("mode", "constant") != "constant":
            # Elements were copied: padding their positions tells from where.
            copied = step.emit("Pad", positions(step.graph, step.x), *step.node.inputs[1:], **step.node.attributes)
            return scatter_flat(step, copied, step.gradient)
        # A negative pad crops, so the opposite pads undo it.
        pads = step.emit("Neg", step.node.inputs[1])
        axes = [step.node.inputs[3]] if step.node.has_input(3) else []
        inputs = [step.gradient, pads, *(["", *axes] if axes else [])]
        return step.graph.refine(step.emit("Pad", *inputs), step.graph.shape(step.x))

    return [gradient, None, None, None]


def _gather(step: Step) -> Sequence[Gradient | None]:
    """Rows that were read several times get the sum of their gradients.

    ScatterElements adds in the order of its indices (ScatterND may add in parallel), so the same bytes come out.
    """
    graph = step.graph
    indices = step.node.inputs[1]

    def gradient() -> str:
        shape = graph.shape(step.x)
        axis = normalised(int(step.attribute("axis", 0)), len(shape))
        count = product(graph.shape(indices))
        rows = (*shape[:axis], count, *shape[axis + 1 :])
        updates = graph.reshape(step.gradient, rows)
        places = graph.reshape(indices, (*(1,) * axis, count, *(1,) * (len(shape) - axis - 1)))
        places = graph.expand_like(places, updates)
        return graph.emit("ScatterElements", graph.zeros_like(step.x), places, updates, axis=axis, reduction="add")

    return [gradient, None]


RULES: dict[str, Rule] = {
    "Concat": _concat,
    "Expand": _expand,
    "Flatten": _reshape,
    "Gather": _gather,
    "Pad": _pad,
    "Reshape": _reshape,
    "Slice": _slice,
    "Split": _split,
    "Squeeze": _reshape,
    "Transpose": _transpose,
    "Unsqueeze": _reshape,
}
