"""Small pretrained networks for tests: what somebody could import as a backbone."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from shoal_core.data.backbones import Backbone
from shoal_core.importing.backbones import prepare_backbone
from shoal_core.importing.describing import ModelDescription
from shoal_core.importing.limits import Limits
from shoal_core.importing.trial import try_model
from shoal_core.importing.verifying import VerifiedModel
from shoal_core.keys import ModelKeys
from tests.support.stores import MemoryStore

SIDE = 12
VOCABULARY = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "good", "bad", "film", "a", "the", "##s", "fine", "poor")


def onnx_file(
    nodes: Sequence[NodeProto],
    inputs: Sequence[ValueInfoProto],
    outputs: Sequence[ValueInfoProto],
    constants: dict[str, NDArray[Any]],
    opset: int = 20,
) -> bytes:
    tensors = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "pretrained", inputs, outputs, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


def image_network(
    opset: int = 20, channels: int = 3, classes: int = 7, batch: int | str = "n", activation: str = "Relu"
) -> bytes:
    """Convolution, normalisation, a residual block, pooling, a last layer: x [n, channels, 12, 12] -> probabilities."""
    random = np.random.default_rng(5)

    def kernel(*shape: int) -> NDArray[np.float32]:
        return (random.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)

    constants: dict[str, NDArray[Any]] = {
        "stem": kernel(6, channels, 3, 3),
        "stem.scale": random.uniform(0.5, 1.5, 6).astype(np.float32),
        "stem.bias": random.standard_normal(6).astype(np.float32),
        "stem.mean": random.standard_normal(6).astype(np.float32),
        "stem.variance": random.uniform(0.5, 1.5, 6).astype(np.float32),
        "inner": kernel(6, 6, 3, 3),
        "inner.bias": random.standard_normal(6).astype(np.float32),
        "outer": kernel(6, 6, 3, 3),
        "wide": kernel(10, 6, 1, 1),
        "last": kernel(classes, 10),
        "last.bias": random.standard_normal(classes).astype(np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["x", "stem"], ["a"], pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node(
            "BatchNormalization", ["a", *(f"stem.{k}" for k in ("scale", "bias", "mean", "variance"))], ["b"]
        ),
        helper.make_node("Relu", ["b"], ["c"]),
        helper.make_node("Conv", ["c", "inner", "inner.bias"], ["d"], pads=[1, 1, 1, 1]),
        helper.make_node(activation, ["d"], ["e"]),
        helper.make_node("Conv", ["e", "outer"], ["f"], pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["f", "c"], ["g"]),
        helper.make_node("Conv", ["g", "wide"], ["h"]),
        helper.make_node("Relu", ["h"], ["i"]),
        helper.make_node("GlobalAveragePool", ["i"], ["j"]),
        helper.make_node("Flatten", ["j"], ["k"]),
        helper.make_node("Gemm", ["k", "last", "last.bias"], ["l"], transB=1),
        helper.make_node("Softmax", ["l"], ["y"]),
    ]
    side = helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, channels, SIDE, SIDE])
    return onnx_file(
        nodes, [side], [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, classes])], constants, opset
    )


def text_network(width: int = 5, seed: int = 3) -> bytes:
    """Embeddings, a layer over each token and its sum with them: ids, mask [n, length] -> states [n, length, width]."""
    random = np.random.default_rng(seed)
    constants: dict[str, NDArray[Any]] = {
        "table": random.standard_normal((len(VOCABULARY), width)).astype(np.float32),
        "inner": random.standard_normal((width, width)).astype(np.float32),
        "bias": random.standard_normal(width).astype(np.float32),
        "last": np.array([2], np.int64),
    }
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["a"]),
        helper.make_node("Cast", ["attention_mask"], ["m"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["m", "last"], ["w"]),
        helper.make_node("MatMul", ["a", "inner"], ["b"]),
        helper.make_node("Add", ["b", "bias"], ["c"]),
        helper.make_node("Tanh", ["c"], ["d"]),
        helper.make_node("Mul", ["d", "w"], ["e"]),
        helper.make_node("Add", ["e", "a"], ["y"]),
    ]
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["n", "t"]) for name in ("input_ids", "attention_mask")
    ]
    return onnx_file(
        nodes, inputs, [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", "t", width])], constants
    )


def bring(store: MemoryStore, name: str, data: bytes, fields: dict[str, Any], version: int = 1) -> Backbone:
    """Register a backbone as importing does, without the process of its own around the trial."""
    description = ModelDescription.model_validate({"backbone": True, **fields})
    found = try_model(data, description.sample, Limits(), description.hints)
    digest = hashlib.sha256(data).hexdigest()
    verified = VerifiedModel.model_validate({"digest": digest, "bytes": len(data), **found})
    prepared = prepare_backbone(data, verified, description)
    backbone = prepared.named(name, version)
    store.write(ModelKeys(name, version).onnx, prepared.model)
    store.write(ModelKeys(name, version).backbone, backbone.encode())
    return backbone
