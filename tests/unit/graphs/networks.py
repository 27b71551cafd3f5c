"""Signatures and batches of small networks."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime

from shoal_core.graphs.forward import ForwardGraph
from shoal_core.graphs.recipes import build_forward
from shoal_core.graphs.signature import (
    Anomaly,
    CategoriesInput,
    Classification,
    ImageInput,
    Multilabel,
    NetworkSignature,
    NumbersInput,
    Regression,
    SequenceInput,
    TokenColumn,
    TokensInput,
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
TEXTS = NetworkSignature(tokens=TokensInput(columns=(TokenColumn(length=9, cardinality=12),)), task=CLASSES)
SEQUENCES = NetworkSignature(
    sequence=SequenceInput(
        steps=10, mean=(1.0, -2.0), std=(2.0, 0.5), missing=(True, False), fill=(4.0, None), bounds=((-2.0, 3.0), None)
    ),
    task=CLASSES,
)
EVENTS = NetworkSignature(sequence=SequenceInput(steps=6, cardinalities=(4,)), task=CLASSES)
SERIES = NetworkSignature(
    sequence=SequenceInput(steps=10, mean=(1.0, -2.0), std=(2.0, 0.5), missing=(True, False), cardinalities=(3, 30)),
    task=REGRESSION.task,
)
MIXED = NetworkSignature(
    numbers=NumbersInput(
        mean=(1.0, -2.0), std=(2.0, 0.5), missing=(True, True), fill=(2.5, None), bounds=(None, (-2.5, -1.0))
    ),
    categories=CategoriesInput(cardinalities=(3, 30)),
    tokens=TokensInput(columns=(TokenColumn(length=8, cardinality=12), TokenColumn(length=3, cardinality=7))),
    task=Multilabel(classes=4),
)
STRANGE = {
    kind: of.model_copy(update={"task": Anomaly()})
    for kind, of in {
        "image": IMAGES,
        "table": TABLE,
        "numbers": REGRESSION,
        "sequence": SEQUENCES,
        "series": SERIES,
        "events": EVENTS,
    }.items()
}
SMALL: dict[str, dict[str, Any]] = {
    "autoencoder": {"code": 2, "channels": [3, 4], "hidden": [5, 4], "units": 3},
    "cnn": {"channels": [3, 4], "hidden": 5},
    "crnn": {"channels": [3, 4], "kernel": 3, "units": 3, "width": 4},
    "fasttext": {"width": 4, "pairs": 11, "hidden": [5]},
    "linear": {"text_width": 3},
    "mlp": {"hidden": [5, 4], "text_width": 4},
    "rnn": {"units": 3, "directions": 2, "pooling": "max", "width": 4},
    "text-cnn": {"channels": 3, "kernels": [1, 2, 3], "width": 4, "hidden": [5]},
    "transformer": {"width": 4, "heads": 2, "layers": 1, "feedforward": 5},
    "resnet": {"channels": [3, 4]},
    "vgg": {"channels": [3, 4], "convolutions": 1, "hidden": 5},
}
# Recipe and signature of every kind of network.
_NAMED = {
    "cnn-image": ("cnn", IMAGES),
    "mlp-image": ("mlp", IMAGES),
    **{f"autoencoder-{kind}": ("autoencoder", signature) for kind, signature in STRANGE.items()},
    "mlp-table": ("mlp", TABLE),
    "mlp-regression": ("mlp", REGRESSION),
    "linear-image": ("linear", IMAGES),
    "linear-table": ("linear", TABLE),
    "linear-regression": ("linear", REGRESSION),
    "resnet-image": ("resnet", IMAGES),
    "vgg-image": ("vgg", IMAGES),
    "crnn-image": ("crnn", IMAGES),
    **{
        f"{recipe}-{kind}": (recipe, signature)
        for kind, signature in {"text": TEXTS, "mixed": MIXED}.items()
        for recipe in ("crnn", "fasttext", "linear", "mlp", "rnn", "text-cnn", "transformer")
    },
    **{
        f"{recipe}-{kind}": (recipe, signature)
        for kind, signature in {"sequence": SEQUENCES, "series": SERIES, "events": EVENTS}.items()
        for recipe in ("crnn", "linear", "mlp", "rnn", "transformer")
    },
}
NETWORKS = list(_NAMED.values())
NETWORK_IDS = list(_NAMED)


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
    if signature.tokens is not None:
        tensors["tokens"] = tokens(signature.tokens, samples, random)
    if signature.sequence is not None and signature.sequence.cardinalities:
        limits = signature.sequence.cardinalities
        codes = random.integers(0, limits, (samples, signature.sequence.steps, len(limits)))
        codes[-1, 0], codes[-1, 1] = -5, 1000
        tensors["categories"] = codes
    if signature.sequence is not None and signature.sequence.mean:
        mean, std = np.asarray(signature.sequence.mean), np.asarray(signature.sequence.std)
        values = mean + std * random.normal(size=(samples, signature.sequence.steps, len(mean)))
        values[0, 1::3, [index for index, happens in enumerate(signature.sequence.missing) if happens]] = np.nan
        tensors["sequence"] = values.astype(np.float32)
    if isinstance(signature.task, Classification):
        tensors["target"] = random.integers(0, signature.task.classes, samples)
    elif isinstance(signature.task, Multilabel):
        tensors["target"] = random.integers(0, 2, (samples, signature.task.classes)).astype(np.float32)
    elif isinstance(signature.task, Anomaly):
        tensors["target"] = np.arange(samples) % 3 // 2
    else:
        tensors["target"] = random.normal(50, 10, samples).astype(np.float32)
    return tensors


def tokens(columns: TokensInput, samples: int, random: np.random.Generator) -> np.ndarray:
    """Texts of any length, the first one empty, with ids that training didn't know."""
    parts = []
    for column in columns.columns:
        ids = random.integers(1, column.cardinality + 2, (samples, column.length))
        lengths = random.integers(0, column.length + 1, samples)
        lengths[0] = 0
        parts.append(np.where(np.arange(column.length) < lengths[:, None], ids, 0))
    return np.concatenate(parts, axis=1).astype(np.int32)


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
