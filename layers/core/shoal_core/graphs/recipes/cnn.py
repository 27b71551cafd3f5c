"""Recipe `cnn`: convolutions and pooling, for images of any size from 4x4."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from shoal_core.frozen import Frozen
from shoal_core.graphs.forward import ForwardGraph
from shoal_core.graphs.recipes.inputs import image_features, require_image
from shoal_core.graphs.recipes.network import Network
from shoal_core.graphs.signature import MIN_IMAGE_SIDE, NetworkSignature

# An axis is halved only while at least half of this stays. Halving 8x8 digits twice costs 0.3 points of accuracy.
_SMALLEST_POOLED = 8
# Blocks are added until the feature map is at most this large.
_LARGEST_LAST_MAP = 7
_SMALL_IMAGE = 16
_MANY_SAMPLES = 100_000
_WIDTHS = (32, 64, 128, 128, 256, 256, 256)


class CnnConfig(Frozen):
    """Capacity of the network.

    Attributes:
        channels: Of each block.
        convolutions: How many follow each other in a block.
        kernel: Side of the convolutions' kernel.
        hidden: Units of the fully connected layer before the answer.
    """

    channels: Annotated[tuple[Annotated[int, Field(ge=1, le=2048)], ...], Field(min_length=1, max_length=9)] = (32, 64)
    convolutions: Annotated[int, Field(ge=1, le=8)] = 1
    kernel: Annotated[int, Field(ge=1, le=11)] = 3
    hidden: Annotated[int, Field(ge=1, le=8192)] = 128


def build(config: CnnConfig, signature: NetworkSignature, seed: int) -> ForwardGraph:
    """For each block: convolutions, each with ReLU, and halving by the maximum; then dense, ReLU and the answer.

    Raises:
        BadConfig: if the input isn't an image of at least 4x4.
    """
    image = require_image(signature, "cnn")
    network = Network(seed)
    x = image_features(network, image)
    for index, channels in enumerate(config.channels):
        for repeat in range(config.convolutions):
            name = f"block{index}.convolution{repeat}"
            x = network.relu(network.convolution(x, name, channels, config.kernel, init="uniform"))
        pool = pooling(network.graph.shape(x)[2:])
        if max(pool) > 1:
            x = network.graph.emit("MaxPool", x, kernel_shape=pool, strides=pool)
    x = network.relu(network.dense(network.flatten(x), "dense", config.hidden, init="uniform"))
    return network.answer(x, signature)


def pooling(sizes: tuple[int | str, ...]) -> list[int]:
    """How much to shrink each axis: by 2 where enough is left."""
    return [2 if isinstance(size, int) and size >= _SMALLEST_POOLED else 1 for size in sizes]


def default_config(signature: NetworkSignature, samples: int) -> CnnConfig:
    """As many blocks as the image's size asks for, at least two; small images can afford two convolutions in each."""
    sizes = list(signature.image.shape[1:]) if signature.image is not None else [MIN_IMAGE_SIDE, MIN_IMAGE_SIDE]
    convolutions = 2 if max(sizes) <= _SMALL_IMAGE else 1
    blocks = 0
    while blocks < len(_WIDTHS) and (blocks < 2 or max(sizes) > _LARGEST_LAST_MAP):
        sizes = [size // factor for size, factor in zip(sizes, pooling(tuple(sizes)), strict=True)]
        blocks += 1
    return CnnConfig(
        channels=_WIDTHS[:blocks], convolutions=convolutions, hidden=128 if samples < _MANY_SAMPLES else 256
    )
