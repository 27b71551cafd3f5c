"""Types and shapes of a node's outputs, by ONNX's own inference and what it doesn't say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import onnx
from numpy.typing import NDArray
from onnx import TypeProto, defs, helper, numpy_helper, shape_inference

from shoal_core.errors import BadNetwork, UnsupportedOperator

IR_VERSION = 10
# Shape inference only looks into small integer operands (shapes, axes, pads).
_LARGEST_KNOWN_OPERAND = 1024
# Operators that ONNX's shape inference doesn't know, whose output is shaped as their first input.
_SHAPED_AS_INPUT = frozenset({"GroupNormalization"})


def infer_outputs(
    node: onnx.NodeProto, opset: int, types: Mapping[str, TypeProto], constants: Mapping[str, NDArray[Any]]
) -> dict[str, TypeProto]:
    """The outputs' types by name; a dimension that nothing tells has a symbol of its own.

    Args:
        node: Of ONNX's standard operators.
        opset: Version of the operator set.
        types: Of all tensors before the node.
        constants: Those whose values are known.

    Raises:
        UnsupportedOperator: if the operator set lacks it.
        BadNetwork: if the node doesn't fit its inputs.
    """
    outputs = _inferred(node, opset, types, constants)
    for name, tensor_type in outputs.items():
        if node.op_type in _SHAPED_AS_INPUT and not tensor_type.tensor_type.HasField("shape"):
            tensor_type.CopyFrom(types[node.input[0]])
        if node.op_type == "Resize":
            _keep_unscaled(node, tensor_type, types[node.input[0]], constants)
        for axis, dim in enumerate(tensor_type.tensor_type.shape.dim):
            if not dim.HasField("dim_value") and not dim.dim_param:
                # A dimension of its own, equal to nothing else.
                dim.dim_param = f"{name}[{axis}]"
    return outputs


def _inferred(
    node: onnx.NodeProto, opset: int, types: Mapping[str, TypeProto], constants: Mapping[str, NDArray[Any]]
) -> dict[str, TypeProto]:
    inputs = [name for name in node.input if name]
    unknown = [name for name in inputs if name not in types]
    if unknown:
        raise BadNetwork(f"Node {node.name!r} ({node.op_type}) reads tensor {unknown[0]!r}, which nothing defines.")
    known = {
        name: numpy_helper.from_array(value)
        for name in inputs
        if (value := constants.get(name)) is not None and value.size <= _LARGEST_KNOWN_OPERAND
    }
    try:
        schema = defs.get_schema(node.op_type, opset, node.domain)
    except defs.SchemaError as error:
        raise UnsupportedOperator(
            f"Operator {node.op_type!r} of node {node.name!r} isn't in ONNX's standard operator set {opset}."
        ) from error
    try:
        inferred = shape_inference.infer_node_outputs(
            schema,
            node,
            {name: types[name] for name in inputs},
            known,
            None,
            [helper.make_opsetid("", opset)],
            IR_VERSION,
        )
    except (shape_inference.InferenceError, RuntimeError) as error:
        raise BadNetwork(f"Node {node.name!r} ({node.op_type}) doesn't fit its inputs: {error}") from error
    missing = [name for name in node.output if name and name not in inferred]
    if missing:
        raise BadNetwork(f"The type of tensor {missing[0]!r} ({node.op_type}) can't be inferred.")
    return {name: inferred[name] for name in node.output if name}


def _keep_unscaled(
    node: onnx.NodeProto, resized: TypeProto, source: TypeProto, constants: Mapping[str, NDArray[Any]]
) -> None:
    """Where a Resize's scale is 1 an unknown dimension stays the same, which ONNX's shape inference doesn't say."""
    scales = constants.get(node.input[2]) if len(node.input) > 2 else None
    axes = [helper.get_attribute_value(attribute) for attribute in node.attribute if attribute.name == "axes"]
    dims = resized.tensor_type.shape.dim
    if scales is None or not dims or (not axes and len(scales) != len(dims)):
        return
    places = axes[0] if axes else range(len(dims))
    scaled = {axis % len(dims): scale for axis, scale in zip(places, scales, strict=True)}
    for axis, dim in enumerate(source.tensor_type.shape.dim):
        if not dim.HasField("dim_value") and scaled.get(axis, 1) == 1:
            dims[axis].dim_param = dim.dim_param
