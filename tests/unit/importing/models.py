"""Small models as other frameworks export them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx.backend.test
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper

LIGHT = Path(onnx.backend.test.__file__).parent / "data/light"
LIGHT_MODELS = sorted(path for path in LIGHT.glob("light_*.onnx"))
SHAPE = (1, 3, 224, 224)


def light_input() -> NDArray[np.float32]:
    """What ONNX's own backend test feeds its light models with."""
    size = int(np.prod(SHAPE))
    return (np.arange(size).reshape(SHAPE) / size).astype(np.float32)


def light_output(path: Path) -> NDArray[np.float32]:
    """What ONNX's reference implementation answered, as the project ships it."""
    tensor = TensorProto()
    tensor.ParseFromString(path.with_name(f"{path.stem}_output_0.pb").read_bytes())
    return np.asarray(numpy_helper.to_array(tensor))


def model(
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    constants: dict[str, NDArray] | None = None,
    opset: int = 17,
    ml: bool = False,
) -> bytes:
    initializers = [numpy_helper.from_array(value, name) for name, value in (constants or {}).items()]
    graph = helper.make_graph(nodes, "g", inputs, outputs, initializers)
    opsets = [helper.make_opsetid("", opset), *([helper.make_opsetid("ai.onnx.ml", 3)] if ml else [])]
    made: ModelProto = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    return bytes(made.SerializeToString())


def value(name: str, shape: list[int | str], kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def color_means(channels_last: bool = False, batch: int | str = "N", size: int = 8) -> bytes:
    """The means of an image's channels, as logits."""
    shape = [batch, size, size, 3] if channels_last else [batch, 3, size, size]
    node = helper.make_node("ReduceMean", ["pixels"], ["probabilities"], axes=[1, 2] if channels_last else [2, 3])
    node.attribute.append(helper.make_attribute("keepdims", 0))
    return model([node], [value("pixels", shape)], [value("probabilities", [batch, 3])])


def column_means(channels_last: bool) -> bytes:
    """The brightness of each column of an image."""
    axes = [1, 3] if channels_last else [1, 2]
    node = helper.make_node("ReduceMean", ["pixels"], ["columns"], axes=axes, keepdims=0)
    shape: list[int | str] = ["N", 6, 8, 3] if channels_last else ["N", 3, 6, 8]
    return model([node], [value("pixels", shape)], [value("columns", ["N", 8])])


def linear_classifier() -> bytes:
    """As scikit-learn's converter writes one: a label, and probabilities."""
    nodes = [
        helper.make_node(
            "LinearClassifier",
            ["X"],
            ["label", "scores"],
            domain="ai.onnx.ml",
            coefficients=[1.0, 0.0, 0.0, 1.0, -1.0, -1.0],
            intercepts=[0.0, 0.0, 0.5],
            classlabels_ints=[0, 1, 2],
            post_transform="SOFTMAX",
        ),
        helper.make_node("Identity", ["scores"], ["probabilities"]),
    ]
    outputs = [value("label", ["N"], TensorProto.INT64), value("probabilities", ["N", 3])]
    return model(nodes, [value("X", ["N", 2])], outputs, ml=True)


def by_column() -> bytes:
    """A pipeline with one input per column, one of them of texts: the mass, more on one of two islands."""
    nodes = [
        helper.make_node(
            "LabelEncoder",
            ["island"],
            ["number"],
            domain="ai.onnx.ml",
            keys_strings=["Biscoe", "Dream"],
            values_floats=[100.0, 10.0],
            default_float=0.0,
        ),
        helper.make_node("Add", ["number", "mass"], ["sum"]),
    ]
    inputs = [value("island", ["N", 1], TensorProto.STRING), value("mass", ["N", 1])]
    return model(nodes, inputs, [value("sum", ["N", 1])], ml=True)


def one_probability() -> bytes:
    """A binary classifier with one number: the probability of the second class."""
    nodes = [
        helper.make_node("ReduceSum", ["x", "axes"], ["s"], keepdims=1),
        helper.make_node("Sigmoid", ["s"], ["p"]),
    ]
    return model(nodes, [value("x", ["N", 2])], [value("p", ["N", 1])], {"axes": np.array([1])})


def token_sum() -> bytes:
    """The sum of a text's ids."""
    nodes = [
        helper.make_node("Cast", ["ids"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["f", "axes"], ["s"], keepdims=1),
    ]
    ids = value("ids", ["N", 4], TensorProto.INT64)
    return model(nodes, [ids], [value("s", ["N", 1])], {"axes": np.array([1])})


def masked_sum() -> bytes:
    """Inputs as those of an encoder of the BERT family: the sum of the ids that aren't masked."""
    nodes = [
        helper.make_node("Mul", ["input_ids", "attention_mask"], ["m"]),
        helper.make_node("Add", ["m", "token_type_ids"], ["a"]),
        helper.make_node("Cast", ["a"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["f", "axes"], ["s"], keepdims=1),
    ]
    names = ("input_ids", "attention_mask", "token_type_ids")
    inputs = [value(name, ["N", "L"], TensorProto.INT64) for name in names]
    return model(nodes, inputs, [value("s", ["N", 1])], {"axes": np.array([1])})
