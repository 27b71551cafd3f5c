"""Recipe `crnn`: convolution, then recurrence, over sequences, texts, and images read as lines from left to right."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from shoal_core.frozen import Frozen
from shoal_core.graphs.forward import ForwardGraph
from shoal_core.graphs.recipes.cnn import pooling as image_pooling
from shoal_core.graphs.recipes.inputs import image_features, joined, require_image, table_features
from shoal_core.graphs.recipes.network import Network
from shoal_core.graphs.recipes.steps import Pooling, Steps, all_steps, convolved, halved, recurrent
from shoal_core.graphs.shapes import product
from shoal_core.graphs.signature import NetworkSignature

# Steps are halved only while at least half of this stays.
_SMALLEST_HALVED = 8
_SMALL_SET = 2_000


class CrnnConfig(Frozen):
    """Capacity of the network.

    Attributes:
        channels: Of each convolution; each is followed by halving the steps, where enough are left.
        kernel: Steps (or pixels each way) that a convolution looks at.
        cell: LSTM or GRU.
        units: Of each direction.
        directions: From the first step to the last, or both ways.
        pooling: What is left of the steps: the last state of each direction, or the mean or maximum of all.
        width: Of a token's embedding.
        embedding_above: Columns with more categories than this get an embedding instead of one-hot.
    """

    channels: Annotated[tuple[Annotated[int, Field(ge=1, le=2048)], ...], Field(min_length=1, max_length=6)] = (32, 64)
    kernel: Annotated[int, Field(ge=1, le=31)] = 5
    cell: Literal["lstm", "gru"] = "gru"
    units: Annotated[int, Field(ge=1, le=2048)] = 64
    directions: Annotated[int, Field(ge=1, le=2)] = 2
    pooling: Pooling = "last"
    width: Annotated[int, Field(ge=1, le=1024)] = 64
    embedding_above: Annotated[int, Field(ge=1)] = 16


def build(config: CrnnConfig, signature: NetworkSignature, seed: int) -> ForwardGraph:
    """Convolutions with ReLU, halving the steps; a recurrent layer; what is left of its states; the answer.

    Raises:
        BadConfig: if there is no text, sequence or image of at least 4x4.
    """
    network = Network(seed)
    if signature.image is not None:
        sources = [_line(network, config, signature)]
    else:
        found = all_steps(network, signature, "crnn", config.width, config.embedding_above)
        sources = [_shortened(network, config, steps) for steps in found]
    both = config.directions == 2
    features = [
        recurrent(network, steps, config.cell, config.units, 1, both=both, pooling=config.pooling) for steps in sources
    ]
    features += table_features(network, signature, config.embedding_above)
    return network.answer(joined(network, features), signature)


def default_config(signature: NetworkSignature, samples: int) -> CrnnConfig:
    """Small kernels for images; fewer units for a small set."""
    small = samples < _SMALL_SET
    return CrnnConfig(
        channels=(16, 32) if small else (32, 64),
        kernel=3 if signature.image is not None else 5,
        units=32 if small else 64,
        pooling="max" if signature.tokens is not None else "last",
    )


def _shortened(network: Network, config: CrnnConfig, steps: Steps) -> Steps:
    for index, channels in enumerate(config.channels):
        steps = convolved(network, steps, f"{steps.name}.convolution{index}", channels, config.kernel)
        turns = int(network.graph.shape(steps.x)[1])
        # Of texts, whatever their length, so that longer padding changes no answer.
        if turns >= (_SMALLEST_HALVED if steps.mask is None else 2):
            steps = halved(network, steps)
    return steps


def _line(network: Network, config: CrnnConfig, signature: NetworkSignature) -> Steps:
    """An image as steps from left to right: a step holds all channels of all rows of a column."""
    graph = network.graph
    x = image_features(network, require_image(signature, "crnn"))
    for index, channels in enumerate(config.channels):
        x = network.relu(network.convolution(x, f"image.convolution{index}", channels, config.kernel))
        pool = image_pooling(graph.shape(x)[2:])
        if max(pool) > 1:
            x = graph.emit("MaxPool", x, kernel_shape=pool, strides=pool)
    batch, channels_, height, width = graph.shape(x)
    columns = graph.emit("Transpose", x, perm=[0, 3, 1, 2])
    return Steps("image", graph.reshape(columns, (batch, width, product((channels_, height)))), None)
