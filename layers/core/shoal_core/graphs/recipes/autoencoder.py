"""Recipe `autoencoder`: what can't be rebuilt from a narrow code is unusual. For images, tables and sequences.

The network answers a score for each sample: the mean, over its values, of how far each was missed. Standardised numbers
and pixels count by their squared error, categories by their cross-entropy over the logarithm of how many there are. So
a network that always answers the training data's means, or knows nothing of a category, scores about 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from shoal_core.errors import BadConfig
from shoal_core.frozen import Frozen
from shoal_core.graphs.forward import BATCH, SCORE, ForwardGraph
from shoal_core.graphs.recipes.inputs import (
    category_code,
    category_codes,
    code_features,
    image_features,
    number_features,
    one_hot,
    require_image,
    sequence_numbers,
)
from shoal_core.graphs.recipes.network import Network
from shoal_core.graphs.signature import NetworkSignature, SequenceInput

_WIDEST = 10.0
"""Standard deviations beyond which a number isn't told apart: one wild value must not decide what is learnt."""
_KERNEL = 3
_DOUBLING_KERNEL = 4
_LEAST_SIDE = 4
_CHANNELS = (16, 32, 64, 128, 128, 128, 128)
_Sizes = Annotated[tuple[Annotated[int, Field(ge=1, le=8192)], ...], Field(min_length=1, max_length=9)]


class AutoencoderConfig(Frozen):
    """Capacity of the network.

    Attributes:
        code: Numbers that a sample has to be rebuilt from.
        channels: Images: of each convolution on the way to the code, which halves the sides; the way back has the same.
        hidden: Tables: units of the layers on the way to the code; the way back has the same.
        units: Sequences: of the recurrent layer before the code, and of the one behind it.
        cell: Sequences: LSTM or GRU.
        embedding_above: Columns with more categories than this get an embedding instead of one-hot.
    """

    code: Annotated[int, Field(ge=1, le=8192)] = 8
    channels: _Sizes = (16, 32)
    hidden: _Sizes = (64, 32)
    units: Annotated[int, Field(ge=1, le=2048)] = 32
    cell: Literal["lstm", "gru"] = "gru"
    embedding_above: Annotated[int, Field(ge=1)] = 16


def build(config: AutoencoderConfig, signature: NetworkSignature, seed: int) -> ForwardGraph:
    """The way to the code, the way back, and what was missed: `score` [N, 1].

    Raises:
        BadConfig: if the input has texts, or is an image below 4x4.
    """
    network = Network(seed)
    if signature.tokens is not None:
        raise BadConfig("Recipe 'autoencoder' can't rebuild texts.", "Set the type of their columns to ignore.")
    if signature.sequence is not None:
        score = _of_sequence(network, config, signature.sequence)
    elif signature.image is not None:
        score = _of_image(network, config, signature)
    else:
        score = _of_table(network, config, signature)
    return network.finish(score, SCORE)


def default_config(signature: NetworkSignature, samples: int) -> AutoencoderConfig:
    """A code that is much narrower than the input, and wider where many samples teach it."""
    if signature.image is not None:
        _, height, width = signature.image.shape
        blocks = max(1, math.ceil(math.log2(min(height, width) / _LEAST_SIDE)))
        return AutoencoderConfig(channels=_CHANNELS[:blocks], code=min(64, 16 + 8 * blocks))
    if signature.sequence is not None:
        columns = signature.sequence.columns + len(signature.sequence.cardinalities)
        return AutoencoderConfig(code=max(4, min(32, 2 * columns)), units=32 if samples < 20_000 else 64)
    columns = len(signature.numbers.mean) if signature.numbers else 0
    columns += len(signature.categories.cardinalities) if signature.categories else 0
    return AutoencoderConfig(code=max(1, min(32, columns // 2)), hidden=(64, 32) if samples < 20_000 else (128, 64))


def _of_image(network: Network, config: AutoencoderConfig, signature: NetworkSignature) -> str:
    """Convolutions of stride 2, the code, and transposed ones back to the image."""
    graph = network.graph
    pixels = x = image_features(network, require_image(signature, "autoencoder"))
    shapes = []
    for index, channels in enumerate(config.channels):
        shapes.append(graph.shape(x))
        x = network.relu(network.convolution(x, f"encoder{index}", channels, _KERNEL, stride=2))
    inner = graph.shape(x)
    flat = network.flatten(x)
    width = graph.shape(flat)[1]
    code = network.dense(flat, "code", config.code, init="glorot")
    x = graph.reshape(network.relu(network.dense(code, "decoder", int(width))), inner)
    for index in reversed(range(len(config.channels))):
        channels = config.channels[max(0, index - 1)]
        sizes = [int(size) for size in shapes[index][2:]]
        x = network.relu(network.transposed_convolution(x, f"decoder{index}", channels, _DOUBLING_KERNEL, sizes))
    rebuilt = network.convolution(x, "rebuilt", int(shapes[0][1]), _KERNEL)
    missed = graph.emit("Sub", rebuilt, pixels)
    squares = network.flatten(graph.emit("Mul", missed, missed))
    return graph.emit("ReduceMean", squares, graph.integers(1), keepdims=1)


def _of_table(network: Network, config: AutoencoderConfig, signature: NetworkSignature) -> str:
    """Fully connected layers to the code and back."""
    parts, numbers, codes = [], None, None
    cardinalities = signature.categories.cardinalities if signature.categories else ()
    if signature.numbers is not None:
        standardised, *indicators = number_features(network, signature.numbers)
        numbers = _bounded(network, standardised)
        parts += [numbers, *indicators]
    if cardinalities:
        codes = category_codes(network, cardinalities)
        parts += code_features(network, codes, cardinalities, config.embedding_above)
    x = parts[0] if len(parts) == 1 else network.graph.emit("Concat", *parts, axis=1)
    for index, units in enumerate(config.hidden):
        x = network.relu(network.dense(x, f"encoder{index}", units))
    x = network.dense(x, "code", config.code, init="glorot")
    for index in reversed(range(len(config.hidden))):
        x = network.relu(network.dense(x, f"decoder{index}", config.hidden[index]))
    rebuilt = network.dense(x, "rebuilt", _width(network, numbers, cardinalities), init="glorot")
    return _missed(network, rebuilt, numbers, codes, cardinalities)


def _of_sequence(network: Network, config: AutoencoderConfig, sequence: SequenceInput) -> str:
    """A recurrent layer to the code, which a second one reads at every step."""
    graph = network.graph
    parts, numbers, codes = [], None, None
    if sequence.columns:
        standardised, *indicators = sequence_numbers(network, sequence)
        numbers = _bounded(network, standardised)
        parts += [numbers, *indicators]
    if sequence.cardinalities:
        codes = category_codes(network, sequence.cardinalities, (sequence.steps,))
        parts += code_features(network, codes, sequence.cardinalities, config.embedding_above)
    x = parts[0] if len(parts) == 1 else graph.emit("Concat", *parts, axis=2)
    read = network.recurrence(graph.emit("Transpose", x, perm=[1, 0, 2]), "encoder", config.cell, config.units)
    code = network.dense(read.last, "code", config.code, init="glorot")
    row = graph.emit("Unsqueeze", code, graph.integers(0))
    repeated = graph.emit("Tile", row, graph.integers(sequence.steps, 1, 1))
    repeated = graph.refine(repeated, (sequence.steps, BATCH, config.code))
    told = network.recurrence(repeated, "decoder", config.cell, config.units)
    x = graph.emit("Transpose", told.states, perm=[1, 0, 2])
    rebuilt = network.per_step(x, "rebuilt", _width(network, numbers, sequence.cardinalities), init="glorot")
    return _missed(network, rebuilt, numbers, codes, sequence.cardinalities)


def _bounded(network: Network, numbers: str) -> str:
    graph = network.graph
    above = graph.emit("Max", numbers, graph.scalar(-_WIDEST, numbers))
    return graph.emit("Min", above, graph.scalar(_WIDEST, numbers))


def _width(network: Network, numbers: str | None, cardinalities: Sequence[int]) -> int:
    """What rebuilds a row: a number for each number, and one for each value of a category."""
    columns = int(network.graph.shape(numbers)[-1]) if numbers is not None else 0
    return columns + sum(cardinalities)


def _missed(
    network: Network, rebuilt: str, numbers: str | None, codes: str | None, cardinalities: Sequence[int]
) -> str:
    """The mean over all values of a sample of how far each was missed: [N, 1]."""
    graph = network.graph
    last = graph.rank(rebuilt) - 1
    parts = []
    start = 0
    if numbers is not None:
        start = int(graph.shape(numbers)[last])
        difference = graph.emit("Sub", _columns(network, rebuilt, 0, start), numbers)
        parts.append(graph.emit("Mul", difference, difference))
    for column, cardinality in enumerate(cardinalities):
        logits = _columns(network, rebuilt, start, start + cardinality)
        start += cardinality
        if codes is None or cardinality < 2:
            continue
        truth = one_hot(network, category_code(network, codes, column), cardinality)
        hits = graph.emit("Mul", graph.emit("LogSoftmax", logits, axis=-1), truth)
        told = graph.emit("ReduceSum", hits, graph.integers(last), keepdims=1)
        parts.append(graph.emit("Mul", told, graph.scalar(-1 / math.log(cardinality), told)))
    values = parts[0] if len(parts) == 1 else graph.emit("Concat", *parts, axis=last)
    return graph.emit("ReduceMean", network.flatten(values), graph.integers(1), keepdims=1)


def _columns(network: Network, x: str, start: int, end: int) -> str:
    """Columns of the last axis."""
    graph = network.graph
    axis = graph.rank(x) - 1
    if (start, end) == (0, graph.shape(x)[axis]):
        return x
    return graph.emit("Slice", x, graph.integers(start), graph.integers(end), graph.integers(axis))
