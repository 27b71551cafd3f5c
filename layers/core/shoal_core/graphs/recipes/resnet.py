"""Recipe `resnet`: residual blocks (He et al., 2016), small, for images of any size from 4x4."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from shoal_core.frozen import Frozen
from shoal_core.graphs.forward import ForwardGraph
from shoal_core.graphs.recipes.inputs import image_features, require_image
from shoal_core.graphs.recipes.network import Network
from shoal_core.graphs.signature import NetworkSignature

# A stage halves the feature map only while at least this is left of both axes afterwards.
_SMALLEST_HALVED = 4
_LARGE_IMAGE = 48
_MANY_SAMPLES = 50_000


class ResnetConfig(Frozen):
    """Capacity of the network.

    Attributes:
        channels: Of each stage; every stage but the first halves the feature map.
        blocks: Residual blocks in a stage, of two convolutions each.
        normalization: `batch` has running statistics; `group` knows no batch, which suits very small ones.
        groups: Groups of channels for `group`.
    """

    channels: Annotated[tuple[Annotated[int, Field(ge=1, le=2048)], ...], Field(min_length=1, max_length=6)] = (
        16,
        32,
        64,
    )
    blocks: Annotated[int, Field(ge=1, le=16)] = 1
    normalization: Literal["batch", "group"] = "batch"
    groups: Annotated[int, Field(ge=1, le=256)] = 8


def build(config: ResnetConfig, signature: NetworkSignature, seed: int) -> ForwardGraph:
    """A convolution; stages of residual blocks; the mean over the feature map; the answer.

    Raises:
        BadConfig: if the input isn't an image of at least 4x4.
    """
    image = require_image(signature, "resnet")
    network = Network(seed)
    x = image_features(network, image)
    x = network.relu(_convolved(network, config, x, "stem", config.channels[0], 3, 1))
    for stage, channels in enumerate(config.channels):
        for block in range(config.blocks):
            halves = stage > 0 and block == 0
            x = _block(network, config, x, f"stage{stage}.block{block}", channels, _stride(network, x) if halves else 1)
    return network.answer(network.flatten(network.graph.emit("GlobalAveragePool", x)), signature)


def default_config(signature: NetworkSignature, samples: int) -> ResnetConfig:
    """A fourth stage for large images, a second block for many samples."""
    large = signature.image is not None and max(signature.image.shape[1:]) > _LARGE_IMAGE
    return ResnetConfig(
        channels=(16, 32, 64, 128) if large else (16, 32, 64), blocks=2 if samples >= _MANY_SAMPLES else 1
    )


def _block(network: Network, config: ResnetConfig, x: str, name: str, channels: int, stride: int) -> str:
    """relu(f(x) + x), with x brought to f's shape by a convolution of 1x1 where they differ."""
    inner = network.relu(_convolved(network, config, x, f"{name}.first", channels, 3, stride))
    inner = _convolved(network, config, inner, f"{name}.second", channels, 3, 1)
    if network.graph.shape(inner) != network.graph.shape(x):
        x = _convolved(network, config, x, f"{name}.shortcut", channels, 1, stride)
    return network.relu(network.graph.emit("Add", inner, x))


def _convolved(
    network: Network, config: ResnetConfig, x: str, name: str, channels: int, kernel: int, stride: int
) -> str:
    x = network.convolution(x, name, channels, kernel, stride, bias=False)
    if config.normalization == "batch":
        return network.batch_normalization(x, f"{name}.norm")
    return network.group_normalization(x, f"{name}.norm", config.groups)


def _stride(network: Network, x: str) -> int:
    sizes = [size for size in network.graph.shape(x)[2:] if isinstance(size, int)]
    return 2 if min(sizes) >= 2 * _SMALLEST_HALVED else 1
