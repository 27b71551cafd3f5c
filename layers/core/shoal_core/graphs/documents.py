"""A forward graph as a document that is read without onnx: what a SageMaker job builds its PyTorch network from."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from shoal_core.data.canonical import canonical_json
from shoal_core.data.shards import Tensors, encode_shard
from shoal_core.errors import UnsupportedOperator

METADATA = "network"
_TENSOR, _GRAPHS = onnx.AttributeProto.TENSOR, (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS)

# What shoal_core.jobs.operators computes in PyTorch; a test compares the two.
PYTORCH_OPERATORS: frozenset[str] = frozenset(
    {
        "Abs", "Acos", "Add", "And", "ArgMax", "ArgMin", "Asin", "Atan", "AveragePool", "BatchNormalization", "Cast",
        "CastLike", "Ceil", "Celu", "Clip", "Concat", "Constant", "ConstantOfShape", "Conv", "ConvTranspose", "Cos",
        "CumSum", "Div", "Dropout", "Einsum", "Elu", "Equal", "Erf", "Exp", "Expand", "Flatten", "Floor", "GRU",
        "Gather", "GatherElements", "Gelu", "Gemm", "GlobalAveragePool", "GlobalMaxPool", "Greater", "GreaterOrEqual",
        "GroupNormalization", "HardSigmoid", "HardSwish", "Identity", "InstanceNormalization", "IsNaN", "LSTM",
        "LayerNormalization", "LeakyRelu", "Less", "LessOrEqual", "Log", "LogSoftmax", "MatMul", "Max", "MaxPool",
        "Mean", "Min", "Mish", "Mod", "Mul", "Neg", "Not", "OneHot", "Or", "PRelu", "Pad", "Pow", "Range", "Reciprocal",
        "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd",
        "ReduceSum", "ReduceSumSquare", "Relu", "Reshape", "ReverseSequence", "Round", "Selu", "Shape", "Sigmoid",
        "Sign", "Sin", "Size", "Slice", "Softmax", "Softplus", "Softsign", "Split", "Sqrt", "Squeeze", "Sub", "Sum",
        "Tan", "Tanh", "Tile", "Transpose", "Trilu", "Unsqueeze", "Where",
    }
)  # fmt: skip


def network_document(model: onnx.ModelProto) -> bytes:
    """A graph as safetensors: its constants, and its nodes as JSON in the metadata.

    Args:
        model: The network, with `param.<name>` and `buffer.<name>` among its inputs and one output.

    Returns:
        The same bytes for the same graph. Metadata `network`: `{inputs: [name], output: name, nodes: [[operator,
        [operand], [result], {attribute: value}]]}`; an absent operand is "", a tensor as attribute is `{tensor: name of
        the constant}`.

    Raises:
        UnsupportedOperator: An operator that has no form in PyTorch here; all of them are named.
    """
    graph = model.graph
    unknown = sorted({node.op_type for node in graph.node} - PYTORCH_OPERATORS)
    if unknown:
        raise UnsupportedOperator(
            f"The network has operators that a SageMaker job doesn't train in PyTorch: {', '.join(unknown)}.",
            "Train it with compute: lambda.",
        )
    constants: Tensors = {tensor.name: _array(tensor) for tensor in graph.initializer}
    nodes = []
    for index, node in enumerate(graph.node):
        attributes = {each.name: _attribute(each, f"{index}.{each.name}", constants) for each in node.attribute}
        nodes.append([node.op_type, list(node.input), list(node.output), attributes])
    document = {
        "schema_version": 1,
        "inputs": [value.name for value in graph.input],
        "output": graph.output[0].name,
        "nodes": nodes,
    }
    return encode_shard(constants, {METADATA: canonical_json(document).decode()})


def _array(tensor: onnx.TensorProto) -> NDArray[Any]:
    return np.asarray(numpy_helper.to_array(tensor))


def _attribute(attribute: onnx.AttributeProto, name: str, constants: Tensors) -> object:
    if attribute.type in _GRAPHS:
        raise UnsupportedOperator(
            f"The network has a node with a graph of its own ({attribute.name!r}).", "Train it with compute: lambda."
        )
    value = helper.get_attribute_value(attribute)
    if attribute.type == _TENSOR:
        constants[name] = _array(value)
        return {"tensor": name}
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, float | int):
        return value
    return [each.decode() if isinstance(each, bytes) else each for each in value]
