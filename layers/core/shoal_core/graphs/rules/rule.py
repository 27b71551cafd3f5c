"""What a gradient rule is given and what it returns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import helper

from shoal_core.errors import UnsupportedOperator
from shoal_core.graphs.builder import GraphBuilder
from shoal_core.graphs.shapes import Shape

# Just below the largest float32.
_STEEP = 3e38
# Emits the gradient of one input and returns its name. It is only called where that gradient is needed.
Gradient = Callable[[], str]


@dataclass(frozen=True)
class Node:
    """One node of a forward graph. An input or output that is left out is the empty string, as in ONNX."""

    operator: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]

    @classmethod
    def of(cls, proto: onnx.NodeProto) -> Node:
        """Read an ONNX node; strings come out as `str`."""
        attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in proto.attribute}
        return cls(
            operator=proto.op_type,
            name=proto.name or next((output for output in proto.output if output), ""),
            inputs=tuple(proto.input),
            outputs=tuple(proto.output),
            attributes={
                name: value.decode() if isinstance(value, bytes) else value for name, value in attributes.items()
            },
        )

    def has_input(self, index: int) -> bool:
        """Whether an optional input is given."""
        return index < len(self.inputs) and self.inputs[index] != ""


@dataclass(frozen=True)
class Step:
    """One step of the backward pass.

    Attributes:
        graph: Where gradients are emitted.
        node: The forward node.
        gradients: The loss's gradient for each output, None where the loss doesn't depend on it.
    """

    graph: GraphBuilder
    node: Node
    gradients: tuple[str | None, ...]

    @property
    def gradient(self) -> str:
        """The gradient of the first output."""
        gradient = self.gradients[0]
        if gradient is None:
            raise self.unsupported("is used only through its second output")
        return gradient

    @property
    def x(self) -> str:
        """The first input."""
        return self.node.inputs[0]

    @property
    def y(self) -> str:
        """The first output."""
        return self.node.outputs[0]

    def attribute(self, name: str, default: Any = None) -> Any:  # noqa: ANN401
        """An attribute of the node, or the operator's default."""
        return self.node.attributes.get(name, default)

    def integers(self, index: int, what: str) -> tuple[int, ...]:
        """The value of a constant integer input, such as axes.

        Raises:
            UnsupportedOperator: if it is only known at run time.
        """
        value = self.graph.value(self.node.inputs[index])
        if value is None:
            raise self.unsupported(f"has {what} that are only known at run time")
        return tuple(int(item) for item in np.ravel(value))

    def to_input(self, gradient: str, index: int) -> str:
        """Sum a gradient over the axes along which input `index` was broadcast."""
        return sum_to(self.graph, gradient, self.node.inputs[index])

    def emit(self, operator: str, *inputs: str, **attributes: Any) -> str:  # noqa: ANN401
        """Shorthand for `graph.emit`."""
        return self.graph.emit(operator, *inputs, **attributes)

    def unsupported(self, why: str) -> UnsupportedOperator:
        """The error for a use of the operator that has no gradient here."""
        return UnsupportedOperator(
            f"Node {self.node.name!r} ({self.node.operator}) {why}, and training has no gradient for that.",
            "Change this layer of the network, or keep the parameters before it fixed.",
        )


Rule = Callable[[Step], Sequence[Gradient | None]]


def unary(derivative: Callable[[Step], str]) -> Rule:
    """The rule of y = f(x), from a function that emits f'(x)."""

    def rule(step: Step) -> Sequence[Gradient | None]:
        return [lambda: step.emit("Mul", step.gradient, derivative(step))]

    return rule


def normalised(axis: int, rank: int) -> int:
    """An axis counted from the front."""
    return axis + rank if axis < 0 else axis


def positive(graph: GraphBuilder, x: str) -> str:
    """1 where x > 0, else 0, in x's element type. Multiplying by it is faster on CPU than `Where`."""
    if graph.dtype(x) == np.float32:
        # max(0, min(1, 3e38 x)) in one pass: 0 or 1 for every float32 but those below 4e-39, which have lost digits.
        return graph.emit("HardSigmoid", x, alpha=_STEEP, beta=0.0)
    return graph.emit("Cast", graph.emit("Greater", x, graph.scalar(0, x)), to=graph.element_type(x))


def sum_to(graph: GraphBuilder, gradient: str, like: str) -> str:
    """Undo a broadcast: sum `gradient` over the axes along which `like` was repeated."""
    source, target = graph.shape(gradient), graph.shape(like)
    if source == target:
        return gradient
    leading = len(source) - len(target)
    aligned = list(zip(source[leading:], target, strict=True))
    if any(isinstance(kept, str) and kept != size for size, kept in aligned):
        return _sum_to_unknown(graph, gradient, like, leading)
    axes = [*range(leading), *(leading + axis for axis, (size, kept) in enumerate(aligned) if kept == 1 != size)]
    if not axes:
        return graph.refine(graph.emit("Identity", gradient), target)
    squeezed = graph.emit("ReduceSum", gradient, graph.integers(*axes), keepdims=int(axes != list(range(leading))))
    return graph.reshape_like(squeezed, like)


def _sum_to_unknown(graph: GraphBuilder, gradient: str, like: str, leading: int) -> str:
    """`sum_to` where two symbols may or may not be the same size: the axes to sum are found at run time."""
    ones = graph.emit("NonZero", graph.emit("Equal", graph.shape_of(like), graph.integers(1)))
    axes = graph.emit("Squeeze", ones, graph.integers(0))
    if leading:
        axes = graph.emit("Add", axes, graph.integers(leading))
        axes = graph.emit("Concat", graph.integers(*range(leading)), axes, axis=0)
    total = graph.emit("ReduceSum", gradient, axes, keepdims=1, noop_with_empty_axes=1)
    return graph.refine(graph.emit("Reshape", total, graph.shape_of(like)), graph.shape(like))


def spatial_sizes(step: Step, tensor: str) -> tuple[int, ...]:
    """Sizes of the axes after batch and channel.

    Raises:
        UnsupportedOperator: if one isn't fixed.
    """
    shape: Shape = step.graph.shape(tensor)[2:]
    sizes = tuple(dim for dim in shape if isinstance(dim, int))
    if len(sizes) != len(shape):
        raise step.unsupported(f"works on a tensor of unknown spatial size {shape}")
    return sizes
