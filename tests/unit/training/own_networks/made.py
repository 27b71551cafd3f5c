"""Networks as exporters write them, made by hand: one function for each way of writing."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper

from shoal_core.training.networks.reading import TRAINABLE

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
Arrays = Mapping[str, np.ndarray]


def node(operator: str, inputs: Sequence[str], output: str | Sequence[str], **attributes: Any) -> NodeProto:
    outputs = [output] if isinstance(output, str) else list(output)
    return helper.make_node(operator, list(inputs), outputs, name=f"node_{outputs[0]}", **attributes)


def constant(name: str, values: Any) -> NodeProto:
    array = np.asarray(values)
    array = array.astype(np.int64) if array.dtype.kind == "i" else array
    return node("Constant", [], name, value=numpy_helper.from_array(array))


def network(
    nodes: Sequence[NodeProto],
    weights: Arrays,
    inputs: Mapping[str, tuple[int, Sequence[Any]]],
    outputs: Mapping[str, Sequence[Any] | None],
    opset: int = 20,
    trainable: Sequence[str] | None = None,
    **fields: Any,
) -> bytes:
    """A file. `inputs` are (element type, shape), `outputs` shapes of floats."""
    graph = helper.make_graph(
        list(nodes),
        "main_graph",
        [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()],
        [helper.make_tensor_value_info(name, FLOAT, shape) for name, shape in outputs.items()],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in weights.items()],
    )
    opsets = fields.pop("opsets", [helper.make_opsetid("", opset)])
    model = helper.make_model(graph, opset_imports=opsets, ir_version=fields.pop("ir_version", 10), **fields)
    if trainable is not None:
        model.metadata_props.add(key=TRAINABLE, value=json.dumps(list(trainable)))
    return model.SerializeToString()


def drawn(*shape: int, seed: int = 0, scale: float = 0.3) -> np.ndarray:
    return (np.random.default_rng(seed).normal(size=shape) * scale).astype(np.float32)


def convolutional(
    classes: int = 3, merged: bool = False, batch: Any = "s77", side: int = 8, channels: int = 1
) -> bytes:
    """As PyTorch's exporter writes it: BatchNormalization and Dropout, and a reshape by the batch's size.

    `merged`: fresh scales and variances are one tensor, biases and means another, as after optimisation.
    """
    width = 4 * (side // 2) ** 2
    norm = {name: np.full(4, value, np.float32) for name, value in NORM.items()}
    names = {name: ("ones" if value else "zeros") if merged else f"norm.{name}" for name, value in NORM.items()}
    nodes = [
        node("Conv", ["x", "conv.weight", "conv.bias"], "a", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        node("BatchNormalization", ["a", *(names[part] for part in NORM)], "b", epsilon=1e-5, momentum=0.9),
        node("Relu", ["b"], "c"),
        node("MaxPool", ["c"], "d", kernel_shape=[2, 2], strides=[2, 2]),
        constant("ratio", np.float32(0.25)),
        constant("yes", np.bool_(True)),
        node("Dropout", ["d", "ratio", "yes"], ["e", ""]),
        node("Shape", ["x"], "size", start=0, end=1),
        constant("rest", [-1]),
        node("Concat", ["size", "rest"], "sizes", axis=0),
        node("Reshape", ["e", "sizes"], "f"),
        node("Gemm", ["f", "head.weight", "head.bias"], "y", transB=1),
    ]
    weights = {
        "conv.weight": drawn(4, channels, 3, 3),
        "conv.bias": drawn(4, seed=1),
        **{names[part]: norm[part] for part in NORM},
        "head.weight": drawn(classes, width, seed=2, scale=0.1),
        "head.bias": np.zeros(classes, np.float32),
    }
    shape = [batch, channels, side, side]
    return network(nodes, weights, {"x": (FLOAT, shape)}, {"y": [batch, classes]})


NORM = {"weight": 1.0, "bias": 0.0, "running_mean": 0.0, "running_var": 1.0}


def keras_like(classes: int = 3) -> bytes:
    """As tf2onnx writes it: channels last, unnamed sizes, `:0` in names, a Softmax at the end, operator set 15."""
    nodes = [
        node("Transpose", ["input_1"], "in", perm=[0, 3, 1, 2]),
        node("Conv", ["in", "conv2d/kernel:0", "conv2d/bias:0"], "a", kernel_shape=[3, 3], strides=[1, 1]),
        node("Relu", ["a"], "b"),
        node("Transpose", ["b"], "back", perm=[0, 2, 3, 1]),
        node("Reshape", ["back", "const_fold_opt__9"], "flat"),
        node("MatMul", ["flat", "dense/kernel:0"], "m"),
        node("Add", ["m", "dense/bias:0"], "z"),
        node("Softmax", ["z"], "dense", axis=-1),
    ]
    weights = {
        "conv2d/kernel:0": drawn(3, 1, 3, 3),
        "conv2d/bias:0": np.zeros(3, np.float32),
        "const_fold_opt__9": np.array([-1, 108], np.int64),
        "dense/kernel:0": drawn(108, classes, seed=1, scale=0.1),
        "dense/bias:0": np.zeros(classes, np.float32),
    }
    shape = [None, 8, 8, 1]
    return network(nodes, weights, {"input_1": (FLOAT, shape)}, {"dense": [None, classes]}, opset=15, ir_version=8)


def dense(
    inputs: int = 4, outputs: int = 3, hidden: int = 6, end: str | None = None, name: str = "x", **fields: Any
) -> bytes:
    """Two layers on a matrix of floats, and perhaps an activation at the end."""
    nodes = [
        node("Gemm", [name, "first.weight", "first.bias"], "a", transB=1),
        node("Relu", ["a"], "b"),
        node("Gemm", ["b", "last.weight", "last.bias"], "y" if end is None else "z", transB=1),
    ]
    nodes += [node(end, ["z"], "y")] if end else []
    weights = {
        "first.weight": drawn(hidden, inputs),
        "first.bias": drawn(hidden, seed=1),
        "last.weight": drawn(outputs, hidden, seed=2),
        "last.bias": np.zeros(outputs, np.float32),
    }
    return network(nodes, weights, {name: (FLOAT, ["N", inputs])}, {"y": ["N", outputs]}, **fields)


def with_node(extra: Sequence[NodeProto], weights: Arrays | None = None, classes: int = 3, **fields: Any) -> bytes:
    """h = first layer of x [N, 4] -> what `extra` makes of it, `t` [N, 6] -> the answer."""
    nodes = [
        node("Gemm", ["x", "first.weight", "first.bias"], "h", transB=1),
        *extra,
        node("Gemm", ["t", "last.weight", "last.bias"], "y", transB=1),
    ]
    own = {
        "first.weight": drawn(6, 4),
        "first.bias": drawn(6, seed=1),
        "last.weight": drawn(classes, 6, seed=2),
        "last.bias": np.zeros(classes, np.float32),
    }
    return network(nodes, {**own, **(weights or {})}, {"x": (FLOAT, ["N", 4])}, {"y": ["N", classes]}, **fields)


def bag_of_words(length: int = 12, words: int = 20, classes: int = 3) -> bytes:
    """Token ids to the mean of their embeddings, and a layer."""
    nodes = [
        node("Gather", ["table", "ids"], "e"),
        constant("axis", [1]),
        node("ReduceMean", ["e", "axis"], "m", keepdims=0),
        node("Gemm", ["m", "head.weight", "head.bias"], "y", transB=1),
    ]
    weights = {"table": drawn(words, 5), "head.weight": drawn(classes, 5, seed=1), "head.bias": drawn(classes, seed=2)}
    return network(nodes, weights, {"ids": (INT64, ["N", length])}, {"y": ["N", classes]})


def recurrent(steps: int = 12, columns: int = 2, classes: int = 3) -> bytes:
    """An LSTM over a window, batch first, and a layer on its last state."""
    nodes = [
        node("Transpose", ["x"], "t", perm=[1, 0, 2]),
        node("LSTM", ["t", "w", "r", "b"], ["s", "last", ""], hidden_size=5),
        constant("first", [0]),
        node("Squeeze", ["last", "first"], "h"),
        node("Gemm", ["h", "head.weight", "head.bias"], "y", transB=1),
    ]
    weights = {
        "w": drawn(1, 20, columns),
        "r": drawn(1, 20, 5, seed=1),
        "b": drawn(1, 40, seed=2),
        "head.weight": drawn(classes, 5, seed=3),
        "head.bias": np.zeros(classes, np.float32),
    }
    return network(nodes, weights, {"x": (FLOAT, ["batch", steps, columns])}, {"y": ["batch", classes]})


def by_parts(numbers: int = 3, categories: int = 2) -> bytes:
    """A table's numbers and categories by their names, the first category embedded."""
    nodes = [
        constant("zero", np.int64(0)),
        node("Gather", ["categories", "zero"], "code", axis=1),
        node("Gather", ["table", "code"], "e"),
        node("Concat", ["numbers", "e"], "all", axis=1),
        node("Gemm", ["all", "head.weight", "head.bias"], "y", transB=1),
    ]
    weights = {"table": drawn(9, 4), "head.weight": drawn(3, numbers + 4, seed=1), "head.bias": drawn(3, seed=2)}
    inputs = {"numbers": (FLOAT, ["N", numbers]), "categories": (INT64, ["N", categories])}
    return network(nodes, weights, inputs, {"y": ["N", 3]})
