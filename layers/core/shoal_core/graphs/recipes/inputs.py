"""From raw tensors to features, inside the graph: training and serving can't disagree about it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from onnx import TensorProto

from shoal_core.errors import BadConfig
from shoal_core.graphs.forward import BATCH
from shoal_core.graphs.recipes.network import Network
from shoal_core.graphs.signature import MIN_IMAGE_SIDE, CategoriesInput, ImageInput, NetworkSignature, NumbersInput

IMAGE = "image"
NUMBERS = "numbers"
CATEGORIES = "categories"


def image_features(network: Network, image: ImageInput) -> str:
    """`image` uint8 [N, C, H, W], standardised by channel: float32 of the same shape."""
    graph = network.graph
    raw = graph.input(IMAGE, TensorProto.UINT8, (BATCH, *image.shape))
    pixels = graph.emit("Cast", raw, to=TensorProto.FLOAT)
    centred = graph.emit("Sub", pixels, graph.constant(_row(image.mean).reshape(-1, 1, 1)))
    return graph.emit("Mul", centred, graph.constant(_scale(image.std).reshape(-1, 1, 1)))


def require_image(signature: NetworkSignature, recipe: str) -> ImageInput:
    """The image that a recipe of convolutions works on.

    Raises:
        BadConfig: if the input isn't an image of at least 4x4.
    """
    if signature.image is None or min(signature.image.shape[1:]) < MIN_IMAGE_SIDE:
        side = MIN_IMAGE_SIDE
        raise BadConfig(f"Recipe {recipe!r} needs images of at least {side}x{side} pixels.", "Use recipe 'mlp'.")
    return signature.image


def all_features(network: Network, signature: NetworkSignature, embedding_above: int) -> str:
    """Everything that a network sees, side by side: float32 [N, width]."""
    features = []
    if signature.image is not None:
        features.append(network.flatten(image_features(network, signature.image)))
    if signature.numbers is not None:
        features += number_features(network, signature.numbers)
    if signature.categories is not None:
        features += category_features(network, signature.categories, embedding_above)
    return joined(network, features)


def number_features(network: Network, numbers: NumbersInput) -> list[str]:
    """`numbers` float32 [N, F], standardised, missing ones 0, and 1 or 0 for missing in columns where that happened."""
    graph = network.graph
    raw = graph.input(NUMBERS, TensorProto.FLOAT, (BATCH, len(numbers.mean)))
    missing = graph.emit("IsNaN", raw)
    centred = graph.emit("Sub", raw, graph.constant(_row(numbers.mean)))
    standardised = graph.emit("Mul", centred, graph.constant(_scale(numbers.std)))
    features = [graph.emit("Where", missing, graph.scalar(0, standardised), standardised)]
    columns = [column for column, happened in enumerate(numbers.missing) if happened]
    if columns:
        indicators = graph.emit("Cast", missing, to=TensorProto.FLOAT)
        features.append(graph.emit("Gather", indicators, graph.integers(*columns), axis=1))
    return features


def category_features(network: Network, categories: CategoriesInput, embedding_above: int) -> list[str]:
    """`categories` int64 [N, K]: one-hot for each small column, a trainable embedding for each one above the bound.

    A code that training didn't know counts as 0, which means missing or unknown.
    """
    graph = network.graph
    raw = graph.input(CATEGORIES, TensorProto.INT64, (BATCH, len(categories.cardinalities)))
    limits = graph.constant(np.asarray(categories.cardinalities, dtype=np.int64))
    zero = graph.constant(np.asarray(0, dtype=np.int64))
    known = graph.emit("And", graph.emit("GreaterOrEqual", raw, zero), graph.emit("Less", raw, limits))
    codes = graph.emit("Where", known, raw, zero)
    features = []
    for column, cardinality in enumerate(categories.cardinalities):
        code = graph.emit("Gather", codes, graph.constant(np.asarray(column, dtype=np.int64)), axis=1)
        if cardinality > embedding_above:
            name = f"categories{column}"
            features.append(network.embedding(code, name, cardinality, embedding_width(cardinality)))
        else:
            depth = graph.constant(np.asarray(cardinality, dtype=np.int64))
            off_on = graph.constant(np.asarray([0, 1], dtype=np.float32))
            features.append(graph.emit("OneHot", code, depth, off_on, axis=-1))
    return features


def embedding_width(cardinality: int) -> int:
    """A width that grows slowly with the number of categories (fastai's rule of thumb)."""
    return min(64, round(1.6 * math.pow(cardinality, 0.56)))


def joined(network: Network, features: Sequence[str]) -> str:
    """Features side by side: float32 [N, width]."""
    return features[0] if len(features) == 1 else network.graph.emit("Concat", *features, axis=1)


def _row(values: Sequence[float]) -> np.ndarray:
    return np.asarray(values, dtype=np.float32)


def _scale(deviations: Sequence[float]) -> np.ndarray:
    """1 / std, where 0 (a constant column) counts as 1."""
    wide = np.asarray(deviations, dtype=np.float64)
    return (1 / np.where(wide > 0, wide, 1)).astype(np.float32)
