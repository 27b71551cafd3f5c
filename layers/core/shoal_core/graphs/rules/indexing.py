"""Gradients of operators that read or write elements at indices, or repeat and rearrange them.

ScatterElements adds in the order of its indices (ScatterND may add in parallel), so the same bytes come out.
"""

from __future__ import annotations

import string
from collections.abc import Sequence

from shoal_core.graphs.rules.rule import Gradient, Rule, Step
from shoal_core.graphs.rules.shape import positions, scatter_flat
from shoal_core.graphs.shapes import Dim


def _gather_elements(step: Step) -> Sequence[Gradient | None]:
    def gradient() -> str:
        return _add_at(step, step.node.inputs[1], step.gradient, int(step.attribute("axis", 0)))

    return [gradient, None]


def _top_k(step: Step) -> Sequence[Gradient | None]:
    def gradient() -> str:
        return _add_at(step, step.node.outputs[1], step.gradient, int(step.attribute("axis", -1)))

    return [gradient, None]


def _add_at(step: Step, indices: str, gradient: str, axis: int) -> str:
    zeros = step.graph.zeros_like(step.x)
    added = step.emit("ScatterElements", zeros, indices, gradient, axis=axis, reduction="add")
    return step.graph.refine(added, step.graph.shape(step.x))


def _gather_nd(step: Step) -> Sequence[Gradient | None]:
    def gradient() -> str:
        batch = int(step.attribute("batch_dims", 0))
        chosen = step.emit("GatherND", positions(step.graph, step.x), step.node.inputs[1], batch_dims=batch)
        return scatter_flat(step, chosen, step.gradient)

    return [gradient, None]


def _compress(step: Step) -> Sequence[Gradient | None]:
    def gradient() -> str:
        chosen = step.emit("Compress", positions(step.graph, step.x), step.node.inputs[1], **step.node.attributes)
        return scatter_flat(step, chosen, step.gradient)

    return [gradient, None]


def _scatter(gather: str) -> Rule:
    """The rule of ScatterND or ScatterElements; `gather` reads what it writes."""

    def rule(step: Step) -> Sequence[Gradient | None]:
        reduction = step.attribute("reduction", "none")
        if reduction not in ("none", "add"):
            raise step.unsupported(f"combines by {reduction!r}")
        indices, updates = step.node.inputs[1:]
        axis = {"axis": int(step.attribute("axis", 0))} if gather == "GatherElements" else {}

        def of_data() -> str:
            if reduction == "add":
                return step.gradient
            zeros = step.graph.zeros_like(updates)
            return step.emit(step.node.operator, step.gradient, indices, zeros, **axis)

        def of_updates() -> str:
            read = step.emit(gather, step.gradient, indices, **axis)
            return step.graph.refine(read, step.graph.shape(updates))

        return [of_data, None, of_updates]

    return rule


def _tile(step: Step) -> Sequence[Gradient | None]:
    repeats = step.integers(1, "repeats")
    shape = step.graph.shape(step.x)

    def gradient() -> str:
        split: tuple[Dim, ...] = tuple(size for pair in zip(repeats, shape, strict=True) for size in pair)
        axes = step.graph.integers(*range(0, 2 * len(shape), 2))
        total = step.emit("ReduceSum", step.graph.reshape(step.gradient, split), axes, keepdims=0)
        return step.graph.refine(total, shape)

    return [gradient, None]


def _trilu(step: Step) -> Sequence[Gradient | None]:
    upper = int(step.attribute("upper", 1))
    return [lambda: step.emit("Trilu", step.gradient, *step.node.inputs[1:], upper=upper), None]


def _depth_to_space(step: Step) -> Sequence[Gradient | None]:
    graph = step.graph
    block = int(step.attribute("blocksize"))

    def gradient() -> str:
        if step.attribute("mode", "DCR") == "DCR":
            return graph.refine(step.emit("SpaceToDepth", step.gradient, blocksize=block), graph.shape(step.x))
        batch, channels, height, width = graph.shape(step.x)
        if not isinstance(channels, int):
            raise step.unsupported("has an unknown number of channels")
        blocks = graph.reshape(step.gradient, (batch, channels // block**2, height, block, width, block))
        return graph.reshape_like(graph.emit("Transpose", blocks, perm=[0, 1, 3, 5, 2, 4]), step.x)

    return [gradient]


def _space_to_depth(step: Step) -> Sequence[Gradient | None]:
    def gradient() -> str:
        spread = step.emit("DepthToSpace", step.gradient, blocksize=int(step.attribute("blocksize")))
        return step.graph.refine(spread, step.graph.shape(step.x))

    return [gradient]


def _reverse_sequence(step: Step) -> Sequence[Gradient | None]:
    # Turning a part around twice leaves it as it was.
    return [lambda: step.emit("ReverseSequence", step.gradient, step.node.inputs[1], **step.node.attributes), None]


def _cum_sum(step: Step) -> Sequence[Gradient | None]:
    exclusive, reverse = (int(step.attribute(name, 0)) for name in ("exclusive", "reverse"))
    axis = step.node.inputs[1]
    return [lambda: step.emit("CumSum", step.gradient, axis, exclusive=exclusive, reverse=1 - reverse), None]


def _einsum(step: Step) -> Sequence[Gradient | None]:
    operands, output = _labels(step)

    def gradient(index: int) -> Gradient:
        def emit() -> str:
            others = [place for place in range(len(operands)) if place != index]
            known = set(output).union(*(operands[place] for place in others))
            kept = "".join(label for label in operands[index] if label in known)
            equation = ",".join([output, *(operands[place] for place in others)]) + "->" + kept
            inputs = [step.gradient, *(step.node.inputs[place] for place in others)]
            part = step.emit("Einsum", *inputs, equation=equation)
            # A label that only this operand has was summed over: every element gets the same.
            summed = [axis for axis, label in enumerate(operands[index]) if label not in known]
            if summed:
                part = step.emit("Unsqueeze", part, step.graph.integers(*summed))
                return step.emit("Expand", part, step.graph.shape_of(step.node.inputs[index]))
            return part

        return lambda: step.graph.refine(emit(), step.graph.shape(step.node.inputs[index]))

    return [gradient(index) for index in range(len(operands))]


def _labels(step: Step) -> tuple[list[str], str]:
    """The labels of each operand, and of the output; an ellipsis becomes labels that the equation doesn't use."""
    equation = str(step.attribute("equation")).replace(" ", "")
    left, arrow, output = equation.partition("->")
    operands = left.split(",")
    ranks = [step.graph.rank(name) for name in step.node.inputs]
    hidden = [
        rank - len(labels.replace("...", "")) if "..." in labels else 0
        for labels, rank in zip(operands, ranks, strict=True)
    ]
    unused = "".join(letter for letter in string.ascii_letters if letter not in equation)[: max(hidden)]
    operands = [
        labels.replace("...", unused[len(unused) - count :]) for labels, count in zip(operands, hidden, strict=True)
    ]
    if any(len(set(labels)) < len(labels) for labels in operands):
        raise step.unsupported(f"has a repeated label in an operand of its equation {equation!r}")
    if not arrow:
        joined = left.replace(",", "").replace(".", "")
        output = unused + "".join(sorted(label for label in set(joined) if joined.count(label) == 1))
    if _broadcasts(step, operands):
        raise step.unsupported(f"repeats an operand along a label of {equation!r}")
    return operands, output.replace("...", unused)


def _broadcasts(step: Step, operands: Sequence[str]) -> bool:
    sizes: dict[str, Dim] = {}
    for name, labels in zip(step.node.inputs, operands, strict=True):
        for label, size in zip(labels, step.graph.shape(name), strict=True):
            if sizes.setdefault(label, size) != size and 1 in (size, sizes[label]):
                return True
    return False


RULES: dict[str, Rule] = {
    "Compress": _compress,
    "CumSum": _cum_sum,
    "DepthToSpace": _depth_to_space,
    "Einsum": _einsum,
    "GatherElements": _gather_elements,
    "GatherND": _gather_nd,
    "ReverseSequence": _reverse_sequence,
    "ScatterElements": _scatter("GatherElements"),
    "ScatterND": _scatter("GatherND"),
    "SpaceToDepth": _space_to_depth,
    "Tile": _tile,
    "TopK": _top_k,
    "Trilu": _trilu,
}
