"""Small real models for pipelines: a mask of what is bright, a classifier of grey images, an encoder of pieces."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from shoal_core.data.spec import ImageInput, PreprocessingSpec, TargetSpec
from shoal_core.keys import ModelKeys
from shoal_core.registry.routing import Aliases
from shoal_core.serving.sessions import ModelCache
from tests.support.stores import MemoryStore

TENSORS = PreprocessingSpec(kind="tensors", target=TargetSpec(task="regression"))
SIDE = 4


class Catalog:
    """Every model's newest version is in production."""

    def __init__(self) -> None:
        self.production: dict[str, int] = {}

    def aliases(self, model: str) -> Aliases:
        return Aliases(self.production[model])


def model(nodes, inputs, outputs, constants) -> bytes:
    initializers = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "g", inputs, outputs, initializers)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(made)
    return made.SerializeToString()


def mask_model() -> bytes:
    """float [1, 3, 8, 8] -> the mean over channels [1, 1, 8, 8]; one sample at a time, as many exports have it."""
    return model(
        [helper.make_node("ReduceMean", ["x", "axes"], ["mask"], keepdims=1)],
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("mask", TensorProto.FLOAT, [1, 1, 8, 8])],
        {"axes": np.array([1])},
    )


def halves_model() -> bytes:
    """uint8 [N, 1, 4, 4] -> how bright the left and the right half are, as shares [N, 2]."""
    halves = np.zeros((SIDE * SIDE, 2), np.float32)
    for place in range(SIDE * SIDE):
        halves[place, int(place % SIDE >= SIDE // 2)] = 1
    return model(
        [
            helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
            helper.make_node("Reshape", ["pixels", "flat"], ["rows"]),
            helper.make_node("MatMul", ["rows", "halves"], ["sums"]),
            helper.make_node("Softmax", ["sums"], ["probabilities"], axis=1),
        ],
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", 1, SIDE, SIDE])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 2])],
        {"flat": np.array([-1, SIDE * SIDE]), "halves": halves},
    )


def encoder_model(pieces: int) -> bytes:
    """input_ids, attention_mask int64 [N, L] -> a one-hot vector for each piece [N, L, pieces]."""
    return model(
        [
            helper.make_node("Gather", ["table", "input_ids"], ["vectors"]),
            helper.make_node("Identity", ["attention_mask"], ["seen"]),
        ],
        [
            helper.make_tensor_value_info(name, TensorProto.INT64, ["n", "l"])
            for name in ("input_ids", "attention_mask")
        ],
        [
            helper.make_tensor_value_info("vectors", TensorProto.FLOAT, ["n", "l", pieces]),
            helper.make_tensor_value_info("seen", TensorProto.INT64, ["n", "l"]),
        ],
        {"table": np.eye(pieces, dtype=np.float32)},
    )


def picky_model() -> bytes:
    """numbers float [N, 4] -> a value [N] that is looked up by the first number: only 0 to 3 are there."""
    return model(
        [
            helper.make_node("Gather", ["numbers", "first"], ["column"], axis=1),
            helper.make_node("Cast", ["column"], ["index"], to=TensorProto.INT64),
            helper.make_node("Gather", ["table", "index"], ["value"]),
        ],
        [helper.make_tensor_value_info("numbers", TensorProto.FLOAT, ["batch", 4])],
        [helper.make_tensor_value_info("value", TensorProto.FLOAT, ["batch"])],
        {"first": np.array(0), "table": np.array([10, 11, 12, 13], np.float32)},
    )


def halves_spec() -> PreprocessingSpec:
    image = ImageInput(height=SIDE, width=SIDE, channels=1)
    target = TargetSpec(task="classification", classes=("left", "right"))
    return PreprocessingSpec(kind="image", image=image, target=target)


class Shelf:
    """A store of models, and the cache that serves them."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.catalog = Catalog()
        self.models = ModelCache(self.store, self.catalog, 1769)

    def put(self, name: str, data: bytes, spec: PreprocessingSpec = TENSORS) -> int:
        version = self.catalog.production.get(name, 0) + 1
        self.store.write(ModelKeys(name, version).onnx, data)
        self.store.write(ModelKeys(name, version).spec, spec.encode())
        self.catalog.production[name] = version
        return version
