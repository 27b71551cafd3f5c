"""Recipe `mlp`: layers of fully connected units, for tables and for small images."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from shoal_core.graphs.forward import ForwardGraph
from shoal_core.graphs.recipes.inputs import all_features
from shoal_core.graphs.recipes.network import Network
from shoal_core.graphs.signature import NetworkSignature

_SMALL_TABLE = 1_000
_LARGE_TABLE = 20_000


class MlpConfig(BaseModel):
    """Capacity of the network.

    Attributes:
        hidden: Units of each hidden layer; none makes a linear model.
        embedding_above: Columns with more categories than this get an embedding instead of one-hot.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    hidden: Annotated[tuple[Annotated[int, Field(ge=1, le=8192)], ...], Field(max_length=16)] = (128, 64)
    embedding_above: Annotated[int, Field(ge=1)] = 16


def build(config: MlpConfig, signature: NetworkSignature, seed: int) -> ForwardGraph:
    """Features, then for each hidden layer: dense, ReLU; then the answer."""
    network = Network(seed)
    x = all_features(network, signature, config.embedding_above)
    for index, units in enumerate(config.hidden):
        x = network.relu(network.dense(x, f"dense{index}", units))
    return network.answer(x, signature)


def default_config(signature: NetworkSignature, samples: int) -> MlpConfig:
    """More units for images and for more samples."""
    if signature.image is not None or samples > _LARGE_TABLE:
        return MlpConfig(hidden=(256, 128))
    return MlpConfig(hidden=(64, 32) if samples < _SMALL_TABLE else (128, 64))
