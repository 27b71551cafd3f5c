"""Recipe `vgg`: blocks of 3x3 convolutions with batch normalisation (Simonyan and Zisserman, 2015), small, for images
of any size from 4x4."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from shoal_core.frozen import Frozen
from shoal_core.graphs.forward import ForwardGraph
from shoal_core.graphs.recipes.inputs import image_features, require_image
from shoal_core.graphs.recipes.network import Network
from shoal_core.graphs.signature import NetworkSignature

_SMALLEST_POOLED = 4
# Blocks are added until the feature map is at most this large.
_LARGEST_LAST_MAP = 7
_WIDTHS = (16, 32, 64, 128, 128, 128, 128)


class VggConfig(Frozen):
    """Capacity of the network.

    Attributes:
        channels: Of each block; every block ends with halving the feature map by the maximum.
        convolutions: How many follow each other in a block.
        hidden: Units of the fully connected layer before the answer.
    """

    channels: Annotated[tuple[Annotated[int, Field(ge=1, le=2048)], ...], Field(min_length=1, max_length=8)] = (
        16,
        32,
        64,
    )
    convolutions: Annotated[int, Field(ge=1, le=8)] = 2
    hidden: Annotated[int, Field(ge=1, le=8192)] = 128


def build(config: VggConfig, signature: NetworkSignature, seed: int) -> ForwardGraph:
    """For each block: convolutions, each with batch normalisation and ReLU, and halving; then dense, ReLU, the answer.

    Raises:
        BadConfig: if the input isn't an image of at least 4x4.
    """
    image = require_image(signature, "vgg")
    network = Network(seed)
    x = image_features(network, image)
    for block, channels in enumerate(config.channels):
        for repeat in range(config.convolutions):
            name = f"block{block}.convolution{repeat}"
            x = network.convolution(x, name, channels, 3, bias=False)
            x = network.relu(network.batch_normalization(x, f"{name}.norm"))
        pool = [2 if isinstance(size, int) and size >= _SMALLEST_POOLED else 1 for size in network.graph.shape(x)[2:]]
        if max(pool) > 1:
            x = network.graph.emit("MaxPool", x, kernel_shape=pool, strides=pool)
    x = network.relu(network.dense(network.flatten(x), "dense", config.hidden))
    return network.answer(x, signature)


def default_config(signature: NetworkSignature, samples: int) -> VggConfig:
    """As many blocks as the image's size asks for, at least two."""
    side = max(signature.image.shape[1:]) if signature.image is not None else 0
    blocks = 2
    while blocks < len(_WIDTHS) and side >> blocks > _LARGEST_LAST_MAP:
        blocks += 1
    return VggConfig(channels=_WIDTHS[:blocks])
