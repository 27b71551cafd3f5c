"""Reverse-mode automatic differentiation of an ONNX graph, operator by operator.

`trace` copies a forward graph into a builder and remembers its nodes; `backward` walks them in reverse and emits the
gradient of every parameter, by the rules of `shoal_core.graphs.rules`. Gradients are only computed along paths that
lead from a parameter to the output, so a frozen part of a network costs nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from shoal_core.errors import BadNetwork, UnsupportedOperator
from shoal_core.graphs.builder import GraphBuilder, shape_of_value
from shoal_core.graphs.recomputation import Recomputation
from shoal_core.graphs.rules.dropping import emit_dropped
from shoal_core.graphs.rules.forwards import emit_faster
from shoal_core.graphs.rules.normalization import emit_trained_batch_normalization, trains_on_batch
from shoal_core.graphs.rules.registry import PREPARATIONS, REFUSED, RULES, WITHOUT_GRADIENT, supported_operators
from shoal_core.graphs.rules.rule import Node, Step
from shoal_core.graphs.shapes import Shape

# ScatterElements adds since operator set 16; what is newer than 22 isn't tested.
OPSETS = range(16, 23)
_FLOATING = frozenset({TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16})
_STANDARD_DOMAINS = ("", "ai.onnx")


@dataclass(frozen=True)
class Tape:
    """The forward pass as it was emitted.

    Attributes:
        nodes: In order of execution.
        differentiable: Tensors that depend on a parameter.
        renewed: For each buffer the tensor with its new value.
    """

    nodes: tuple[Node, ...]
    differentiable: frozenset[str]
    renewed: Mapping[str, str] = field(default_factory=dict)


def opset_of(model: onnx.ModelProto) -> int:
    """Version of the standard operator set that a model uses.

    Raises:
        BadNetwork: if it is outside `OPSETS`.
    """
    versions = [int(item.version) for item in model.opset_import if item.domain in _STANDARD_DOMAINS]
    if len(versions) != 1 or versions[0] not in OPSETS:
        raise BadNetwork(
            f"Network {model.graph.name!r} uses operator set {versions}, training knows {OPSETS[0]} to {OPSETS[-1]}.",
            f"Export it with opset {OPSETS[-1]}, or convert it with onnx.version_converter.",
        )
    return versions[0]


def trace(
    builder: GraphBuilder,
    model: onnx.ModelProto,
    parameters: Sequence[str],
    buffers: Sequence[str] = (),
    dropouts: Collection[str] = (),
) -> Tape:
    """Copy a forward graph's inputs, constants and nodes into a builder.

    A BatchNormalization whose statistics are buffers is emitted as it trains: with the batch's own statistics. A
    Dropout that drops gets an input of its own, `noise.<output>`.

    Args:
        builder: Of the model's operator set.
        model: The forward graph.
        parameters: Names of the float inputs to differentiate by, as the model names them.
        buffers: Names of the inputs that training renews, as the model names them.
        dropouts: Outputs of the Dropout nodes that drop.

    Raises:
        BadNetwork: if the graph isn't consistent, a parameter or buffer isn't among its inputs, or nothing renews a
            buffer.
        UnsupportedOperator: for a node of another domain than ONNX's own.
    """
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for value in model.graph.input:
        if value.name in constants:
            continue
        shape = shape_of_value(value)
        if shape is None:
            raise BadNetwork(f"Input {value.name!r} of network {model.graph.name!r} has unnamed unknown dimensions.")
        builder.input(value.name, value.type.tensor_type.elem_type, shape)
    missing = [name for name in (*parameters, *buffers) if not builder.has(name)]
    if missing:
        raise BadNetwork(f"Parameter or buffer {missing[0]!r} isn't an input of network {model.graph.name!r}.")
    for name, array in constants.items():
        builder.constant(array, name)

    declared = {value.name: shape_of_value(value) for value in (*model.graph.value_info, *model.graph.output)}
    differentiable = set(parameters)
    nodes = []
    renewed: dict[str, str] = {}
    for proto in model.graph.node:
        if trains_on_batch(proto, buffers):
            node = emit_trained_batch_normalization(builder, Node.of(proto), renewed)
        elif proto.op_type == "Dropout" and proto.output[0] in dropouts:
            node = emit_dropped(builder, Node.of(proto))
        else:
            trained = bool(differentiable.intersection(proto.input))
            node = emit_faster(builder, Node.of(proto), trained) or _copy(builder, proto, differentiable, declared)
        nodes.append(node)
        if node.operator not in WITHOUT_GRADIENT and differentiable.intersection(node.inputs):
            differentiable |= {name for name in node.outputs if name and builder.element_type(name) in _FLOATING}
    idle = [name for name in buffers if name not in renewed]
    if idle:
        raise BadNetwork(f"Nothing in network {model.graph.name!r} renews buffer {idle[0]!r}.", "Make it a constant.")
    return Tape(tuple(nodes), frozenset(differentiable), renewed)


def _copy(
    builder: GraphBuilder, proto: onnx.NodeProto, differentiable: set[str], declared: Mapping[str, Shape | None]
) -> Node:
    if proto.domain not in _STANDARD_DOMAINS:
        raise UnsupportedOperator(
            f"Node {proto.name!r} uses operator {proto.op_type!r} of domain {proto.domain!r}.",
            "Export the network with ONNX's standard operators only.",
        )
    if proto.op_type in REFUSED:
        raise UnsupportedOperator(
            f"Node {proto.name or proto.output[0]!r} ({proto.op_type}) {REFUSED[proto.op_type]}.",
            "Export the network in evaluation mode and with fixed numbers of steps, so that its loops are unrolled.",
        )
    if proto.op_type == "Constant":
        builder.constant(constant_value(proto), proto.output[0])
        return Node.of(proto)
    copy = onnx.NodeProto()
    copy.CopyFrom(proto)
    if copy.op_type in PREPARATIONS and differentiable.intersection(copy.input):
        PREPARATIONS[copy.op_type](builder, copy)
    builder.copy(copy, [declared.get(name) for name in copy.output])
    return Node.of(copy)


def constant_value(proto: onnx.NodeProto) -> NDArray[Any]:
    """The value of a `Constant` node, whichever attribute holds it. Raises `UnsupportedOperator` for a text."""
    attribute = proto.attribute[0]
    value = helper.get_attribute_value(attribute)
    if attribute.name == "value":
        return numpy_helper.to_array(value)
    dtypes = {"value_float": np.float32, "value_floats": np.float32, "value_int": np.int64, "value_ints": np.int64}
    if attribute.name not in dtypes:
        raise UnsupportedOperator(f"Constant node {proto.output[0]!r} has a value of kind {attribute.name!r}.")
    return np.asarray(value, dtype=dtypes[attribute.name])


def backward(
    builder: GraphBuilder,
    tape: Tape,
    seeds: Mapping[str, str],
    parameters: Sequence[str],
    segments: Sequence[range] = (),
) -> dict[str, str]:
    """Emit the gradients of a scalar with respect to parameters.

    Args:
        builder: That the tape was traced into.
        tape: The forward pass.
        seeds: For each output that the scalar is computed from: the scalar's gradient with respect to it.
        parameters: As given to `trace`.
        segments: Ranges of the tape's nodes whose results aren't kept for the gradients but computed once more.

    Returns:
        For each parameter the tensor with its gradient, of the parameter's shape and element type.

    Raises:
        UnsupportedOperator: naming every node on the way that has no gradient rule.
        BadNetwork: if a parameter has no influence on the outputs.
    """
    path = _path(tape, seeds)
    require_rules(path)
    gradients: dict[str, list[str]] = {name: [seed] for name, seed in seeds.items()}
    again = Recomputation(builder, tape.nodes, segments)
    for node in reversed(path):
        arrived = tuple(_total(builder, gradients, name) for name in node.outputs)
        first = next((gradient for gradient in arrived if gradient is not None), None)
        if first is None:
            continue
        step = Step(builder, again.node(node, first), arrived)
        rules = RULES[node.operator](step)
        # An operator with any number of inputs returns a gradient for each; others may have optional ones left out.
        for index, name in enumerate(node.inputs):
            if name not in tape.differentiable:
                continue
            gradient = rules[index]
            if gradient is None:
                raise step.unsupported(f"depends on a trainable value through input {index} ({name!r})")
            gradients.setdefault(name, []).append(gradient())
    found = {name: _total(builder, gradients, name) for name in parameters}
    idle = [name for name, gradient in found.items() if gradient is None]
    if idle:
        raise BadNetwork(
            f"Parameter {idle[0]!r} has no influence on the network's output.", "Leave it out of the trainable tensors."
        )
    return {name: gradient for name, gradient in found.items() if gradient is not None}


def _path(tape: Tape, outputs: Mapping[str, str]) -> list[Node]:
    """Nodes between a parameter and an output, in order of execution."""
    wanted = set(outputs)
    path = []
    for node in reversed(tape.nodes):
        if wanted.intersection(node.outputs) and tape.differentiable.intersection(node.outputs):
            path.append(node)
            wanted |= tape.differentiable.intersection(node.inputs)
    return path[::-1]


def require_rules(path: Sequence[Node]) -> None:
    """Raise `UnsupportedOperator` naming every node without a gradient rule, and what is supported."""
    unknown = [node for node in path if node.operator not in RULES]
    if unknown:
        named = ", ".join(f"{node.operator} (node {node.name!r})" for node in unknown)
        raise UnsupportedOperator(
            f"Training has no gradient for {named}.",
            f"Use only these operators between trainable tensors and the output: {', '.join(supported_operators())}.",
        )


def _total(builder: GraphBuilder, gradients: dict[str, list[str]], name: str) -> str | None:
    """The sum of all contributions to a tensor's gradient, added up in a fixed order."""
    parts = gradients.get(name)
    if not parts:
        return None
    while len(parts) > 1:
        parts[:2] = [builder.refine(builder.emit("Add", parts[0], parts[1]), builder.shape(name))]
    return parts[0]
