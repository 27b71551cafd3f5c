"""Recipe `text-cnn`: convolutions of several widths over a text, the maximum over time of each (Y. Kim, 2014)."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from shoal_core.frozen import Frozen
from shoal_core.graphs.forward import ForwardGraph
from shoal_core.graphs.recipes.inputs import joined, table_features
from shoal_core.graphs.recipes.network import Network
from shoal_core.graphs.recipes.steps import all_steps, convolved, pooled
from shoal_core.graphs.signature import NetworkSignature

_SMALL_SET = 2_000


class TextCnnConfig(Frozen):
    """Capacity of the network.

    Attributes:
        width: Of a token's embedding.
        kernels: Tokens that each of the parallel convolutions looks at.
        channels: Of each convolution.
        hidden: Units of each layer between the maxima and the answer.
        embedding_above: Columns with more categories than this get an embedding instead of one-hot.
    """

    width: Annotated[int, Field(ge=1, le=1024)] = 64
    kernels: Annotated[tuple[Annotated[int, Field(ge=1, le=31)], ...], Field(min_length=1, max_length=8)] = (3, 4, 5)
    channels: Annotated[int, Field(ge=1, le=2048)] = 64
    hidden: Annotated[tuple[Annotated[int, Field(ge=1, le=8192)], ...], Field(max_length=16)] = ()
    embedding_above: Annotated[int, Field(ge=1)] = 16


def build(config: TextCnnConfig, signature: NetworkSignature, seed: int) -> ForwardGraph:
    """Embeddings; parallel convolutions with ReLU; the maximum over time; hidden layers with ReLU; the answer.

    Raises:
        BadConfig: if there is neither a text nor a sequence.
    """
    network = Network(seed)
    features = []
    for steps in all_steps(network, signature, "text-cnn", config.width, config.embedding_above):
        for index, kernel in enumerate(config.kernels):
            name = f"{steps.name}.convolution{index}"
            features.append(pooled(network, convolved(network, steps, name, config.channels, kernel), "max"))
    x = joined(network, [*features, *table_features(network, signature, config.embedding_above)])
    for index, units in enumerate(config.hidden):
        x = network.relu(network.dense(x, f"dense{index}", units))
    return network.answer(x, signature)


def default_config(signature: NetworkSignature, samples: int) -> TextCnnConfig:
    """Fewer channels for a small set."""
    return TextCnnConfig(width=32, channels=32) if samples < _SMALL_SET else TextCnnConfig()
