"""Recipe `rnn`: LSTM or GRU, in one or two directions, over sequences and texts."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from shoal_core.frozen import Frozen
from shoal_core.graphs.forward import ForwardGraph
from shoal_core.graphs.recipes.inputs import joined, table_features
from shoal_core.graphs.recipes.network import Network
from shoal_core.graphs.recipes.steps import Pooling, all_steps, recurrent
from shoal_core.graphs.signature import NetworkSignature

_SMALL_SET = 2_000


class RnnConfig(Frozen):
    """Capacity of the network.

    Attributes:
        cell: LSTM or GRU.
        units: Of each direction.
        layers: How many follow each other.
        directions: From the first step to the last, or both ways.
        pooling: What is left of the steps: the last state of each direction, or the mean or maximum of all.
        width: Of a token's embedding.
        embedding_above: Columns with more categories than this get an embedding instead of one-hot.
    """

    cell: Literal["lstm", "gru"] = "gru"
    units: Annotated[int, Field(ge=1, le=2048)] = 64
    layers: Annotated[int, Field(ge=1, le=8)] = 1
    directions: Annotated[int, Field(ge=1, le=2)] = 1
    pooling: Pooling = "last"
    width: Annotated[int, Field(ge=1, le=1024)] = 64
    embedding_above: Annotated[int, Field(ge=1)] = 16


def build(config: RnnConfig, signature: NetworkSignature, seed: int) -> ForwardGraph:
    """Recurrent layers, what is left of their states, and the answer.

    Raises:
        BadConfig: if there is neither a text nor a sequence.
    """
    network = Network(seed)
    features = [
        recurrent(
            network,
            steps,
            config.cell,
            config.units,
            config.layers,
            both=config.directions == 2,
            pooling=config.pooling,
        )
        for steps in all_steps(network, signature, "rnn", config.width, config.embedding_above)
    ]
    features += table_features(network, signature, config.embedding_above)
    return network.answer(joined(network, features), signature)


def default_config(signature: NetworkSignature, samples: int) -> RnnConfig:
    """Texts are read both ways and pooled, since their end tells no more than their middle."""
    units = 32 if samples < _SMALL_SET else 64
    if signature.tokens is not None:
        return RnnConfig(units=units, directions=2, pooling="max", width=32 if samples < _SMALL_SET else 64)
    return RnnConfig(units=units)
