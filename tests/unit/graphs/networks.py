"""Signatures and batches of small networks."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime

from shoal_core.graphs.forward import ForwardGraph
from shoal_core.graphs.recipes import build_forward
from shoal_core.graphs.signature import (
    CategoriesInput,
    Classification,
    ImageInput,
    NetworkSignature,
    NumbersInput,
    Regression,
)

CLASSES = Classification(classes=3)
IMAGES = NetworkSignature(
    image=ImageInput(shape=(2, 8, 9), mean=(100.0, 120.0), std=(60.0, 70.0)),
    task=CLASSES,
)
TABLE = NetworkSignature(
    numbers=NumbersInput(mean=(1.0, -2.0, 5.0), std=(2.0, 0.5, 0.0), missing=(True, False, True)),
    categories=CategoriesInput(cardinalities=(3, 30)),
    task=CLASSES,
)
REGRESSION = NetworkSignature(
    numbers=NumbersInput(mean=(1.0, -2.0), std=(2.0, 0.5), missing=(False, False)),
    task=Regression(mean=50.0, std=10.0),
)
SMALL: dict[str, dict[str, Any]] = {
    "cnn": {"channels": [3, 4], "hidden": 5},
    "linear": {},
    "mlp": {"hidden": [5, 4]},
    "resnet": {"channels": [3, 4]},
    "vgg": {"channels": [3, 4], "convolutions": 1, "hidden": 5},
}
# Recipe and signature of every kind of network.
NETWORKS = [
    ("cnn", IMAGES),
    ("mlp", IMAGES),
    ("mlp", TABLE),
    ("mlp", REGRESSION),
    ("linear", IMAGES),
    ("linear", TABLE),
    ("linear", REGRESSION),
    ("resnet", IMAGES),
    ("vgg", IMAGES),
]
NETWORK_IDS = [
    f"{recipe}-{kind}"
    for recipe, kind in zip(
        ["cnn", "mlp", "mlp", "mlp", "linear", "linear", "linear", "resnet", "vgg"],
        ["image", "image", "table", "regression", "image", "table", "regression", "image", "image"],
        strict=True,
    )
]


def small(recipe: str, signature: NetworkSignature, seed: int = 0) -> ForwardGraph:
    return build_forward(recipe, SMALL[recipe], signature, seed)


def batch(signature: NetworkSignature, samples: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Data tensors and `target`, with missing numbers and unknown codes."""
    random = np.random.default_rng(seed)
    tensors: dict[str, np.ndarray] = {}
    if signature.image is not None:
        tensors["image"] = random.integers(0, 256, (samples, *signature.image.shape)).astype(np.uint8)
    if signature.numbers is not None:
        mean, std = np.asarray(signature.numbers.mean), np.asarray(signature.numbers.std)
        numbers = mean + std * random.normal(size=(samples, len(mean)))
        numbers[0, [index for index, happens in enumerate(signature.numbers.missing) if happens]] = np.nan
        tensors["numbers"] = numbers.astype(np.float32)
    if signature.categories is not None:
        limits = signature.categories.cardinalities
        codes = random.integers(0, limits, (samples, len(limits)))
        codes[-1] = [-5, 1000]
        tensors["categories"] = codes
    if isinstance(signature.task, Classification):
        tensors["target"] = random.integers(0, signature.task.classes, samples)
    else:
        tensors["target"] = random.normal(50, 10, samples).astype(np.float32)
    return tensors


def prefixed(forward: ForwardGraph) -> dict[str, np.ndarray]:
    parameters = {f"param.{name}": value for name, value in forward.initial.items()}
    return parameters | {f"buffer.{name}": value for name, value in forward.buffers.items()}


def load(model: onnx.ModelProto | bytes) -> onnxruntime.InferenceSession:
    data = model if isinstance(model, bytes) else model.SerializeToString()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(data, options)


def run(session: onnxruntime.InferenceSession, feeds: dict[str, Any]) -> dict[str, np.ndarray]:
    names = [output.name for output in session.get_outputs()]
    wanted = {value.name: np.asarray(feeds[value.name]) for value in session.get_inputs()}
    return dict(zip(names, session.run(names, wanted), strict=True))
