"""Normalisation by batch, layer, instance or group, with gradients in closed form.

A BatchNormalization whose running statistics are buffers is emitted here as it trains: with the batch's own statistics,
which also move the running ones. As PyTorch does, the running variance takes the unbiased estimate (n - 1).
"""

from __future__ import annotations

from collections.abc import Collection, MutableMapping, Sequence

import numpy as np
from onnx import NodeProto, TensorProto

from shoal_core.errors import UnsupportedOperator
from shoal_core.graphs.builder import GraphBuilder
from shoal_core.graphs.rules.rule import Gradient, Node, Rule, Step, normalised
from shoal_core.graphs.shapes import product

_EPSILON = 1e-5
_MOMENTUM = 0.9
_STATISTICS = ("normalised", "mean", "inverse")


def trains_on_batch(proto: NodeProto, buffers: Collection[str]) -> bool:
    """Whether a node is a BatchNormalization with its running statistics in buffers.

    Raises:
        UnsupportedOperator: if it is in training mode, but its statistics aren't kept.
    """
    if proto.op_type != "BatchNormalization":
        return False
    kept = [name in buffers for name in proto.input[3:5]]
    if any(attribute.name == "training_mode" and attribute.i for attribute in proto.attribute) or len(set(kept)) > 1:
        raise UnsupportedOperator(
            f"BatchNormalization {proto.name!r} is in training mode, or only one of its statistics is a buffer.",
            "Export the network in evaluation mode; training is told by its buffers.",
        )
    return kept[0]


def emit_trained_batch_normalization(graph: GraphBuilder, node: Node, renewed: MutableMapping[str, str]) -> Node:
    """Emit the forward pass on the batch's statistics; `renewed` gets the running ones' new values.

    Returns:
        The node for the tape. Beside the output it has the centred input and the batch's variance [C].
    """
    x, scale, bias, *running = node.inputs
    axes = _all_but_channels(graph, x)
    mean = _mean(graph, x, axes)
    centred = graph.emit("Sub", x, mean)
    variance = graph.reshape_like(_mean(graph, graph.emit("Mul", centred, centred), axes), running[1])
    epsilon = float(node.attributes.get("epsilon", _EPSILON))
    # The runtime's own inference kernel does scale and shift in one pass.
    graph.emit(
        "BatchNormalization", centred, scale, bias, _full(graph, variance, 0), variance,
        output=node.outputs[0], epsilon=epsilon,
    )  # fmt: skip

    count = graph.emit("Cast", graph.size_of(x, axes), to=graph.element_type(x))
    others = graph.emit("Max", graph.emit("Sub", count, graph.scalar(1, x)), graph.scalar(1, x))
    unbiased = graph.emit("Div", graph.emit("Mul", variance, count), others)
    momentum = float(node.attributes.get("momentum", _MOMENTUM))
    for buffer, seen in zip(running, (graph.reshape_like(mean, running[0]), unbiased), strict=True):
        kept = graph.emit("Mul", renewed.get(buffer, buffer), graph.scalar(momentum, buffer))
        renewed[buffer] = graph.emit("Add", kept, graph.emit("Mul", seen, graph.scalar(1 - momentum, buffer)))
    return Node(
        node.operator, node.name, node.inputs, (node.outputs[0], centred, variance),
        {"epsilon": epsilon, "training_mode": 1},
    )  # fmt: skip


def keep_statistics(graph: GraphBuilder, node: NodeProto) -> None:
    """Make a LayerNormalization tell mean and inverse deviation, which its gradient needs."""
    if graph.element_type(node.input[0]) == TensorProto.FLOAT:
        given = [*node.output, "", ""][:3]
        node.output[:] = [name or graph.new_output(hint) for name, hint in zip(given, _STATISTICS, strict=True)]


def _batch_normalization(step: Step) -> Sequence[Gradient | None]:
    trained = bool(step.attribute("training_mode", 0))
    graph, node = step.graph, step.node
    scale = node.inputs[1]
    axes = graph.integers(*_all_but_channels(graph, step.x))

    def centred() -> str:
        return node.outputs[1] if trained else graph.emit("Sub", step.x, _channels(graph, node.inputs[3], step.x))

    def inverse() -> str:
        variance = node.outputs[2] if trained else node.inputs[4]
        safe = graph.emit("Add", variance, graph.scalar(float(step.attribute("epsilon", _EPSILON)), variance))
        return graph.emit("Reciprocal", graph.emit("Sqrt", safe))

    def total() -> str:
        return graph.emit("ReduceSum", step.gradient, axes, keepdims=0)

    def total_by_centred() -> str:
        return graph.emit("ReduceSum", graph.emit("Mul", step.gradient, centred()), axes, keepdims=0)

    def of_x() -> str:
        factor = graph.emit("Mul", scale, inverse())
        scaled = graph.emit("Mul", step.gradient, _channels(graph, factor, step.x))
        if not trained:
            return scaled
        count = graph.emit("Cast", graph.size_of(step.x, _all_but_channels(graph, step.x)), to=_type(step))
        share = graph.emit("Neg", graph.emit("Div", factor, count))
        squared = graph.emit("Mul", inverse(), inverse())
        slope = graph.emit("Mul", graph.emit("Mul", share, squared), total_by_centred())
        shift = graph.emit("Mul", share, total())
        # centred * slope + shift, in one pass.
        zeros, ones = _full(graph, slope, 0), _full(graph, slope, 1)
        through = graph.emit("BatchNormalization", centred(), slope, shift, zeros, ones, epsilon=0.0)
        return graph.emit("Add", scaled, through)

    return [of_x, lambda: graph.emit("Mul", total_by_centred(), inverse()), total, None, None]


def _layer_normalization(step: Step) -> Sequence[Gradient | None]:
    graph, node = step.graph, step.node
    if any(gradient is not None for gradient in step.gradients[1:]):
        raise step.unsupported("is used through its mean or deviation")
    rank = graph.rank(step.x)
    axes = list(range(normalised(int(step.attribute("axis", -1)), rank), rank))

    def standardised() -> tuple[str, str]:
        if len(node.outputs) < 3:
            return _standardised(graph, step.x, axes, float(step.attribute("epsilon", _EPSILON)))
        return graph.emit("Mul", graph.emit("Sub", step.x, node.outputs[1]), node.outputs[2]), node.outputs[2]

    def of_x() -> str:
        inner = graph.emit("Mul", step.gradient, node.inputs[1])
        return _through_statistics(graph, inner, *standardised(), axes)

    def of_scale() -> str:
        return step.to_input(graph.emit("Mul", step.gradient, standardised()[0]), 1)

    return [of_x, of_scale, lambda: step.to_input(step.gradient, 2)]


def _instance_normalization(step: Step) -> Sequence[Gradient | None]:
    return _grouped(step, None)


def _group_normalization(step: Step) -> Sequence[Gradient | None]:
    if step.graph.shape(step.node.inputs[1]) != step.graph.shape(step.x)[1:2]:
        raise step.unsupported("has one scale for each group (operator set 18), not for each channel,")
    return _grouped(step, int(step.attribute("num_groups")))


def _grouped(step: Step, groups: int | None) -> Sequence[Gradient | None]:
    """Statistics over [N, groups, rest]; by default every channel is a group."""
    graph = step.graph
    batch, channels, *spatial = graph.shape(step.x)
    if not isinstance(channels, int):
        raise step.unsupported("has an unknown number of channels")
    groups = groups or channels
    flat = (batch, groups, product((channels // groups, *spatial)))

    def standardised() -> tuple[str, str]:
        epsilon = float(step.attribute("epsilon", _EPSILON))
        return _standardised(graph, graph.reshape(step.x, flat), [2], epsilon)

    def of_x() -> str:
        inner = graph.emit("Mul", step.gradient, _channels(graph, step.node.inputs[1], step.x))
        through = _through_statistics(graph, graph.reshape(inner, flat), *standardised(), [2])
        return graph.reshape_like(through, step.x)

    def total(values: str) -> str:
        return graph.emit("ReduceSum", values, graph.integers(*_all_but_channels(graph, step.x)), keepdims=0)

    def of_scale() -> str:
        return total(graph.emit("Mul", step.gradient, graph.reshape_like(standardised()[0], step.x)))

    return [of_x, of_scale, lambda: total(step.gradient)]


def _standardised(graph: GraphBuilder, x: str, axes: Sequence[int], epsilon: float) -> tuple[str, str]:
    """(x - mean) / deviation, and 1 / deviation."""
    centred = graph.emit("Sub", x, _mean(graph, x, axes))
    variance = _mean(graph, graph.emit("Mul", centred, centred), axes)
    deviation = graph.emit("Sqrt", graph.emit("Add", variance, graph.scalar(epsilon, x)))
    inverse = graph.emit("Reciprocal", deviation)
    return graph.emit("Mul", centred, inverse), inverse


def _through_statistics(graph: GraphBuilder, gradient: str, value: str, inverse: str, axes: Sequence[int]) -> str:
    """inverse (g - mean(g) - value mean(g value)): the gradient of standardising over axes."""
    common = graph.emit("Sub", gradient, _mean(graph, gradient, axes))
    along = graph.emit("Mul", value, _mean(graph, graph.emit("Mul", gradient, value), axes))
    return graph.emit("Mul", graph.emit("Sub", common, along), inverse)


def _mean(graph: GraphBuilder, x: str, axes: Sequence[int]) -> str:
    """The mean over axes, which stay as axes of 1."""
    if graph.opset < 18:
        return graph.emit("ReduceMean", x, axes=list(axes), keepdims=1)
    return graph.emit("ReduceMean", x, graph.integers(*axes), keepdims=1)


def _channels(graph: GraphBuilder, vector: str, like: str) -> str:
    """[C] as [C, 1, 1] for `like` [N, C, H, W]."""
    return graph.reshape(vector, (*graph.shape(vector), *(1,) * (graph.rank(like) - 2)))


def _all_but_channels(graph: GraphBuilder, x: str) -> list[int]:
    return [0, *range(2, graph.rank(x))]


def _full(graph: GraphBuilder, like: str, value: float) -> str:
    sizes = [dim for dim in graph.shape(like) if isinstance(dim, int)]
    return graph.constant(np.full(sizes, value, dtype=graph.dtype(like)))


def _type(step: Step) -> int:
    return step.graph.element_type(step.x)


RULES: dict[str, Rule] = {
    "BatchNormalization": _batch_normalization,
    "GroupNormalization": _group_normalization,
    "InstanceNormalization": _instance_normalization,
    "LayerNormalization": _layer_normalization,
}
