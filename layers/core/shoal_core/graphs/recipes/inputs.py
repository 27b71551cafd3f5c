"""From raw tensors to features, inside the graph: training and serving can't disagree about it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from onnx import TensorProto

from shoal_core.errors import BadConfig
from shoal_core.graphs.forward import BATCH
from shoal_core.graphs.recipes.network import Network
from shoal_core.graphs.signature import (
    MIN_IMAGE_SIDE,
    ImageInput,
    NetworkSignature,
    NumbersInput,
    SequenceInput,
    TokensInput,
)

IMAGE = "image"
NUMBERS = "numbers"
CATEGORIES = "categories"
TOKENS = "tokens"
SEQUENCE = "sequence"
UNKNOWN_TOKEN = 1
BagPooling = Literal["mean", "root"]
"""What a sum of tokens is divided by: their number, or its root, so that many tokens say more than few."""


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


@dataclass(frozen=True)
class Text:
    """One column of texts in a graph.

    Attributes:
        name: Of its parameters.
        ids: Token ids [N, length] that the table of embeddings has; 0 is padding.
        mask: float32 [N, length], 1 for a token and 0 for padding.
        cardinality: Number of ids.
        length: Tokens of a text at most.
    """

    name: str
    ids: str
    mask: str
    cardinality: int
    length: int


def all_features(network: Network, signature: NetworkSignature, embedding_above: int, text_width: int) -> str:
    """Everything that a network sees, side by side: float32 [N, width]. Texts as the mean of their embeddings.

    Args:
        network: The graph in the making.
        signature: What the network sees.
        embedding_above: See `category_features`.
        text_width: Width of a token's embedding.
    """
    features = []
    if signature.image is not None:
        features.append(network.flatten(image_features(network, signature.image)))
    if signature.sequence is not None:
        features.append(network.flatten(sequence_features(network, signature.sequence, embedding_above)))
    if signature.tokens is not None:
        features += [text_bag(network, text, text_width) for text in texts(network, signature.tokens)]
    return joined(network, [*features, *table_features(network, signature, embedding_above)])


def table_features(network: Network, signature: NetworkSignature, embedding_above: int) -> list[str]:
    """Numbers and categories of a table, [N, width] each; none where there are none."""
    features = []
    if signature.numbers is not None:
        features += number_features(network, signature.numbers)
    if signature.categories is not None:
        features += category_features(network, signature.categories.cardinalities, embedding_above)
    return features


def number_features(network: Network, numbers: NumbersInput) -> list[str]:
    """`numbers` float32 [N, F], filled, clipped and standardised, and 1 or 0 for missing where that happened."""
    raw = network.graph.input(NUMBERS, TensorProto.FLOAT, (BATCH, len(numbers.mean)))
    return _number_parts(network, raw, numbers)


def sequence_features(network: Network, sequence: SequenceInput, embedding_above: int) -> str:
    """What a window holds, step by step: float32 [N, T, F'].

    `sequence` float32 [N, T, F], filled, clipped and standardised, with 1 or 0 for missing behind; then `categories`
    int64 [N, T, K] as `category_features` has them.
    """
    parts = sequence_numbers(network, sequence)
    if sequence.cardinalities:
        parts += category_features(network, sequence.cardinalities, embedding_above, (sequence.steps,))
    return parts[0] if len(parts) == 1 else network.graph.emit("Concat", *parts, axis=2)


def sequence_numbers(network: Network, sequence: SequenceInput) -> list[str]:
    """`sequence` float32 [N, T, F] as `number_features` has a table's; nothing where it has no numbers."""
    if not sequence.columns:
        return []
    raw = network.graph.input(SEQUENCE, TensorProto.FLOAT, (BATCH, sequence.steps, sequence.columns))
    return _number_parts(network, raw, sequence)


def _number_parts(network: Network, raw: str, columns: NumbersInput | SequenceInput) -> list[str]:
    """What standardising makes of numbers whose last axis are columns, and the indicators of missing ones."""
    graph = network.graph
    missing = graph.emit("IsNaN", raw)
    low, high = _bounds(columns)
    bounded = raw
    if any(columns.bounds):
        bounded = graph.emit("Min", graph.emit("Max", raw, graph.constant(_row(low))), graph.constant(_row(high)))
    centred = graph.emit("Sub", bounded, graph.constant(_row(columns.mean)))
    standardised = graph.emit("Mul", centred, graph.constant(_scale(columns.std)))
    given = columns.fill or (None,) * len(columns.mean)
    fills = [mean if fill is None else fill for mean, fill in zip(columns.mean, given, strict=True)]
    filled = (np.clip(fills, low, high) - np.asarray(columns.mean)) * _scale(columns.std).astype(np.float64)
    parts = [graph.emit("Where", missing, graph.constant(_row(filled.tolist())), standardised)]
    indicated = [column for column, happened in enumerate(columns.missing) if happened]
    if indicated:
        indicators = graph.emit("Cast", missing, to=TensorProto.FLOAT)
        parts.append(graph.emit("Gather", indicators, graph.integers(*indicated), axis=graph.rank(raw) - 1))
    return parts


def category_features(
    network: Network, cardinalities: Sequence[int], embedding_above: int, steps: tuple[int, ...] = ()
) -> list[str]:
    """`categories` int64 [N, *steps, K]: one-hot for each small column, a trainable embedding above the bound."""
    return code_features(network, category_codes(network, cardinalities, steps), cardinalities, embedding_above)


def code_features(network: Network, codes: str, cardinalities: Sequence[int], embedding_above: int) -> list[str]:
    """Codes [..., K] column by column: one-hot up to the bound, a trainable embedding above it."""
    features = []
    for column, cardinality in enumerate(cardinalities):
        code = category_code(network, codes, column)
        if cardinality > embedding_above:
            name = f"categories{column}"
            features.append(network.embedding(code, name, cardinality, embedding_width(cardinality)))
        else:
            features.append(one_hot(network, code, cardinality))
    return features


def category_codes(network: Network, cardinalities: Sequence[int], steps: tuple[int, ...] = ()) -> str:
    """`categories` int64 [N, *steps, K]. A code that training didn't know counts as 0: missing or unknown."""
    graph = network.graph
    raw = graph.input(CATEGORIES, TensorProto.INT64, (BATCH, *steps, len(cardinalities)))
    limits = graph.constant(np.asarray(cardinalities, dtype=np.int64))
    zero = graph.constant(np.asarray(0, dtype=np.int64))
    known = graph.emit("And", graph.emit("GreaterOrEqual", raw, zero), graph.emit("Less", raw, limits))
    return graph.emit("Where", known, raw, zero)


def category_code(network: Network, codes: str, column: int) -> str:
    """One column of codes [..., K]: [...]."""
    graph = network.graph
    return graph.emit("Gather", codes, graph.constant(np.asarray(column, dtype=np.int64)), axis=graph.rank(codes) - 1)


def one_hot(network: Network, code: str, cardinality: int) -> str:
    """Codes [...] as rows of 0 and a 1: float32 [..., cardinality]."""
    graph = network.graph
    depth = graph.constant(np.asarray(cardinality, dtype=np.int64))
    return graph.emit("OneHot", code, depth, graph.constant(np.asarray([0, 1], dtype=np.float32)), axis=-1)


def texts(network: Network, tokens: TokensInput) -> list[Text]:
    """`tokens` int32 [N, L], cut into its columns. An id that training didn't know counts as 1, an unknown token."""
    graph = network.graph
    raw = graph.input(TOKENS, TensorProto.INT32, (BATCH, tokens.length))
    found = []
    for index, (column, offset) in enumerate(zip(tokens.columns, tokens.offsets, strict=True)):
        ids = raw
        if len(tokens.columns) > 1:
            end = graph.integers(offset + column.length)
            ids = graph.emit("Slice", raw, graph.integers(offset), end, graph.integers(1))
        zero, unknown, limit = (
            graph.constant(np.asarray(value, dtype=np.int32)) for value in (0, UNKNOWN_TOKEN, column.cardinality)
        )
        known = graph.emit("And", graph.emit("GreaterOrEqual", ids, zero), graph.emit("Less", ids, limit))
        ids = graph.emit("Where", known, ids, unknown)
        mask = graph.emit("Cast", graph.emit("Greater", ids, zero), to=TensorProto.FLOAT)
        found.append(Text(f"text{index}", ids, mask, column.cardinality, column.length))
    return found


def text_bag(network: Network, text: Text, width: int, pooling: BagPooling = "mean") -> str:
    """The embeddings of a text's tokens as one, padding left out: [N, width]; zeros for an empty text."""
    return bag(network, text.ids, text.mask, f"{text.name}.tokens", text.cardinality, width, pooling)


def bag(network: Network, ids: str, mask: str, name: str, rows: int, width: int, pooling: BagPooling = "mean") -> str:
    """The sum of trainable rows `ids` [N, L] where `mask` [N, L] is 1, over how many they are or the root of it.

    Returns:
        [N, width]; zeros where the mask nowhere is.
    """
    graph = network.graph
    axis = graph.integers(1)
    count = graph.emit("Max", graph.emit("ReduceSum", mask, axis), graph.scalar(1, mask))
    if pooling == "root":
        count = graph.emit("Sqrt", count)
    weights = graph.emit("Unsqueeze", graph.emit("Div", mask, count), axis)
    # Next to 0, so that a rare row that was hardly trained says little (as fastText has it).
    rows_of_ids = network.embedding(ids, name, rows, width, spread=1 / width)
    return graph.emit("Squeeze", graph.emit("MatMul", weights, rows_of_ids), axis)


def embedding_width(cardinality: int) -> int:
    """A width that grows slowly with the number of categories (fastai's rule of thumb)."""
    return min(64, round(1.6 * math.pow(cardinality, 0.56)))


def joined(network: Network, features: Sequence[str]) -> str:
    """Features side by side: float32 [N, width]."""
    return features[0] if len(features) == 1 else network.graph.emit("Concat", *features, axis=1)


def _row(values: Sequence[float]) -> np.ndarray:
    return np.asarray(values, dtype=np.float32)


def _bounds(columns: NumbersInput | SequenceInput) -> tuple[list[float], list[float]]:
    """What columns are clipped to; as far as float32 goes where they aren't."""
    most = float(np.finfo(np.float32).max)
    pairs = [pair or (-most, most) for pair in columns.bounds or (None,) * len(columns.mean)]
    return [low for low, _ in pairs], [high for _, high in pairs]


def _scale(deviations: Sequence[float]) -> np.ndarray:
    """1 / std, where 0 (a constant column) counts as 1."""
    wide = np.asarray(deviations, dtype=np.float64)
    return (1 / np.where(wide > 0, wide, 1)).astype(np.float32)
