"""Recipe `mlp`: layers of fully connected units, for tables, small images, and any other data."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from shoal_core.frozen import Frozen
from shoal_core.graphs.forward import ForwardGraph
from shoal_core.graphs.recipes.inputs import all_features
from shoal_core.graphs.recipes.network import Network
from shoal_core.graphs.signature import NetworkSignature

_SMALL_TABLE = 1_000
_LARGE_TABLE = 20_000


class MlpConfig(Frozen):
    """Capacity of the network.

    Attributes:
        hidden: Units of each hidden layer; none makes a linear model.
        embedding_above: Columns with more categories than this get an embedding instead of one-hot.
        text_width: Width of a token's embedding; a text is the mean of its tokens'.
        layer_norm: Whether what goes into a hidden layer is standardised for each sample first, but for the features.
        residual: Whether a hidden layer as wide as its input is added to it (K. He et al., 2016).
    """

    hidden: Annotated[tuple[Annotated[int, Field(ge=1, le=8192)], ...], Field(max_length=16)] = (128, 64)
    embedding_above: Annotated[int, Field(ge=1)] = 16
    text_width: Annotated[int, Field(ge=1, le=1024)] = 64
    layer_norm: bool = False
    residual: bool = False


def build(config: MlpConfig, signature: NetworkSignature, seed: int) -> ForwardGraph:
    """Features, then for each hidden layer: dense, ReLU; then the answer."""
    network = Network(seed)
    x = all_features(network, signature, config.embedding_above, config.text_width)
    for index, units in enumerate(config.hidden):
        before = network.layer_normalization(x, f"norm{index}") if config.layer_norm and index else x
        after = network.relu(network.dense(before, f"dense{index}", units))
        same = config.residual and index and units == config.hidden[index - 1]
        x = network.graph.emit("Add", x, after) if same else after
    return network.answer(x, signature)


def default_config(signature: NetworkSignature, samples: int) -> MlpConfig:
    """More units for images and for more samples; those of large tables are standardised and added to what they get."""
    if signature.image is not None:
        return MlpConfig(hidden=(256, 128))
    if samples > _LARGE_TABLE:
        return MlpConfig(hidden=(256, 256), layer_norm=True, residual=True)
    return MlpConfig(hidden=(64, 32) if samples < _SMALL_TABLE else (128, 64))
